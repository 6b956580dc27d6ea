import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptmr.data import arrays
from adaptmr.errors import BadInputError


def noise(*shape: int, dtype: str = "c8") -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(dtype)


def bart_file(path: Path, data: np.ndarray) -> Path:
    """A BART pair as its documentation describes it: column-major complex float, sizes as text."""
    sizes = [*data.shape, *[1] * (16 - data.ndim)]
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, sizes)) + "\n")
    data.astype("<c8").ravel(order="F").tofile(path.with_suffix(".cfl"))
    return path.with_suffix(".cfl")


def refused(path: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        for _ in arrays.read_scan(path).kspace:
            pass
    message = str(caught.value)
    assert "\n" not in message
    assert path.stem in message
    return message


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
def test_bart_axes(
    tmp_path_factory: pytest.TempPathFactory, slices: int, coils: int, readout: int, phase: int
) -> None:
    kspace = noise(slices, coils, readout, phase)
    data = np.zeros((readout, phase, 1, coils, *[1] * 9, slices, 1, 1), dtype="c8")
    for s, c, x, y in np.ndindex(kspace.shape):
        data[x, y, 0, c, 0, 0, 0, 0, 0, 0, 0, 0, 0, s, 0, 0] = kspace[s, c, x, y]
    path = bart_file(tmp_path_factory.mktemp("bart") / "scan.cfl", data)
    for name in (path, path.with_suffix(".hdr")):
        scan = arrays.read_scan(name)
        np.testing.assert_array_equal(scan.kspace[:].numpy(), kspace)
        np.testing.assert_array_equal(scan.kspace[slices - 1].numpy(), kspace[-1])
        assert scan.fully_sampled
        assert scan.header.phase_axes == 1
        assert scan.name == "scan.cfl"


def test_bart_slice_with_two_phase_encodes(tmp_path: Path) -> None:
    points = np.random.default_rng(1).random((6, 5)) < 0.5
    data = noise(1, 6, 5, 3) * points[None, :, :, None]
    scan = arrays.read_scan(bart_file(tmp_path / "scan.cfl", data))
    assert scan.header.phase_axes == 2
    assert scan.matrix == (6, 5)
    np.testing.assert_array_equal(scan.acquired.numpy(), points)
    np.testing.assert_array_equal(scan.kspace[0].numpy(), np.moveaxis(data[0], -1, 0))


def test_bart_lines_are_found(tmp_path: Path) -> None:
    data = noise(6, 5, 1, 3)
    data[:, 1::2] = 0
    scan = arrays.read_scan(bart_file(tmp_path / "scan.cfl", data))
    assert scan.acquired.tolist() == [True, False, True, False, True]


@pytest.mark.parametrize(
    "shape", [(4, 4, 4, 2), (4, 4, 1, 2, 2), (4, 4, 1, 2, 1, 3), (4, 4, 1, 2, 1, 1, 1, 1, 1, 1, 2)]
)
def test_other_bart_axes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    message = refused(bart_file(tmp_path / "scan.cfl", noise(*shape)))
    assert "not those of slices" in message
    assert "bart" in message


def test_bart_pair_that_disagrees(tmp_path: Path) -> None:
    path = bart_file(tmp_path / "scan.cfl", noise(6, 5, 1, 3))
    path.write_bytes(path.read_bytes()[:-8])
    message = refused(path)
    assert f"got {8 * 89:,} bytes" in message
    assert f"expected {8 * 90:,} bytes" in message


def test_bart_without_its_other_half(tmp_path: Path) -> None:
    path = bart_file(tmp_path / "scan.cfl", noise(6, 5, 1, 3))
    path.with_suffix(".hdr").unlink()
    assert "scan.hdr: the file does not exist" in refused(path)


@pytest.mark.parametrize(
    "text", ["# Size\n6 5", "# Dimensions", "# Dimensions\n6 five", "# Dimensions\n0 5", "\xff"]
)
def test_damaged_bart_header(tmp_path: Path, text: str) -> None:
    path = bart_file(tmp_path / "scan.cfl", noise(6, 5, 1, 3))
    path.with_suffix(".hdr").write_text(text, encoding="latin-1")
    assert "field 'Dimensions'" in refused(path)


@pytest.mark.parametrize("dtype", ["<c8", ">c8", "c16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_order_and_precision(tmp_path: Path, dtype: str, order: str) -> None:
    kspace = noise(2, 3, 5, 4).astype(dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "scan.npy", kspace)
    scan = arrays.read_scan(tmp_path / "scan.npy")
    assert scan.kspace[:].dtype == torch.complex64
    np.testing.assert_array_equal(scan.kspace[1:].numpy(), kspace[1:].astype("c8"))
    assert pickle.loads(pickle.dumps(scan.kspace))[0].shape == (3, 5, 4)  # noqa: S301 - own bytes


def test_npz_with_mask(tmp_path: Path) -> None:
    kspace, mask = noise(2, 3, 5, 4), np.array([1, 1, 0, 1])
    np.savez(tmp_path / "scan.npz", kspace=kspace, mask=mask)
    scan = arrays.read_scan(tmp_path / "scan.npz")
    assert scan.acquired.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(scan.kspace[:].numpy(), kspace * mask)


def test_npz_without_mask_and_with_another_name(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "scan.npz", kspace=noise(2, 3, 5, 4))
    path = (tmp_path / "scan.npz").rename(tmp_path / "scan.data")
    assert arrays.read_scan(path).fully_sampled


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("a pickle was loaded",))

    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb()
    np.save(tmp_path / "a.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "b.npz", kspace=bomb)
    assert "damaged" in refused(tmp_path / "a.npy")
    assert "damaged" in refused(tmp_path / "b.npz")
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Bomb()))
    assert "damaged" in refused(tmp_path / "c.npy")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 3, 5, 4)), "not complex"),
        (np.ones((2, 3, 5, 4, 2), "f4"), "1j * kspace[..., 1]"),
        (noise(3, 5, 4), "wrong number of axes"),
        (noise(0, 3, 5, 4), "wrong number of axes"),
        (np.full((1, 1, 2, 2), np.nan, "c8"), "slice 0, field 'kspace': values are not finite"),
        (np.zeros((1, 1, 2, 2), "c8"), "all zero"),
    ],
)
def test_bad_arrays(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "scan.npy", array)
    assert message in refused(tmp_path / "scan.npy")
    np.savez(tmp_path / "scan.npz", kspace=array)
    assert message in refused(tmp_path / "scan.npz")


@pytest.mark.parametrize("mask", [np.ones(5), np.ones((4, 5)), np.full(4, 2), np.zeros(4)])
def test_bad_masks(tmp_path: Path, mask: np.ndarray) -> None:
    np.savez(tmp_path / "scan.npz", kspace=noise(2, 3, 5, 4), mask=mask)
    assert "field 'mask'" in refused(tmp_path / "scan.npz")


def test_npz_without_kspace(tmp_path: Path) -> None:
    np.savez(tmp_path / "scan.npz", image=np.ones(3))
    assert "field 'kspace': an array is missing (got image" in refused(tmp_path / "scan.npz")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".cfl"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.9])
def test_truncated(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"scan{suffix}"
    kspace = noise(2, 3, 5, 4)
    if suffix == ".cfl":
        bart_file(path, kspace[0].transpose(1, 2, 0)[:, :, None])
    else:
        save = np.save if suffix == ".npy" else np.savez
        save(path, **{"arr" if suffix == ".npy" else "kspace": kspace})
    whole = path.read_bytes()
    path.write_bytes(whole[: math.floor(len(whole) * kept)])
    refused(path)
