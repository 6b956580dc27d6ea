"""From a scan to decisions: right where the answer is known, blind to the rest, never silent."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sampling_reference import Gaussian, Given, kspace

from adaptmr.data.doors import open_scan
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling import bank as banks
from adaptmr.sampling.bank import BankConfig, MaskBank
from adaptmr.sampling.flow import config as flow
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.informed import DrawRule
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.protocol_prior import ProtocolPrior
from adaptmr.sampling.selection import (
    PRESETS,
    Adaptation,
    UncertaintyConfig,
    decide,
    measure,
    measure_training,
    select,
    with_uncertainty,
)
from adaptmr.sampling.selector import (
    Captured,
    Evidence,
    FixedBest,
    NearestCentroid,
    Oracle,
    Selector,
    Similarity,
    Uniform,
)
from adaptmr.sampling.selectors import selector
from adaptmr.sampling.uncertainty import uncertainty

MATRIX = (20, 18)


ADAPTIVE: list[Selector] = [*map(NearestCentroid, Similarity), Captured()]


def small_bank(lines: bool = False, masks: int = 3, coils: tuple[int, ...] = ()) -> MaskBank:
    block: tuple[int, ...] = (4,) if lines else (5, 4)
    area = (MATRIX[0], 4) if lines else (5, 4)
    low = acquire(kspace(MATRIX, 20, seed=8), area)
    found = measure_training(Following(), low, UncertaintyConfig())
    frame = Frame.of(MATRIX, block, 3)
    return banks.build(found, frame, BankConfig(masks=masks), coils=coils)[0]


class Following:
    """Stripes of unknown phase along rows, columns or the diagonal: the brightest pixel decides."""

    def sample(self, low_frequency: LowFrequency, n: int, generator: torch.Generator):
        rows, columns = (torch.arange(size) / size for size in low_frequency.matrix)
        along = torch.stack(
            torch.broadcast_tensors(7 * rows[:, None], 7 * columns, 5 * (rows[:, None] + columns))
        )
        kind = low_frequency.image.flatten(1).argmax(1) % 3
        phase = torch.rand(n, low_frequency.batch, 1, 1, generator=generator)
        noise = torch.randn(n, *low_frequency.image.shape, generator=generator)
        stripes = torch.cos(2 * torch.pi * (along[kind] + phase))
        return low_frequency.image + 0.2 * stripes + 0.05 * noise


def scan(measured: torch.Tensor, **rest) -> Scan:
    fields = {
        "name": "scan.h5",
        "kspace": Stack.of(measured),
        "acquired": torch.ones(measured.shape[-1], dtype=torch.bool),
        "padding": (0, measured.shape[-1]),
        "header": Header(acquisition="AXT2"),
    }
    return Scan(**(fields | rest))


ALL: list[Selector] = [*ADAPTIVE, FixedBest(), Uniform()]


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.name)
@pytest.mark.parametrize("lines", [False, True])
def test_nothing_outside_the_block_reaches_a_choice(rule: Selector, lines: bool) -> None:
    made = small_bank(lines)
    measured = kspace(MATRIX, 6, coils=3)
    changed = kspace(MATRIX, 6, coils=3, seed=9) * 1e5
    region = acquire(measured, made.block).region
    changed[(..., *region)] = measured[(..., *region)]
    for coils in (False, True):
        adaptation = Adaptation(made, rule, Following(), "sampler", UncertaintyConfig(coils=coils))
        first, second = select(scan(measured), adaptation), select(scan(changed), adaptation)
        assert [d.choice for d in first] == [d.choice for d in second]
        poisoned = torch.full_like(measured, torch.nan)
        poisoned[(..., *region)] = measured[(..., *region)]
        third = select(scan(poisoned), adaptation)
        assert [d.choice for d in first] == [d.choice for d in third]


def test_nor_an_uncertainty() -> None:
    measured = kspace(MATRIX, 3, coils=2)
    low = acquire(measured, (5, 4))
    changed = measured + 1e3 * kspace(MATRIX, 3, coils=2, seed=4)
    changed[(..., *low.region)] = measured[(..., *low.region)]
    for coils in (False, True):
        config = UncertaintyConfig(coils=coils)
        one = measure(Following(), low, config)
        other = measure(Following(), acquire(changed, (5, 4)), config)
        assert torch.equal(one.values, other.values)


def test_record() -> None:
    made = small_bank()
    given = scan(kspace(MATRIX, 4, coils=2))
    before = torch.random.get_rng_state()
    found = select(given, Adaptation(made, NearestCentroid(), Following(), "print"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert [d.slice_index for d in found] == [0, 1, 2, 3]
    for decision, inputs in zip(
        found, acquire(given.kspace[0:4], made.block).fingerprints, strict=True
    ):
        assert decision.distances is not None
        assert decision.index == int(np.argmin(decision.distances))
        assert decision.scores == tuple(-distance for distance in decision.distances)
        assert decision.mask == made.masks[decision.index].fingerprint
        assert decision.bank == made.fingerprint
        assert decision.inputs == inputs
        assert decision.sampler == "print"
        assert (decision.samples, decision.rejected) == (10, 0)
        assert not decision.fallback
        assert decision.latency_ms > 0
        assert decision.others["nearest centroid (euclidean)"] == decision.index
        assert set(decision.others) == {rule.name for rule in ADAPTIVE}
    again = select(given, Adaptation(made, NearestCentroid(), Following(), "print"))
    assert [d.choice for d in again] == [d.choice for d in found]


def test_a_slice_is_judged_alone() -> None:
    made = small_bank()
    measured = kspace(MATRIX, 5, coils=2)
    adaptation = Adaptation(made, Captured(), Following())
    together = select(scan(measured), adaptation)
    for index in range(5):
        alone = select(scan(measured[index : index + 1]), adaptation)[0]
        same = together[index].choice | {"slice_index": 0}
        assert alone.choice == same


def test_scatter_averages_out_in_training_and_decisions_are_alone() -> None:
    # With a Gaussian posterior every slice has the same uncertainty; ten samples scatter about it.
    pixels = MATRIX[0] * MATRIX[1]
    factor = torch.randn(pixels, 6, generator=torch.Generator().manual_seed(1)) / 10
    low = acquire(kspace(MATRIX, 60), (5, 4))
    config = UncertaintyConfig(samples=10)
    truth = measure(Gaussian(factor), low[:1], UncertaintyConfig(samples=4000)).values[0]
    training = measure_training(Gaussian(factor), low, config).values
    deciding = measure(Gaussian(factor), low, config).values
    assert torch.allclose(deciding, deciding[:1], atol=1e-4)
    assert not torch.allclose(training, training[:1], atol=1e-2)
    assert (training.mean(0) - truth).norm() < 0.5 * (deciding.mean(0) - truth).norm()


def test_gaussian_control_shows_no_adaptivity() -> None:
    pixels = MATRIX[0] * MATRIX[1]
    factor = torch.randn(pixels, 6, generator=torch.Generator().manual_seed(1)) / 10
    adaptation = Adaptation(small_bank(), NearestCentroid(), Gaussian(factor))
    assert len({d.index for d in select(scan(kspace(MATRIX, 30)), adaptation)}) == 1


def test_masks_and_choices_move_together() -> None:
    made = small_bank()
    given = scan(kspace(MATRIX, 6))
    order = (2, 0, 1)
    plain = select(given, Adaptation(made, NearestCentroid(), Following()))
    turned = select(given, Adaptation(made.permuted(order), NearestCentroid(), Following()))
    assert [d.mask for d in plain] == [d.mask for d in turned]
    assert len({d.mask for d in plain}) > 1
    assert [order[d.index] for d in turned] == [d.index for d in plain]


def test_a_prospective_scan_holds_only_the_block() -> None:
    made = small_bank(lines=True)
    measured = kspace(MATRIX, 3)
    whole = select(scan(measured), Adaptation(made, NearestCentroid(), Following()))
    block = made.masks[0].low_frequency_only()
    acquired = torch.from_numpy(block.positions.copy())
    part = scan(block.apply(measured), acquired=acquired)
    found = select(part, Adaptation(made, NearestCentroid(), Following()))
    assert [d.choice for d in found] == [d.choice for d in whole]


def test_slices_that_cannot_be_judged_fall_back_and_say_so() -> None:
    made = replace(small_bank(), best=2)
    measured = kspace(MATRIX, 4)
    measured[1] = 0
    low = acquire(measured, made.block)
    drawn = low.image + torch.rand(10, 4, *MATRIX, generator=torch.Generator().manual_seed(0))
    drawn[:, 2] = drawn[:1, 2]
    drawn[:, 3, 5, 5] = torch.nan
    for rule in ADAPTIVE:
        adaptation = Adaptation(made, rule)
        found = uncertainty(Given(drawn), low, 10, torch.Generator())
        decisions = decide(Evidence(low, found), adaptation)
        assert [d.fallback for d in decisions] == [False, True, True, True]
        assert [d.index for d in decisions[1:]] == [2, 2, 2]
        assert decisions[0].reason is None
        assert "no signal" in str(decisions[1].reason)
        assert "variance is zero" in str(decisions[2].reason)
        assert "0 usable samples, 40 rejected" in str(decisions[3].reason)
        for decision in decisions[1:]:
            assert decision.scores == (None, None, None)
            assert decision.distances is None
            assert type(decision).model_validate_json(decision.model_dump_json()) == decision


def test_another_coil_count_falls_back_and_says_so() -> None:
    made = small_bank(coils=(2, 4))
    adaptation = Adaptation(made, NearestCentroid(), Following())
    for coils, foreign in [(2, False), (3, True), (4, False)]:
        decision = select(scan(kspace(MATRIX, 1, coils)), adaptation)[0]
        assert decision.fallback is foreign
        if foreign:
            assert decision.index == made.best
            assert decision.reason == "3 coils; the bank was made from scans of 2, 4"
            assert decision.distances is not None
    # What looks at no coil data does not care.
    control = select(scan(kspace(MATRIX, 1, 3)), Adaptation(made, Uniform()))
    assert not control[0].fallback


def test_a_protocol_nobody_saw_falls_back() -> None:
    made = small_bank()
    losses = torch.tensor([[1.0, 0.0, 2.0]] * 2)
    prior = ProtocolPrior.fit(
        [Header(acquisition="AXT2")] * 2, torch.tensor([0.0, 0.1]), losses, parts=2
    )
    known = select(scan(kspace(MATRIX, 1)), Adaptation(made, prior))[0]
    assert (known.index, known.fallback) == (1, False)
    assert known.samples is None
    other = select(scan(kspace(MATRIX, 1), header=Header()), Adaptation(made, prior))[0]
    assert (other.index, other.fallback) == (made.best, True)
    assert other.reason == "the selector has no score for this slice"


def test_scans_that_do_not_fit_are_refused() -> None:
    made = small_bank()
    adaptation = Adaptation(made, NearestCentroid(), Following())
    with pytest.raises(BadInputError, match=r"scan is of another matrix.*got \(20, 19\)"):
        select(scan(kspace((20, 19))), adaptation)
    acquired = torch.ones(18, dtype=torch.bool)
    acquired[9] = False
    with pytest.raises(BadInputError, match=r"does not hold.*15 of 20 positions"):
        select(scan(kspace(MATRIX), acquired=acquired), adaptation)
    with pytest.raises(BadInputError, match="zero padding in the scan"):
        select(scan(kspace(MATRIX), padding=(2, 18)), adaptation)
    broken = kspace(MATRIX)
    broken[0, 0, 10, 9] = torch.inf
    with pytest.raises(BadInputError, match="not finite"):
        select(scan(broken), adaptation)


def test_lines_are_not_points() -> None:
    lines, points = small_bank(lines=True), small_bank()
    for made, block in ((lines, points.block), (points, lines.block)):
        kind = "lines" if made is lines else "points"
        low = acquire(kspace(MATRIX), block)
        adaptation = Adaptation(made, NearestCentroid(), Following())
        with pytest.raises(BadInputError, match=f"do not fit the bank of {kind}"):
            decide(with_uncertainty(Evidence(low), adaptation), adaptation)
        with pytest.raises(BadInputError, match=f"do not fit the bank of {kind}"):
            decide(Evidence(low), Adaptation(made, FixedBest()))


def test_what_is_missing_is_told() -> None:
    made = small_bank()
    with pytest.raises(UsageError, match="needs a sampler"):
        select(scan(kspace(MATRIX)), Adaptation(made, Captured()))
    with pytest.raises(UsageError, match="oracle needs the loss"):
        select(scan(kspace(MATRIX)), Adaptation(made, Oracle()))
    losses = torch.tensor([[3.0, 1, 2], [1, 2, 3]])
    found = select(scan(kspace(MATRIX, 2)), Adaptation(made, Oracle()), losses)
    assert [d.index for d in found] == [1, 0]

    class Short:
        name, needs_uncertainty = "short", False

        def scores(self, _evidence: Evidence, _bank: MaskBank) -> torch.Tensor:
            return torch.zeros(1, 2)

    with pytest.raises(BadInputError, match="no score per slice and mask"):
        select(scan(kspace(MATRIX)), Adaptation(made, Short()))


def test_published_preset() -> None:
    preset = PRESETS["hong2024"]
    assert (preset.uncertainty.samples, preset.sampler.temperature) == (10, 0.9)
    assert preset.sampler == flow.HONG2024
    assert (preset.bank.masks, preset.bank.seed, preset.bank.restarts) == (3, 1, 10)
    assert preset.bank.rule == DrawRule(seed=42, power=1, sort_fraction=0, law="weighted")
    assert selector(preset.selector) == NearestCentroid(Similarity.EUCLIDEAN)


def test_real_scan(shared_data: Path) -> None:
    given = open_scan(shared_data / "kspace" / "brain_8ch.h5")
    low = acquire(given.kspace[0:1], (24, 24))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(12, 10, *given.matrix, generator=generator)
    slices = LowFrequency(
        *(x.expand(12, *x.shape[1:]) for x in (low.image, low.scale)),
        (24, 24),
        low.kspace.expand(12, *low.kspace.shape[1:]),
    )
    found = uncertainty(Given(noise.transpose(0, 1)), slices, 10, generator)
    made, _ = banks.build(found, Frame.of(given.matrix, (24, 24), 8), BankConfig(masks=2))
    adaptation = Adaptation(made, NearestCentroid(), Given(noise[:1].transpose(0, 1)))
    decision = select(given, adaptation)[0]
    assert not decision.fallback
    mask = made.masks[decision.index]
    assert mask.fits(given.matrix)
    assert mask.budget == round(given.matrix[0] * given.matrix[1] / 8)
