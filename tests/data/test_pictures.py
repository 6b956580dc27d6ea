"""Any images in place of scans."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from adaptmr.data.pictures import open_pictures, read_picture
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier

MATRIX = (48, 40)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "npy"])
@pytest.mark.parametrize("image", [data.camera(), data.astronaut()], ids=["grey", "colour"])
def test_a_picture_becomes_a_scan(tmp_path: Path, suffix: str, image: np.ndarray) -> None:
    path = tmp_path / f"picture.{suffix}"
    if suffix == "npy":
        np.save(path, image)
    else:
        Image.fromarray(image).save(path)
    scan = read_picture(path, MATRIX)
    assert scan.kspace.shape == (1, 1, *MATRIX)
    assert scan.fully_sampled
    assert scan.target is not None
    target = scan.target[0]
    torch.testing.assert_close(inverse_fourier(scan.kspace[0])[0].real, target, atol=1e-3, rtol=0)
    assert scan.maximum == pytest.approx(float(target.max()))
    # The centre of the picture, in the matrix's proportions.
    grey = image if image.ndim == 2 else image.mean(-1)
    width = round(512 * 40 / 48)
    middle = grey[:, (512 - width) // 2 : (512 + width) // 2]
    small = np.asarray(Image.fromarray(middle.astype(np.float32)).resize((40, 48)))
    assert np.corrcoef(small.ravel(), target.numpy().ravel())[0, 1] > 0.98


def test_deep_pictures_keep_their_depth(tmp_path: Path) -> None:
    deep = (np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    scan = read_picture(tmp_path / "deep.png", (64, 64))
    assert scan.target is not None
    np.testing.assert_allclose(scan.target[0], deep, rtol=1e-5)


def test_a_folder_of_pictures_is_as_many_subjects(tmp_path: Path) -> None:
    for name in ("b", "a"):
        Image.fromarray(data.camera()).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    scans = open_pictures(tmp_path, MATRIX)
    assert [scan.name for scan in scans] == ["a.png", "b.png"]
    assert len({scan.header.subject for scan in scans}) == 2


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"no pictures.*no such folder"):
        open_pictures(tmp_path / "nowhere", MATRIX)
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(BadInputError, match=r"bad.png.*cannot be read"):
        open_pictures(tmp_path, MATRIX)
    np.save(tmp_path / "kspace.npy", np.ones((4, 4), np.complex64))
    with pytest.raises(BadInputError, match=r"kspace.npy.*complex64"):
        read_picture(tmp_path / "kspace.npy", MATRIX)
    np.save(tmp_path / "zero.npy", np.zeros((4, 4)))
    with pytest.raises(BadInputError, match=r"zero.npy.*no signal"):
        read_picture(tmp_path / "zero.npy", MATRIX)
