"""Degradations of training batches: what each does, and that no validation suffers them."""

import itertools
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.unet import UNetConfig
from adaptmr.reconstruction.training.cohort import open_scans
from adaptmr.reconstruction.training.config import TrainConfig
from adaptmr.reconstruction.training.data import Batches, training_plans, training_slices
from adaptmr.reconstruction.training.degradations import Degradations
from adaptmr.reconstruction.training.run import train
from adaptmr.sampling.generators import MaskKind, MaskSpec

MASKS = (MaskSpec(kind=MaskKind.RANDOM, acceleration=2, center_fraction=0.2),)


def kspace_of(seed: int, coils: int = 4, rows: int = 13, columns: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, coils, rows, columns, dtype=torch.complex64, generator=generator)


@given(seed=st.integers(0, 300), coils=st.integers(1, 6), columns=st.integers(4, 25))
@settings(max_examples=50, deadline=None)
def test_whatever_happens_can_be_reconstructed_and_happens_again(
    seed: int, coils: int, columns: int
) -> None:
    kspace = kspace_of(seed, coils, columns=columns)
    before = kspace.clone()
    one, again = (Degradations().degrade(kspace, np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(kspace, before)
    assert torch.equal(one, again)
    assert one.shape[0::2] == kspace.shape[0::2]
    assert max(1, round(0.5 * coils)) <= one.shape[1] <= coils
    assert one.dtype == kspace.dtype
    assert bool(torch.isfinite(one.abs()).all())


def test_number_and_order_vary() -> None:
    class Told(Degradations):
        def _noise(self, kspace: Tensor, _generator: np.random.Generator) -> Tensor:
            return kspace + 1

        def _coils(self, kspace: Tensor, _generator: np.random.Generator) -> Tensor:
            return kspace * 2

        def _motion(self, kspace: Tensor, _generator: np.random.Generator) -> Tensor:
            return kspace * kspace

    def ends(most: int) -> set[float]:
        told, start = Told(most=most), torch.tensor(3.0)
        return {float(told.degrade(start, np.random.default_rng(seed))) for seed in range(400)}

    def every(counts: range) -> set[float]:
        steps = (lambda x: x + 1, lambda x: 2 * x, lambda x: x * x)
        chains = [chain for count in counts for chain in itertools.permutations(steps, count)]
        return {reduce(lambda value, step: step(value), chain, 3.0) for chain in chains}

    assert ends(3) == every(range(4))
    assert ends(1) == every(range(2))


def test_noise_is_of_the_level_asked_for() -> None:
    kspace = 10 * kspace_of(0, columns=200, rows=100)
    levels = []
    for seed in range(20):
        noisy = Degradations(noise=0.5)._noise(kspace, np.random.default_rng(seed))
        added = noisy - kspace
        levels.append(
            float(added.abs().square().mean().sqrt() / kspace.abs().square().mean().sqrt())
        )
    assert max(levels) < 0.51
    assert np.mean(levels) == pytest.approx(0.25, abs=0.08)


def test_fewer_coils_hold_most_of_the_signal() -> None:
    """Coils that see one thing alike are one virtual coil, and the images stay what they were."""
    image = kspace_of(1, coils=1)
    weights = torch.tensor([1.0, 0.5j, -2.0, 0.3])[:, None, None]
    kspace = image * weights
    for seed in range(10):
        fewer = Degradations(coils=0.25)._coils(kspace, np.random.default_rng(seed))
        torch.testing.assert_close(
            torch.linalg.vector_norm(inverse_fourier(fewer), dim=1),
            torch.linalg.vector_norm(inverse_fourier(kspace), dim=1),
            rtol=1e-3,
            atol=1e-3,
        )


def test_motion_moves_the_subject_while_one_side_is_acquired() -> None:
    """By whole pixels it is a roll of the image, on the lines of one side; the centre stays."""
    kspace = kspace_of(2, rows=12, columns=24)
    moved_once = False
    for seed in range(20):
        moved = Degradations(motion=1.5)._motion(kspace, np.random.default_rng(seed))
        changed = (moved != kspace).any(0).any(0).any(0)
        lines = torch.nonzero(changed).flatten() - 12
        assert len(lines)
        assert bool((lines > 0).all()) or bool((lines < 0).all())
        assert int(lines.abs().min()) >= 4
        torch.testing.assert_close(moved.abs(), kspace.abs())
        moved_once = True
    assert moved_once

    class Whole(np.random.Generator):
        def uniform(self, *_: object) -> np.ndarray:  # type: ignore[override]
            return np.array([2.0, -1.0])

    moved = Degradations()._motion(kspace, Whole(np.random.PCG64(0)))
    rolled = fourier(torch.roll(inverse_fourier(kspace), (2, -1), (-2, -1)))
    changed = (moved != kspace).any(0).any(0).any(0)
    torch.testing.assert_close(moved[..., changed], rolled[..., changed], rtol=1e-3, atol=1e-3)


def test_batches_suffer_and_targets_do_not(scans_folder: Path) -> None:
    plans = training_plans(training_slices(open_scans(scans_folder), None, 0), MASKS, 2, 0, 0)
    plain, degraded = Batches(plans), Batches(plans, Degradations())
    changed = 0
    for index in range(len(plans)):
        one, other = plain[index], degraded[index]
        assert torch.equal(one.target, other.target)
        assert one.mask == other.mask
        assert torch.equal(other.kspace, degraded[index].kspace)
        changed += one.kspace.shape != other.kspace.shape or not torch.equal(
            one.kspace, other.kspace
        )
    assert changed > 0


def test_a_training_with_degradations(scans_folder: Path, tmp_path: Path) -> None:
    def go(name: str, degradations: Degradations | None, epochs: int = 2) -> Path:
        config = TrainConfig(
            data=scans_folder,
            architecture=UNetConfig(channels=4, pools=2),
            masks=MASKS,
            epochs=epochs,
            batch_size=2,
            validation_fraction=0.3,
            degradations=degradations,
            accelerator="cpu",
        )
        return train(config, tmp_path / name, overwrite=True)

    def weights(folder: Path) -> Tensor:
        return torch.cat(
            [value.flatten() for value in checkpoint.load(folder).state_dict().values()]
        )

    through = weights(go("through", Degradations()))
    go("stopped", Degradations(), epochs=1)
    assert torch.equal(weights(go("stopped", Degradations())), through)
    assert not torch.equal(weights(go("plain", None)), through)
    described = checkpoint.provenance(tmp_path / "through")["config"]["degradations"]
    assert described == Degradations().model_dump()
