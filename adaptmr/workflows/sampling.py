"""Samplers from files to files: train one, measure with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file

from adaptmr.data.doors import open_scan
from adaptmr.data.files import complete_folder, require_absent
from adaptmr.data.manifest import MANIFEST, sha256
from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.training.cohort import Cohort, open_cohort
from adaptmr.reconstruction.training.run import run_folder
from adaptmr.sampling import persistence
from adaptmr.sampling.decision import versions
from adaptmr.sampling.flow.flow import SuperResolutionFlow
from adaptmr.sampling.frame import Positions
from adaptmr.sampling.generators import MaskKind, MaskSpec
from adaptmr.sampling.low_frequency import LowFrequency, acquire_scan, block_of
from adaptmr.sampling.mixture import MixtureConfig, MixtureSampler
from adaptmr.sampling.pairs import Pairs, training_pairs
from adaptmr.sampling.persistence import Sampler, SamplerConfig
from adaptmr.sampling.posterior import check_made_for
from adaptmr.sampling.selection import UncertaintyConfig, measure
from adaptmr.sampling.training import SamplerTraining, fit, generator_for
from adaptmr.workflows.progress import track
from adaptmr.workflows.sampling_pictures import uncertainty_picture

# Sets the random streams of one training seed apart.
_FIT, _CALIBRATION = range(2)


class SamplerSettings(BaseModel):
    """A sampler and its training, whatever on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    positions: Positions = Positions.LINES
    """What the masks are made of, which says what the low-frequency block is made of."""
    acceleration: float = Field(default=4.0, ge=1, allow_inf_nan=False)
    """Of the masks; the low-frequency block depends on it unless ``center_fraction`` is given."""
    center_fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of each position axis that the low-frequency block takes."""
    sampler: SamplerConfig = MixtureConfig()
    """Which sampler, and how large."""
    training: SamplerTraining = SamplerTraining()
    """How it is trained; of a mixture only the seed is used."""

    def block(self, matrix: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the low-frequency block of a matrix."""
        kind = MaskKind.RANDOM if self.positions is Positions.LINES else MaskKind.RANDOM_2D
        spec = MaskSpec(
            kind=kind, acceleration=self.acceleration, center_fraction=self.center_fraction
        )
        return block_of(spec.low_frequency(matrix), matrix)


class TrainSamplerConfig(SamplerSettings):
    """One training of a sampler; read from YAML by the command line."""

    data: Path
    """Folder of fully sampled fastMRI HDF5 files."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the subjects that is kept out: the epoch that does best on them is kept, and the
    spectrum of a flow's samples is calibrated on them."""


class MeasuredSlice(BaseModel):
    """The uncertainty of one slice, in numbers."""

    model_config = ConfigDict(frozen=True)

    slice_index: int
    known: bool
    """Whether there is an uncertainty: False where samples are equal or there is no signal."""
    usable: int
    """Samples that it was taken over."""
    rejected: int
    """Samples that were not finite or not plausible."""
    picture: Path


class Measurement(BaseModel):
    """The uncertainty of one scan."""

    model_config = ConfigDict(frozen=True)

    scan: str
    sampler: str
    """Fingerprint of the sampler."""
    slices: tuple[MeasuredSlice, ...]
    values: Path
    """Safetensors: ``uncertainty`` (slices, readout, phase) and ``known`` (slices,)."""


def train_sampler(
    config: TrainSamplerConfig, out: Path, *, overwrite: bool = False, resume: bool = True
) -> Path:
    """Train a sampler on a folder of scans.

    While it runs, the folder ``<out>.run`` beside ``out`` holds the state after each epoch, as in
    the training of a network; a mixture is fitted at once and has none.

    Args:
        config: what to train on what.
        out: folder for the sampler; appears complete at the end.
        overwrite: whether an existing ``out`` may be replaced.
        resume: whether to continue a run that was stopped; otherwise it is thrown away.

    Returns:
        ``out``.

    Raises:
        BadInputError: the data cannot be trained on, ``out`` exists, or the loss became NaN.
        UsageError: the stopped run had another configuration or other data.
    """
    require_absent(out, overwrite=overwrite)
    cohort = open_cohort(config.data, config.validation_fraction, config.training.seed)
    return train_sampler_on(
        cohort, config, out, run_folder(out), overwrite=overwrite, resume=resume
    )


