"""What the intervals of the bank do on test subjects."""

from pathlib import Path

from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.inference import reconstruct
from adaptmr.reconstruction.bank.judgement import judge_scan
from adaptmr.reconstruction.calibration import intervals
from adaptmr.reconstruction.calibration.diagnostics import Diagnostics, JudgedSlice, diagnose
from adaptmr.reconstruction.networks import width
from adaptmr.sampling import bank as banks
from adaptmr.sampling import selector_files
from adaptmr.workflows.bank_training.course import Pairs
from adaptmr.workflows.benchmark.results import Coverage, Difference, SizeCoverage
from adaptmr.workflows.benchmark.summary import BOOTSTRAP_SEED
from adaptmr.workflows.benchmark.trial import Trial
from adaptmr.workflows.progress import track
from adaptmr.workflows.sampling import sampler_fingerprint

_RESULT = "coverage.json"


def coverage(trial: Trial, pairs: Pairs) -> tuple[Coverage | None, str | None]:
    """Coverage of the bank that `adaptmr train` makes of the pairs, or why there is none.

    Args:
        trial: the seed.
        pairs: those of the J of the training.
    """
    course = trial.course
    widths = course.config.width
    if widths is None or not course.data.calibration:
        return None, "the training has no network of widths, or no subjects to calibrate on"
    losses = course.losses("losses", course.data.judged, pairs)
    selector = course.selector(trial.sampler, pairs, losses)
    width_step = course.width(pairs, widths)
    calibration = course.calibration(trial.sampler, pairs, selector, width_step)

    def compute(result: Path, _: Path) -> None:
        bank = ReconstructionBank(
            banks.load(selector.folder / "masks"),
            course.load_networks(pairs),
            selector_files.load(selector.folder / "selector"),
            trial.drawer,
            sampler_fingerprint(trial.sampler.folder / "sampler"),
            course.config.uncertainty,
            width.load(width_step.folder / "width").to(course.device),
            intervals.load(calibration.folder / "calibration.json"),
            {},
        )
        judged, refused = _judged(trial, bank)
        text = refused or _summary(diagnose(judged, seed=BOOTSTRAP_SEED), course.config.alpha)
        (result / _RESULT).write_text(text if isinstance(text, str) else text.model_dump_json())

    needs = (trial.test.step, *pairs.steps, selector, width_step, calibration)
    step = course.steps.done("coverage", 1, None, needs, compute)
    text = (step.folder / _RESULT).read_text()
    return (Coverage.model_validate_json(text), None) if text.startswith("{") else (None, text)


def _judged(trial: Trial, bank: ReconstructionBank) -> tuple[list[JudgedSlice], str | None]:
    """The test slices, and why there are no intervals where there are none."""
    found: list[JudgedSlice] = []
    refused = None
    for scan in track(trial.test.scans, "judging intervals"):
        result = reconstruct(bank, scan, device=trial.course.device)
        refused = result.why_no_interval or refused
        found += judge_scan(bank, scan, result)
    subjects = len({one.subject for one in found})
    return found, (refused or "too few test subjects have intervals") if subjects < 2 else None


def _summary(found: Diagnostics, alpha: float) -> Coverage:
    correlation = found.rank_correlation
    return Coverage(
        nominal=1 - alpha,
        subjects=found.subjects,
        slices=found.slices,
        coverage=Difference.of(found.coverage),
        width=Difference.of(found.width),
        rank_correlation=None if correlation is None else Difference.of(correlation),
        worst_size=found.worst_size,
        sizes=tuple(
            SizeCoverage(low=size.low, high=size.high, coverage=size.coverage)
            for size in found.sizes
        ),
        rings=found.rings,
    )
