"""The metrics held against fastMRI's and scikit-image's, and at their edges."""

import json
from pathlib import Path

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from fastmri import evaluate as fastmri
from fastmri.data.transforms import center_crop as fastmri_crop
from hypothesis import given, settings
from skimage.filters import threshold_otsu
from skimage.metrics import structural_similarity

from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.metrics import (
    PROTOCOLS,
    Crop,
    MetricProtocol,
    Metrics,
    ProtocolName,
    foreground,
)

VOLUME = PROTOCOLS[ProtocolName.FASTMRI_VOLUME]
SLICE = PROTOCOLS[ProtocolName.SLICE]
FOREGROUND = PROTOCOLS[ProtocolName.FOREGROUND_VOLUME]
REGION = PROTOCOLS[ProtocolName.REGION_VOLUME]
WITHOUT_REGION = [VOLUME, SLICE, FOREGROUND]
quick = settings(max_examples=25, deadline=None)
shapes = st.tuples(st.integers(1, 4), st.integers(7, 40), st.integers(7, 40))
# skimage asks NumPy for what its next version does differently.
fastmri_warnings = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def volumes(shape: tuple[int, ...], seed: int, noise: float = 0.1) -> tuple[torch.Tensor, ...]:
    """A prediction and its target: blobs over a dark background, the first with errors."""
    generator = np.random.default_rng(seed)
    rows, columns = np.ogrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    blob = np.exp(-4 * (rows**2 + columns**2))
    target = blob * generator.uniform(0.5, 2, (shape[0], 1, 1)) + 0.05 * generator.random(shape)
    prediction = np.abs(target * 0.95 + noise * generator.standard_normal(shape))
    return torch.from_numpy(prediction.astype("f4")), torch.from_numpy(target.astype("f4"))


def numbers(metrics: Metrics) -> dict[str, float | None]:
    return metrics.model_dump(include={"nmse", "psnr", "ssim"})