def train_sampler_on(
    cohort: Cohort,
    config: SamplerSettings,
    out: Path,
    run: Path,
    *,
    overwrite: bool = False,
    resume: bool = True,
) -> Path:
    """Train a sampler on scans that are open already.

    Args:
        cohort: the scans.
        config: which sampler, and how it is trained.
        out: folder for the sampler.
        run: folder of the training while it runs.
        overwrite: as of `train_sampler`.
        resume: as of `train_sampler`.

    Returns:
        ``out``.

    Raises:
        BadInputError: as `train_sampler`.
        UsageError: as `train_sampler`.
    """
    pairs = training_pairs(track(cohort.training, "reading"), config.block)
    kept_out = training_pairs(cohort.validation, config.block) if cohort.validation else None
    sampler = persistence.build(config.sampler, pairs.matrix, pairs.block, config.training.seed)
    if kept_out is not None:
        check_made_for(sampler, kept_out)
    trained = _trained(sampler, pairs, kept_out, config, run, resume)
    provenance = {
        "config": config.model_dump(mode="json"),
        "data": {**cohort.description, "pairs": len(pairs)},
        "versions": versions(),
        **trained,
    }
    persistence.save(sampler, out, provenance, overwrite=overwrite)
    return out


def _trained(
    sampler: Sampler,
    pairs: Pairs,
    kept_out: Pairs | None,
    config: SamplerSettings,
    run: Path,
    resume: bool,
) -> Mapping[str, Any]:
    """Train in place; what became of it, for the provenance."""
    seed = config.training.seed
    if isinstance(sampler, MixtureSampler):
        sampler.prepare(pairs, generator_for(seed, _FIT))
        return {}
    record = fit(sampler, pairs, kept_out, config.training, run, resume=resume)
    calibrated = False
    if isinstance(sampler, SuperResolutionFlow) and sampler.standardising and kept_out is not None:
        sampler.calibrate(kept_out, generator_for(seed, _CALIBRATION))
        calibrated = True
    return {**record.model_dump(mode="json"), "calibrated": calibrated}


def measure_file(
    source: Path,
    sampler: Path,
    out: Path,
    config: UncertaintyConfig,
    *,
    overwrite: bool = False,
) -> Measurement:
    """Measure the uncertainty of all slices of a scan, and draw it.

    Args:
        source: the scan; it may hold no more than the low-frequency block.
        sampler: folder of the sampler.
        out: folder to write: a picture of each slice, and the values as safetensors.
        config: how the uncertainty is found.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the scan or the sampler cannot be read, or they do not fit each other.
    """
    drawer = persistence.load(sampler)
    scan = open_scan(source)
    low_frequency = low_frequency_of(scan, drawer)
    found = measure(drawer, low_frequency, config)
    slices = []
    with complete_folder(out, overwrite=overwrite) as partial:
        for index in track(range(scan.slices), "drawing"):
            one = slice(index, index + 1)
            generator = torch.Generator().manual_seed(config.seed)
            samples = drawer.sample(low_frequency[one], config.samples, generator)[:, 0]
            name = f"slice-{index:03d}.png"
            picture = uncertainty_picture(
                low_frequency.image[index], samples[:3], found.values[index]
            )
            (partial / name).write_bytes(picture)
            slices.append(
                MeasuredSlice(
                    slice_index=index,
                    known=bool(found.known[index]),
                    usable=int(found.usable[index]),
                    rejected=int(found.rejected[index]),
                    picture=out / name,
                )
            )
        values = {"uncertainty": found.values.float().contiguous(), "known": found.known}
        save_file(values, partial / "uncertainty.safetensors")
    return Measurement(
        scan=scan.name,
        sampler=sampler_fingerprint(sampler),
        slices=tuple(slices),
        values=out / "uncertainty.safetensors",
    )


def sampler_fingerprint(folder: Path) -> str:
    """Identity of a sampler: sha256 of its manifest, which lists the sha256 of its files."""
    return sha256(folder / MANIFEST)


def low_frequency_of(scan: Scan, sampler: Sampler) -> LowFrequency:
    """The sampler's block of a scan.

    Raises:
        BadInputError: the scan is of another matrix, or does not hold the block.
    """
    if scan.matrix != sampler.matrix:
        raise BadInputError(
            "the scan is of another matrix than the sampler",
            file=scan.name,
            field="kspace",
            got=scan.matrix,
            expected=tuple(sampler.matrix),
            hint="Train a sampler for this matrix, or crop the scan",
        )
    return acquire_scan(scan, sampler.block)
