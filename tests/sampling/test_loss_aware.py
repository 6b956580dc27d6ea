"""Features of slices, and the selector that learns losses from them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sampling_reference import known, kspace
from sklearn.linear_model import Ridge

from adaptmr.data.manifest import write_manifest
from adaptmr.errors import BadInputError
from adaptmr.sampling import bank as banks
from adaptmr.sampling import loss_aware
from adaptmr.sampling.bank import BankConfig, MaskBank
from adaptmr.sampling.features import RINGS, SECTORS, features
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.low_frequency import acquire
from adaptmr.sampling.selection import Adaptation, decide
from adaptmr.sampling.selector import Evidence, NearestCentroid

MATRIX, BLOCK = (24, 22), (5, 4)


def evidence(
    slices: int, seed: int = 0, matrix: tuple[int, int] = MATRIX
) -> tuple[Evidence, torch.Tensor]:
    """Slices whose uncertainty lies more or less along the columns' axis, and how much."""
    generator = torch.Generator().manual_seed(seed)
    tilt = torch.rand(slices, generator=generator)
    rows, columns = (torch.linspace(-1, 1, size) for size in matrix)
    wide = (-(rows[:, None] ** 2) * 8 - columns**2).exp()
    tall = (-(rows[:, None] ** 2) - columns**2 * 8).exp()
    values = tilt[:, None, None] * wide + (1 - tilt[:, None, None]) * tall
    noise = 1 + 0.2 * torch.rand(values.shape, generator=generator)
    found = known(values * noise, BLOCK)
    return Evidence(acquire(kspace(matrix, slices, seed=seed), BLOCK), found), tilt


def bank() -> MaskBank:
    given, _ = evidence(40, 9)
    assert given.uncertainty is not None
    return banks.build(given.uncertainty, Frame.of(MATRIX, BLOCK, 3), BankConfig(masks=2))[0]