def by_fastmri(prediction: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    width = target.shape[-1]
    if target.shape[-2] >= width:
        target = fastmri_crop(target, (width, width))
        prediction = fastmri_crop(prediction, (width, width))
    pair = target.numpy(), prediction.numpy()
    return {
        "nmse": float(fastmri.nmse(*pair)),
        "psnr": float(fastmri.psnr(*pair)),
        "ssim": float(np.ravel(fastmri.ssim(*pair))[0]),
    }


def assert_close(ours: dict[str, float], theirs: dict[str, float]) -> None:
    for name, value in theirs.items():
        # NMSE lies below one; fastMRI itself computes it and SSIM in float32.
        assert ours[name] == pytest.approx(value, abs=1e-6, rel=1e-6), name


@fastmri_warnings
@quick
@given(shapes, st.integers(0, 10**6), st.sampled_from([0.01, 0.1, 0.5]))
def test_fastmri_volume_is_fastmris(shape: tuple[int, int, int], seed: int, noise: float) -> None:
    prediction, target = volumes(shape, seed, noise)
    ours = VOLUME(prediction, target)
    assert_close(numbers(ours), by_fastmri(prediction, target))
    square = shape[1] >= shape[2]
    assert ours.crop is (Crop.SQUARE if square else Crop.ALL_ROWS)
    assert ours.size == (min(shape[1], shape[2]), shape[2])
    assert (ours.slices, ours.share) == (shape[0], 1)


@fastmri_warnings
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_full_size_volume_is_fastmris(scale: float) -> None:
    prediction, target = volumes((18, 330, 320), 0)
    pair = prediction * scale, target * scale
    assert_close(numbers(VOLUME(*pair)), by_fastmri(*pair))


@fastmri_warnings
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_real_images_are_measured_as_fastmri_measures_them(shared_data: Path, noise: float) -> None:
    files = sorted((shared_data / "kspace").glob("*.h5"))
    assert files
    generator = torch.Generator().manual_seed(0)
    for path in files:
        with h5py.File(path) as file:
            target = torch.from_numpy(file["reconstruction_rss"][()])
        error = noise * target.max() * torch.randn(target.shape, generator=generator)
        prediction = (1.02 * target + error).abs()
        assert_close(numbers(VOLUME(prediction, target)), by_fastmri(prediction, target))


@quick
@given(shapes, st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_metrics_do_not_change_with_the_unit(
    shape: tuple[int, int, int], seed: int, unit: float
) -> None:
    prediction, target = (volume.double() for volume in volumes(shape, seed))
    for protocol in WITHOUT_REGION:
        first, second = protocol(prediction, target), protocol(prediction * unit, target * unit)
        for name in ("nmse", "psnr", "ssim"):
            assert getattr(first, name) == pytest.approx(getattr(second, name), rel=1e-6)


def test_slices_alone_are_the_mean_over_slices() -> None:
    prediction, target = volumes((4, 30, 28), 1)
    each = [VOLUME(prediction[i : i + 1], target[i : i + 1]) for i in range(4)]
    together = SLICE(prediction, target)
    for name in ("nmse", "psnr", "ssim"):
        assert getattr(together, name) == pytest.approx(
            np.mean([getattr(metrics, name) for metrics in each])
        )


def test_slices_without_signal_are_counted_out_aloud() -> None:
    prediction, target = volumes((4, 30, 28), 1)
    target[[0, 3]] = 0
    ours = SLICE(prediction, target)
    assert ours.slices == 2
    assert ours.ssim == pytest.approx(SLICE(prediction[1:3], target[1:3]).ssim)
    assert VOLUME(prediction, target).slices == 4


def in_region(
    prediction: torch.Tensor, target: torch.Tensor, region: torch.Tensor
) -> dict[str, float]:
    """With NumPy and scikit-image, for square images."""
    x, y, chosen = prediction.double().numpy(), target.double().numpy(), region.numpy()
    error, top = (x - y)[chosen], y.max()
    values = []
    for image, reference, mask in zip(x, y, chosen, strict=True):
        _, full = structural_similarity(reference, image, data_range=top, full=True)
        inner = np.s_[3:-3, 3:-3]
        values.append(full[inner][mask[inner]])
    return {
        "nmse": (error**2).sum() / (y[chosen] ** 2).sum(),
        "psnr": 10 * np.log10(top**2 / (error**2).mean()),
        "ssim": np.concatenate(values).mean(),
    }


@quick
@given(st.integers(1, 3), st.integers(9, 30), st.integers(0, 10**6))
def test_region_counts_its_voxels_only(slices: int, size: int, seed: int) -> None:
    prediction, target = volumes((slices, size, size), seed)
    region = torch.from_numpy(np.random.default_rng(seed).random((slices, size, size)) < 0.3)
    region[0, size // 2, size // 2] = True
    ours = REGION(prediction, target, region)
    expected = in_region(prediction, target, region)
    assert numbers(ours) == pytest.approx(expected, rel=1e-9)
    assert ours.share == pytest.approx(float(region.double().mean()))


def test_a_region_of_everything_is_the_volume() -> None:
    prediction, target = volumes((3, 40, 31), 2)
    region = torch.ones_like(target, dtype=torch.bool)
    assert numbers(REGION(prediction, target, region)) == pytest.approx(
        numbers(VOLUME(prediction, target)), rel=1e-12
    )


def test_errors_outside_the_region_do_not_count_beyond_the_window() -> None:
    prediction, target = volumes((2, 40, 40), 3)
    region = torch.zeros_like(target, dtype=torch.bool)
    region[:, 15:25, 15:25] = True
    spoiled = prediction.clone()
    spoiled[:, :11] = 9
    assert numbers(REGION(spoiled, target, region)) == pytest.approx(
        numbers(REGION(prediction, target, region)), rel=1e-9
    )
    assert VOLUME(spoiled, target).ssim < VOLUME(prediction, target).ssim


@quick
@given(shapes, st.integers(0, 10**6))
def test_foreground_is_above_otsus_threshold(shape: tuple[int, int, int], seed: int) -> None:
    target = volumes(shape, seed)[1].double()
    threshold = threshold_otsu(target.numpy())
    width = float(target.max() - target.min()) / 256
    chosen = foreground(target)
    assert not (chosen & (target < threshold - 1.01 * width)).any()
    assert not (~chosen & (target > threshold + 1.01 * width)).any()
    prediction = target + 0.01
    assert FOREGROUND(prediction, target).share <= 1


def test_foreground_is_of_the_cropped_volume() -> None:
    prediction, target = volumes((2, 60, 30), 4)
    ours = FOREGROUND(prediction, target)
    cropped = target[:, 15:45]
    assert ours == REGION(prediction[:, 15:45], cropped, foreground(cropped))
    assert 0 < ours.share < 0.6


# ---- edges


@pytest.mark.parametrize("protocol", WITHOUT_REGION)
def test_equal_images_are_safe_in_json(protocol: MetricProtocol) -> None:
    target = volumes((1, 20, 20), 0)[1]
    ours = protocol(target, target)
    assert (ours.nmse, ours.psnr, ours.ssim) == (0, None, 1)
    assert json.loads(ours.model_dump_json())["psnr"] is None
    json.dumps(ours.model_dump(mode="json"), allow_nan=False)


def test_constant_images() -> None:
    target = torch.full((2, 12, 12), 3.0, dtype=torch.float64)
    ours = VOLUME(target * 0.9, target)
    assert ours.nmse == pytest.approx(0.01)
    assert ours.psnr == pytest.approx(20)
    means = (2 * 0.9 + 1e-4) / (0.9**2 + 1 + 1e-4)
    assert ours.ssim == pytest.approx(means)
    with pytest.raises(BadInputError, match="no signal to compare"):
        FOREGROUND(target, target)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8, torch.int16])
def test_any_real_type_is_measured_in_double(dtype: torch.dtype) -> None:
    prediction, target = ((100 * volume).round().to(dtype) for volume in volumes((2, 20, 20), 5))
    assert VOLUME(prediction, target) == VOLUME(prediction.double(), target.double())


def test_a_larger_prediction_is_cropped_as_fastmri_crops_it() -> None:
    prediction, target = volumes((2, 48, 44), 6)
    assert VOLUME(prediction, target[:, 4:-4, 6:-6]) == VOLUME(
        prediction[:, 8:-8, 6:-6], target[:, 4:-4, 6:-6]
    )


def bad(field: str) -> tuple[torch.Tensor, torch.Tensor]:
    prediction, target = volumes((3, 20, 18), 7)
    spoil = {
        "NaN": lambda: prediction[1].__setitem__((2, 3), torch.nan),
        "infinite target": lambda: target[2].__setitem__((0, 0), torch.inf),
        "zero target": lambda: target.zero_(),
    }
    if field in spoil:
        spoil[field]()
        return prediction, target
    return {
        "slices": (prediction[:2], target),
        "columns": (prediction[:, :, :-1], target),
        "rows": (prediction[:, :-3], target),
        "rank": (prediction[0], target[0]),
        "complex": (prediction.to(torch.complex64), target),
        "empty": (prediction[:0], target[:0]),
        "negative": (prediction, -target),
        "small": (prediction[:, :, :6], target[:, :, :6]),
        "few rows": (prediction[:, :5], target[:, :5]),
    }[field]


@pytest.mark.parametrize("protocol", WITHOUT_REGION)
@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("NaN", "slice 1, field 'reconstruction'.*not finite.*1 NaN"),
        ("infinite target", "slice 2, field 'target'.*not finite"),
        ("zero target", "no signal"),
        ("negative", "no signal"),
        ("slices", "different numbers of slices"),
        ("columns", "does not fit the target"),
        ("rows", "does not fit the target"),
        ("rank", "magnitude volumes"),
        ("complex", "magnitude volumes"),
        ("empty", "magnitude volumes"),
        ("small", "smaller than the SSIM window"),
        ("few rows", "smaller than the SSIM window"),
    ],
)
def test_bad_volumes_are_refused(protocol: MetricProtocol, field: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        protocol(*bad(field))


def test_bad_regions_are_refused() -> None:
    prediction, target = volumes((2, 20, 20), 8)
    everything = torch.ones_like(target, dtype=torch.bool)
    edge = everything.clone()
    edge[:, 3:-3, 3:-3] = False
    for region, message in (
        (everything[:1], "does not fit"),
        (everything.float(), "does not fit"),
        (~everything, "no signal to compare"),
        (edge, "all at the edge"),
    ):
        with pytest.raises(BadInputError, match=message):
            REGION(prediction, target, region)
    with pytest.raises(UsageError, match="none is given"):
        REGION(prediction, target)
    for protocol in WITHOUT_REGION:
        with pytest.raises(UsageError, match="no use for a region"):
            protocol(prediction, target, everything)


def test_every_protocol_has_its_name_and_definition() -> None:
    assert set(PROTOCOLS) == set(ProtocolName)
    for name, protocol in PROTOCOLS.items():
        assert protocol.name is name
        assert len(protocol.definition) > 20
