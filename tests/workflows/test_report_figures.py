"""Pictures of reports: exact pixels, known colours, equal for equal input."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from adaptmr.errors import UsageError
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.report import Measured, Picture, interval_chart, line_chart
from adaptmr.workflows.report.figures import (
    ACQUIRED,
    LOW_FREQUENCY,
    NOT_FINITE,
    PADDING,
    SKIPPED,
    error_picture,
    kspace_picture,
    magnitude_picture,
    mask_picture,
    overlay_picture,
    scale_strip,
)

SIZES = st.integers(1, 9)


def pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25, deadline=None)
@given(rows=SIZES, columns=SIZES, seed=st.integers(0, 99), scale=st.sampled_from([1e-8, 1.0, 1e9]))
def test_magnitude_picture_has_the_exact_pixels(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    image = scale * torch.randn(rows, columns, dtype=torch.complex64, generator=generator(seed))
    drawn = pixels(magnitude_picture(image, (0.0, scale)))
    levels = np.clip(np.abs(image.numpy()).astype(float) / scale, 0, 1)
    assert drawn.shape == (rows, columns, 3)
    assert np.abs(drawn - 255 * levels[..., None]).max() <= 1.0


def test_classes_are_laid_over_the_image() -> None:
    image = torch.tensor([[0.0, 1.0, 1.0]])
    drawn = pixels(overlay_picture(image, torch.tensor([[0, 0, 2]]), (0.0, 1.0)))
    assert tuple(drawn[0, 0]) == (0, 0, 0)
    assert tuple(drawn[0, 1]) == (255, 255, 255)
    red, green, blue = (int(value) for value in drawn[0, 2])
    assert red > green > blue  # the second colour is an orange
    assert np.array_equal(
        pixels(overlay_picture(image, None, (0.0, 1.0))), pixels(magnitude_picture(image, (0, 1)))
    )
    with pytest.raises(UsageError, match="differs from its image"):
        overlay_picture(image, torch.zeros(3, 1), (0.0, 1.0))


def test_values_that_are_not_finite_are_marked() -> None:
    image = torch.tensor([[0.0, torch.nan], [torch.inf, 1.0]])
    drawn = pixels(magnitude_picture(image, (0.0, 1.0)))
    assert tuple(drawn[0, 1]) == tuple(drawn[1, 0]) == NOT_FINITE
    assert tuple(drawn[0, 0]) == (0, 0, 0)
    assert tuple(drawn[1, 1]) == (255, 255, 255)


def test_error_colours_are_those_of_the_scale_and_get_brighter() -> None:
    errors = torch.linspace(0, 1, 255)[None, :]
    target = torch.full_like(errors, 3.0)
    strip = pixels(scale_strip("magma"))
    assert np.array_equal(pixels(error_picture(target + errors, target, 1.0)), strip)
    assert np.array_equal(pixels(error_picture(target - errors, target, 1.0)), strip)
    assert np.array_equal(pixels(error_picture(target, target, 1.0))[0, 3], strip[0, 0])
    # Perceived luminance grows monotonically: readable in grey and with any colour vision.
    for colours in ("grey", "magma", "viridis"):
        luminance = pixels(scale_strip(colours))[0] @ np.array([0.2126, 0.7152, 0.0722])
        assert (np.diff(luminance) > -0.6).all()
        assert luminance[-1] - luminance[0] > 150


def test_error_picture_compares_magnitudes_of_equal_shape() -> None:
    image = torch.tensor([[1j, -1.0]])
    assert not (pixels(error_picture(image, torch.ones(1, 2), 1.0))[..., 0] > 10).any()
    with pytest.raises(UsageError, match=r"differ in shape \(got \(1, 2\); expected \(2, 1\)\)"):
        error_picture(image, torch.ones(2, 1), 1.0)
    with pytest.raises(UsageError, match="one slice"):
        magnitude_picture(torch.ones(2, 2, 2), (0, 1))


@settings(max_examples=20, deadline=None)
@given(coils=st.integers(1, 4), readout=SIZES, phase=SIZES, seed=st.integers(0, 99))
def test_kspace_picture_is_in_decibels_below_its_maximum(
    coils: int, readout: int, phase: int, seed: int
) -> None:
    kspace = torch.randn(coils, readout, phase, dtype=torch.complex64, generator=generator(seed))
    drawn = pixels(kspace_picture(kspace))
    magnitude = np.sqrt((np.abs(kspace.numpy()) ** 2).sum(0))
    decibels = 20 * np.log10(magnitude / magnitude.max())
    strip = pixels(scale_strip("viridis"))[0].astype(int)
    level = np.clip(np.rint((decibels + 80) / 80 * 254), 0, 254).astype(int)
    assert np.abs(drawn.astype(int) - strip[level]).max() <= 3


def test_kspace_picture_of_nothing_is_dark() -> None:
    darkest = pixels(scale_strip("viridis"))[0, 0]
    assert (pixels(kspace_picture(torch.zeros(2, 3, 3, dtype=torch.complex64))) == darkest).all()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.one_of(st.tuples(SIZES), st.tuples(SIZES, SIZES)),
    readout=SIZES,
    seed=st.integers(0, 99),
)
def test_mask_picture_shows_each_position_once(
    shape: tuple[int, ...], readout: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    encoded = random.random(shape) < 0.8
    mask = Mask(encoded & (random.random(shape) < 0.5), (0,) * len(shape), encoded)
    drawn = pixels(mask_picture(mask, readout))
    assert drawn.shape[:2] == (shape if len(shape) == 2 else (readout, *shape))
    repeats = readout if len(shape) == 1 else 1

    def count(colour: tuple[int, int, int]) -> int:
        return int((drawn == colour).all(-1).sum())

    assert count(ACQUIRED) == mask.budget * repeats
    assert count(PADDING) == int((~encoded).sum()) * repeats
    assert count(SKIPPED) == int((encoded & ~mask.positions).sum()) * repeats


def test_mask_picture_shows_the_low_frequency_block_where_it_is() -> None:
    positions = np.isin(np.arange(25), [0, *range(10, 15)])
    drawn = pixels(mask_picture(Mask(positions, (5,)), readout=3))
    low = (drawn == LOW_FREQUENCY).all(-1)
    assert np.flatnonzero(low[0]).tolist() == list(range(10, 15))
    assert (low == low[0]).all()


def test_charts_are_png_and_equal_for_equal_input() -> None:
    def curve() -> bytes:
        return line_chart(
            {"training": [(0, 1.0), (1, 0.5)], "validation": [(0, 1.1), (1, 0.7)]},
            x_label="epoch",
            y_label="1 − SSIM",
        )

    def points(high: float) -> bytes:
        values = {"4×": {"wavelet": Measured(0.8, 0.7, high)}, "8×": {"wavelet": 0.6}}
        return interval_chart(values, x_label="SSIM (fastmri-volume)")

    assert curve() == curve()
    assert points(0.9) == points(0.9)
    assert points(0.9) != points(0.85)
    for png in (curve(), points(0.9)):
        drawn = pixels(png).astype(int)
        for colour in ((0, 114, 178), (213, 94, 0)):  # one colour per series
            assert (np.abs(drawn - colour).max(-1) <= 2).any()
        assert Picture(png, "chart", density=2).size[0] == drawn.shape[1] // 2