def losses_of(tilt: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Mask 1 pays off only beyond 0.8; each slice has its own general difficulty besides."""
    return torch.stack((tilt, torch.full_like(tilt, 0.8)), 1) + offset[:, None]


def fitted(slices: int = 120) -> tuple[loss_aware.LossAware, MaskBank]:
    made = bank()
    given, tilt = evidence(slices, 1)
    assert given.uncertainty is not None
    described = features(given.low_frequency, given.uncertainty)
    offset = 5 * torch.rand(slices, generator=torch.Generator().manual_seed(2))
    subjects = [f"subject-{index // 6}" for index in range(slices)]
    return loss_aware.fit(described, losses_of(tilt, offset), subjects, made), made


def described(given: Evidence) -> torch.Tensor:
    assert given.uncertainty is not None
    return features(given.low_frequency, given.uncertainty)


def test_features_are_shares() -> None:
    given, _ = evidence(5)
    found = described(given)
    assert found.shape == (5, 2 * (RINGS + SECTORS) + 4)
    shares = found[:, :RINGS].exp(), found[:, RINGS : RINGS + SECTORS].exp()
    for share in shares:
        assert torch.allclose(share.sum(1), torch.ones(5).double(), atol=1e-4)


def test_features_know_direction_and_distance() -> None:
    values = torch.zeros(2, *MATRIX)
    values[0, 12, 20] = 1  # far along the columns' axis
    values[1, 16, 11] = 1  # near along the rows' axis
    found = features(acquire(kspace(MATRIX, 2), BLOCK), known(values, BLOCK))
    rings, sectors = found[:, :RINGS], found[:, RINGS : RINGS + SECTORS]
    assert rings.argmax(1).tolist() == [6, 2]
    assert sectors.argmax(1).tolist() == [0, SECTORS // 2]


def test_features_do_not_depend_on_scale_and_hardly_on_the_matrix() -> None:
    given, _ = evidence(4)
    measured = kspace(MATRIX, 4)
    assert given.uncertainty is not None
    scaled = features(acquire(1000 * measured, BLOCK), given.uncertainty)
    assert torch.allclose(scaled, described(given), atol=1e-4)
    larger, _ = evidence(1, matrix=(48, 44))
    smaller, _ = evidence(1, matrix=(24, 22))
    apart = described(larger)[:, : RINGS + SECTORS] - described(smaller)[:, : RINGS + SECTORS]
    assert apart.abs().median() < 0.3


def test_features_of_unknown_slices_are_nan() -> None:
    given, _ = evidence(3)
    assert given.uncertainty is not None
    values = given.uncertainty.values.clone()
    values[1] = 0
    found = features(given.low_frequency, known(values, BLOCK))
    assert torch.isnan(found[1]).all()
    assert torch.isfinite(found[[0, 2]]).all()


def test_it_learns_what_nearest_centroids_cannot_know() -> None:
    selector, made = fitted()
    given, tilt = evidence(200, 7)
    losses = losses_of(tilt, torch.zeros(200))
    truth = losses.argmin(1)
    learned = selector.scores(given, made).argmax(1)
    assert float((learned == truth).float().mean()) > 0.9
    nearest = NearestCentroid().scores(given, made).argmax(1)
    mean = {
        name: float(losses[torch.arange(200), choice].mean())
        for name, choice in [("learned", learned), ("nearest", nearest)]
    }
    best_single = float(losses.mean(0).min())
    assert float(losses.min(1).values.mean()) <= mean["learned"] < best_single < mean["nearest"]


def test_same_as_ridge_on_relative_losses() -> None:
    selector, made = fitted()
    given, tilt = evidence(120, 1)
    inputs = ((described(given) - selector.mean) / selector.deviation).numpy()
    losses = losses_of(tilt, torch.zeros(120)).double().numpy()
    model = Ridge(selector.ridge).fit(inputs, losses - losses.mean(1, keepdims=True))
    assert np.allclose(model.predict(inputs), -selector.scores(given, made).numpy(), atol=1e-6)
    assert selector.ridge in loss_aware.RIDGES


def test_noise_features_are_not_trusted() -> None:
    made, generator = bank(), torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 10, generator=generator, dtype=torch.float64)
    losses = torch.rand(60, 2, generator=generator) + torch.tensor([0.0, 0.5])
    subjects = [str(index % 10) for index in range(60)]
    selector = loss_aware.fit(inputs, losses, subjects, made)
    fresh = torch.randn(500, 10, generator=generator, dtype=torch.float64)
    predicted = (fresh - selector.mean) / selector.deviation @ selector.weights.T + selector.offset
    assert float((predicted.argmin(1) == 0).double().mean()) > 0.95


def test_subjects_that_contradict_each_other_leave_the_fixed_best_mask() -> None:
    made, generator = bank(), torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    # What the first feature says of the masks in one subject is the opposite in the other.
    sign = torch.where(torch.arange(40) < 20, 1.0, -1.0)
    losses = torch.stack((sign * inputs[:, 0].float(), torch.full((40,), 0.3)), 1)
    selector = loss_aware.fit(inputs, losses, ["a"] * 20 + ["b"] * 20, made)
    assert selector.ridge == loss_aware.RIDGES[-1]
    predicted = (inputs - selector.mean) / selector.deviation @ selector.weights.T + selector.offset
    assert set(predicted.argmin(1).tolist()) == {int(losses.mean(0).argmin())}


def test_unknown_slices_have_no_score() -> None:
    selector, made = fitted()
    given, _ = evidence(3)
    assert given.uncertainty is not None
    values = given.uncertainty.values.clone()
    values[1] = 0
    scores = selector.scores(Evidence(given.low_frequency, known(values, BLOCK)), made)
    assert torch.isnan(scores[1]).all()
    assert torch.isfinite(scores[[0, 2]]).all()


def test_it_decides_and_falls_back_as_others_do() -> None:
    selector, made = fitted()
    given, _ = evidence(4)
    assert given.uncertainty is not None
    values = given.uncertainty.values.clone()
    values[2] = 0
    holed = Evidence(given.low_frequency, known(values, BLOCK))
    decisions = decide(holed, Adaptation(made, selector))
    expected = selector.scores(given, made).argmax(1).tolist()
    assert [d.index for d in decisions] == [*expected[:2], made.best, expected[3]]
    assert [d.fallback for d in decisions] == [False, False, True, False]
    assert {d.selector for d in decisions} == {"loss-aware"}


def test_round_trip_and_damage(tmp_path: Path) -> None:
    selector, made = fitted()
    folder = tmp_path / "selector"
    loss_aware.save(selector, folder)
    again = loss_aware.load(folder)
    given, _ = evidence(20)
    assert torch.equal(again.scores(given, made), selector.scores(given, made))
    assert (again.subjects, again.ridge, again.bank) == (
        selector.subjects,
        selector.ridge,
        made.fingerprint,
    )
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        path.write_bytes(data[:-5])
        with pytest.raises(BadInputError):
            loss_aware.load(folder)
        path.write_bytes(data)
    save_file({"mean": torch.zeros(3)}, folder / "weights.safetensors")
    write_manifest(folder)
    with pytest.raises(BadInputError, match="not those of a loss-aware selector"):
        loss_aware.load(folder)


def test_only_for_its_bank_and_only_on_unseen_subjects() -> None:
    selector, made = fitted()
    given, _ = evidence(3)
    with pytest.raises(BadInputError, match="another bank"):
        selector.scores(given, made.permuted((1, 0)))
    assert selector.subjects == tuple(sorted(f"subject-{index}" for index in range(20)))
    loss_aware.require_unseen(selector, ["subject-20", None])
    with pytest.raises(BadInputError, match=r"to be judged on.*subject-3"):
        loss_aware.require_unseen(selector, ["subject-3", "subject-20"])


def test_what_cannot_be_fitted_is_refused() -> None:
    made = bank()
    inputs, losses = torch.rand(6, 4).double(), torch.rand(6, 2)
    with pytest.raises(BadInputError, match="at least two training subjects"):
        loss_aware.fit(inputs, losses, ["one"] * 6, made)
    with pytest.raises(BadInputError, match="different slices"):
        loss_aware.fit(inputs[:5], losses, ["one"] * 6, made)
    with pytest.raises(BadInputError, match="one loss per slice and mask"):
        loss_aware.fit(inputs, losses[:, :1], ["one", "two"] * 3, made)
    inputs[[0, 2, 4]] = torch.nan
    with pytest.raises(BadInputError, match="at least two training subjects"):
        loss_aware.fit(inputs, losses, ["one", "two"] * 3, made)
