"""Samplers as folders: ``sampler.json``, ``weights.safetensors``, ``manifest.json``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from adaptmr.data.artefact import load_weights, read_artefact, write_artefact
from adaptmr.sampling.ensemble import EnsembleConfig, EnsembleSampler
from adaptmr.sampling.flow.config import FlowConfig
from adaptmr.sampling.flow.flow import SuperResolutionFlow
from adaptmr.sampling.mixture import MixtureConfig, MixtureSampler

# A further kind of sampler is one more class and configuration here, the configuration with a
# `kind` that tells them apart, and one more case in `build`.
Sampler = SuperResolutionFlow | EnsembleSampler | MixtureSampler
SamplerConfig = Annotated[FlowConfig | EnsembleConfig | MixtureConfig, Field(discriminator="kind")]

SCHEMA: Final = 1
_NAME: Final = "sampler"


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    config: SamplerConfig
    matrix: tuple[int, int]
    block: tuple[int, int]
    provenance: dict[str, JsonValue]


def build(
    config: SamplerConfig, matrix: tuple[int, int], block: tuple[int, int], seed: int
) -> Sampler:
    """A sampler with first weights drawn from ``seed``.

    Args:
        config: its architecture.
        matrix: (rows, columns) of the images.
        block: (rows, columns) acquired about the centre.
        seed: seed of the first weights.
    """
    if isinstance(config, FlowConfig):
        return SuperResolutionFlow(config, matrix, block, seed)
    if isinstance(config, EnsembleConfig):
        return EnsembleSampler(config, matrix, block, seed)
    return MixtureSampler(config, matrix, block)


def save(
    sampler: Sampler, folder: Path, provenance: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write a sampler so that `load` gives it back bit by bit.

    Args:
        sampler: the sampler.
        folder: name of the folder; it appears complete or not at all.
        provenance: how the sampler came to be: configuration, data, versions, training curve.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the folder exists or cannot be written.
    """
    description = _Description(
        config=sampler.config,
        matrix=sampler.matrix,
        block=sampler.block,
        provenance=dict(provenance),
    )
    write_artefact(folder, _NAME, description, sampler, overwrite=overwrite)


def load(folder: Path) -> Sampler:
    """Read a sampler that `save` wrote, on the CPU and in evaluation mode.

    Raises:
        BadInputError: the folder is missing, incomplete, altered, or of a newer version.
    """
    description = _read(folder)
    sampler = build(description.config, description.matrix, description.block, seed=0)
    load_weights(sampler, folder)
    return sampler.eval()


def provenance(folder: Path) -> dict[str, Any]:
    """How the sampler in ``folder`` came to be, as given to `save`.

    Raises:
        BadInputError: as `load`.
    """
    return _read(folder).provenance


def _read(folder: Path) -> _Description:
    return read_artefact(folder, _NAME, _Description, "a sampler")
