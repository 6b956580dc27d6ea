from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from adaptmr.data.acquisition.measurement import (
    Geometry,
    Scanner,
    draw_scanner,
    magnitude,
    measure,
)
from adaptmr.data.acquisition.smooth import SmoothMap
from adaptmr.data.anatomy.signal import Contrast
from adaptmr.data.anatomy.tissue import Tissue
from adaptmr.data.scan import Orientation
from adaptmr.kernels.fourier import fourier, inverse_fourier


@dataclass(frozen=True)
class Ball:
    """A ball of CSF of signal 2 beside the centre, mm."""

    centre: tuple[float, float, float] = (20.0, 10.0, 5.0)
    radius: float = 50.0
    focus = ((-60.0, -60.0, -40.0), (60.0, 60.0, 40.0))
    contrasts = None
    subject = None
    attributes: tuple[()] = ()

    def signals(self, contrast: Contrast, field_strength: float) -> np.ndarray:  # noqa: ARG002
        return np.full(len(Tissue), 2.0, dtype=np.float32) * (np.arange(len(Tissue)) > 0)

    def sample(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = np.linalg.norm(points - np.array(self.centre)[:, None], axis=0)
        return (away < self.radius).astype(np.uint8), np.ones(points.shape[1], np.float32)


def geometry(**changes: object) -> Geometry:
    plain = Geometry((60, 48), (240.0, 192.0), 1, 3, 10.0, 4.0, Orientation.AXIAL)
    return replace(plain, **changes)  # type: ignore[arg-type]


def scanner(coils: int = 1) -> Scanner:
    return draw_scanner(
        np.random.default_rng(0), coils=coils, noise_correlation=0.3, field_strength=3.0
    )


def uniform() -> Scanner:
    """One perfect coil and no phase."""
    one = SmoothMap(np.ones((1, 31, 31, 31), dtype=np.complex64))
    none = SmoothMap(np.zeros((1, 31, 31, 31), dtype=np.float32))
    return Scanner(one, np.eye(1, dtype=np.complex128), none, none)


def measured(anatomy: Ball, machine: Scanner, where: Geometry, contrast: Contrast) -> object:
    return measure(anatomy, machine, where, contrast, 3.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("matrix", [(60, 48), (61, 47)])
@pytest.mark.parametrize("oversampling", [1, 2])
def test_the_image_has_the_signal_where_the_object_is(
    matrix: tuple[int, int], oversampling: int
) -> None:
    where = geometry(matrix=matrix, readout_oversampling=oversampling)
    result = measured(Ball(), uniform(), where, Contrast.T2)
    image = magnitude(result.kspace, matrix)[1]
    inside = result.labels[1] == Tissue.CSF
    assert image[inside].mean() == pytest.approx(2.0, rel=0.03)
    assert np.median(image[~inside]) < 0.1
    # Rows run to the back, columns to the left: the ball is at +20 mm right, +10 mm front.
    rows, columns = (np.mean(where_) for where_ in np.nonzero(inside))
    first = (oversampling * matrix[0] - matrix[0]) // 2
    centre = oversampling * matrix[0] // 2 - first
    assert rows == pytest.approx(centre - 10 * matrix[0] / 240, abs=0.15)
    assert columns == pytest.approx(matrix[1] // 2 - 20 * matrix[1] / 192, abs=0.15)
    weights = image - image.min()
    assert (weights.sum(1) * np.arange(matrix[0])).sum() / weights.sum() == pytest.approx(
        rows, abs=0.6
    )
    area = np.pi * (50.0**2 - 5.0**2)
    pixel = 240 / matrix[0] * 192 / matrix[1]
    assert inside.sum() * pixel == pytest.approx(area, rel=0.03)


@pytest.mark.parametrize(
    ("orientation", "axes"),
    [(Orientation.AXIAL, (1, 0)), (Orientation.SAGITTAL, (2, 1)), (Orientation.CORONAL, (2, 0))],
)
def test_orientations_put_the_axes_in_place(
    orientation: Orientation, axes: tuple[int, int]
) -> None:
    ball = Ball(centre=(15.0, 25.0, -20.0), radius=40.0)
    where = geometry(orientation=orientation, matrix=(64, 64), field_of_view=(192.0, 192.0))
    labels = measured(ball, uniform(), where, Contrast.T2).labels[1]
    place = [32 - np.mean(found) for found in np.nonzero(labels)]
    np.testing.assert_allclose(place, [ball.centre[axis] / 3 for axis in axes], atol=0.1)


def test_kspace_holds_coils_and_phase_of_the_object() -> None:
    machine = scanner(5)
    where = geometry(matrix=(64, 64), field_of_view=(256.0, 256.0), slices=1)
    result = measured(Ball(centre=(0, 0, 0)), machine, where, Contrast.T1)
    axis = (32 - np.arange(64)) * 4.0
    coils = machine.coils.on_grid(axis, axis, np.zeros(1))[..., 0].swapaxes(1, 2)
    hertz = machine.off_resonance.on_grid(axis, axis, np.zeros(1))[0, ..., 0].T
    receive = machine.receive_phase.on_grid(axis, axis, np.zeros(1))[0, ..., 0].T
    ideal = 2 * coils * np.exp(1j * (receive + 2 * np.pi * hertz * 2.5e-3))
    images = inverse_fourier(torch.from_numpy(result.kspace[0])).numpy()
    inner = np.hypot(axis[:, None], axis[None]) < 40
    error = np.linalg.norm((images - ideal)[:, inner]) / np.linalg.norm(ideal[:, inner])
    assert error < 0.03


def test_a_spin_echo_refocuses_off_resonance() -> None:
    machine, where = scanner(), geometry(slices=1)
    t1, t2 = (
        inverse_fourier(torch.from_numpy(measured(Ball(), machine, where, contrast).kspace[0, 0]))
        for contrast in (Contrast.T1, Contrast.T2)
    )
    still = replace(machine, off_resonance=uniform().off_resonance)
    same = measured(Ball(), still, where, Contrast.T2).kspace[0, 0]
    np.testing.assert_allclose(fourier(t2).numpy(), same, atol=1e-4)
    visible = t2.abs() > 1.0
    assert float(torch.angle(t2[visible]).std()) > 0.1
    assert float(torch.angle(t1[visible] * t2[visible].conj()).std()) > 0.02


def test_slices_average_over_their_thickness() -> None:
    # The ball's cap ends inside the thick slice: its image is between air and ball.
    top = Ball(centre=(0, 0, -50.0))
    thin = measured(top, uniform(), geometry(slices=1, thickness=0.1), Contrast.T2)
    thick = measured(top, uniform(), geometry(slices=1, thickness=24.0), Contrast.T2)
    middle = (30, 24)
    assert magnitude(thin.kspace, (60, 48))[0][middle] < 0.3
    assert magnitude(thick.kspace, (60, 48))[0][middle] == pytest.approx(2 / 3, abs=0.25)
