import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptmr.data.nifti import Image, read_image, write_image
from adaptmr.errors import BadInputError

AFFINE = np.array([[0, 0, 3, -7], [2, 0, 0, 5], [0, -1.5, 0, 1], [0, 0, 0, 1]])


def refused(path: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8", "i8", "bool"]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    dtype: str,
    suffix: str,
) -> None:
    data = (np.random.default_rng(0).random(shape) * 100).astype("f4").astype(dtype)
    path = tmp_path_factory.mktemp("image") / f"image{suffix}"
    write_image(Image(data, AFFINE), path)
    read = read_image(path)
    np.testing.assert_array_equal(read.data, data)
    assert (read.data.dtype.kind == "f") == (np.dtype(dtype).kind == "f")
    np.testing.assert_allclose(read.affine, AFFINE)
    assert read.voxel_size == pytest.approx((2, 1.5, 3))
    other = nibabel.load(path)
    np.testing.assert_array_equal(other.get_fdata(), data)
    assert other.header.get_xyzt_units()[0] == "mm"


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    image = Image(np.random.default_rng(0).random((4, 5, 6)), AFFINE)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_image(image, tmp_path / name / "image.nii.gz")
    assert (tmp_path / "a/image.nii.gz").read_bytes() == (tmp_path / "b/image.nii.gz").read_bytes()


def test_scaling_is_applied(tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image(np.arange(8, dtype="i2").reshape(2, 2, 2), np.eye(4))
    stored.header.set_slope_inter(0.5, 3)
    nibabel.save(stored, tmp_path / "image.nii")
    np.testing.assert_allclose(
        read_image(tmp_path / "image.nii").data.ravel(), np.arange(8) * 0.5 + 3
    )


def test_second_version_and_a_last_axis_of_one(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((3, 4, 5, 1)).astype("f4")
    nibabel.save(nibabel.Nifti2Image(data, AFFINE), tmp_path / "image.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "image.nii").data, data[..., 0])


def test_real_images(shared_data: Path) -> None:
    for name in ("brains/sub-01_ses-1_T1w.nii.gz", "anatomy/head_labels.nii.gz"):
        path = shared_data / name
        image = read_image(path)
        np.testing.assert_array_equal(image.data, nibabel.load(path).get_fdata())
        assert image.voxel_size == pytest.approx((1, 1, 1))


def test_image_is_read_only() -> None:
    mine = np.zeros((2, 2, 2))
    image = Image(mine, np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        image.data[0] = 1
    mine[0] = 1


@pytest.mark.parametrize(
    ("data", "affine"),
    [
        (np.zeros((2, 2)), np.eye(4)),
        (np.zeros((2, 2, 2), "c8"), np.eye(4)),
        (np.zeros((2, 2, 2)), np.eye(3)),
        (np.zeros((2, 2, 2)), np.full((4, 4), np.nan)),
    ],
)
def test_what_is_no_image(data: np.ndarray, affine: np.ndarray) -> None:
    with pytest.raises(BadInputError):
        Image(data, affine)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.95])
def test_truncated(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"image{suffix}"
    write_image(Image(np.random.default_rng(0).random((9, 9, 9)), AFFINE), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    refused(path)


def test_flipped_bytes_of_a_compressed_image(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    write_image(Image(np.random.default_rng(0).random((9, 9, 9)), AFFINE), path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    assert "damaged" in refused(path)


def test_header_that_promises_too_much(tmp_path: Path) -> None:
    """A few bytes must not make gigabytes."""
    path = tmp_path / "image.nii"
    write_image(Image(np.zeros((2, 2, 2)), AFFINE), path)
    header = bytearray(path.read_bytes())
    header[42:48] = np.array([30000] * 3, "<i2").tobytes()
    path.write_bytes(header)
    assert "promises more than the file can hold" in refused(path)
    squeezed = tmp_path / "image.nii.gz"
    squeezed.write_bytes(gzip.compress(bytes(header)))
    assert "promises more than the file can hold" in refused(squeezed)


def test_not_nifti(tmp_path: Path) -> None:
    (tmp_path / "image.nii").write_text("Dear reader, " * 100)
    assert "not a NIfTI image" in refused(tmp_path / "image.nii")
    assert "does not exist" in refused(tmp_path / "none.nii")
    other = nibabel.Spm99AnalyzeImage(np.zeros((2, 2, 2), "f4"), np.eye(4))
    nibabel.save(other, tmp_path / "image.img")
    assert "not NIfTI" in refused(tmp_path / "image.img")


@pytest.mark.parametrize("shape", [(4, 4, 4, 3), (4, 4)])
def test_not_one_volume(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, "f4"), np.eye(4)), tmp_path / "image.nii")
    assert "not one volume" in refused(tmp_path / "image.nii")


def test_complex_and_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "image.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), "c8"), np.eye(4)), path)
    assert "real numbers" in refused(path)
    nibabel.save(nibabel.Nifti1Image(np.full((2, 2, 2), np.inf, "f4"), np.eye(4)), path)
    assert "8 NaN or infinite" in refused(path)
    with pytest.raises(BadInputError, match="not finite"):
        write_image(Image(np.full((2, 2, 2), np.nan), np.eye(4)), tmp_path / "out.nii")
    assert not (tmp_path / "out.nii").exists()


def test_outputs_that_are_refused(tmp_path: Path) -> None:
    image = Image(torch.zeros(2, 2, 2).numpy(), np.eye(4))
    (tmp_path / "image.nii").write_text("old")
    with pytest.raises(BadInputError, match="exists already"):
        write_image(image, tmp_path / "image.nii")
    with pytest.raises(BadInputError, match="cannot be written"):
        write_image(image, tmp_path / "image.nii" / "image.nii")
    with pytest.raises(BadInputError, match=r"expected \.nii or \.nii\.gz"):
        write_image(image, tmp_path / "image.png")
