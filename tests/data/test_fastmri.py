import dataclasses
import hashlib
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from fastmri.data import SliceDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from made_scans import FULL_HEADER, made_scan

from adaptmr.data import fastmri
from adaptmr.data.header_xml import write_xml
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.data.target import image_size, with_target
from adaptmr.errors import BadInputError, UsageError


def written(tmp_path: Path, scan: Scan, name: str = "scan.h5") -> Path:
    path = tmp_path / name
    fastmri.write_scan(scan, path, overwrite=True)
    return path


def plain_file(path: Path, **datasets: object) -> Path:
    """A file made with h5py alone."""
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value
    return path


def complex_noise(*shape: int, dtype: str = "c8") -> np.ndarray:
    generator = np.random.default_rng(1)
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(dtype)


def assert_same(first: Scan, second: Scan) -> None:
    assert torch.equal(first.kspace[:], second.kspace[:])
    assert torch.equal(first.acquired, second.acquired)
    assert first.padding == second.padding
    assert (first.target is None) == (second.target is None)
    if first.target is not None and second.target is not None:
        assert torch.equal(first.target[:], second.target[:])
    assert first.maximum == second.maximum


@settings(max_examples=20, deadline=None)
@given(
    slices=st.integers(1, 3),
    coils=st.integers(1, 3),
    readout=st.integers(1, 13),
    phase=st.integers(1, 13),
    data=st.data(),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    slices: int,
    coils: int,
    readout: int,
    phase: int,
    data: st.DataObject,
) -> None:
    left = data.draw(st.integers(0, phase // 2))
    right = data.draw(st.integers(phase // 2 + 1, phase))
    flags = data.draw(st.lists(st.booleans(), min_size=phase, max_size=phase))
    flags[phase // 2] = True
    scan = made_scan(
        (slices, coils, readout, phase), acquired=torch.tensor(flags), padding=(left, right)
    )
    read = fastmri.read_scan(written(tmp_path_factory.mktemp("scan"), scan))
    assert_same(read, scan)
    assert read.acceleration == scan.acceleration
    filled = {"encoded_matrix", "recon_matrix", "phase_limits"}
    assert read.header.model_dump(exclude=filled) == FULL_HEADER.model_dump(exclude=filled)
    assert read.header.encoded_matrix == (readout, phase, 1)


def test_point_mask_and_noise_travel(tmp_path: Path) -> None:
    points = torch.rand(12, 9, generator=torch.Generator().manual_seed(3)) < 0.5
    noise = torch.randn(2, 100, dtype=torch.complex64, generator=torch.Generator().manual_seed(4))
    scan = made_scan(acquired=points, noise=noise, target=False)
    read = fastmri.read_scan(written(tmp_path, scan))
    assert_same(read, scan)
    assert read.noise is not None
    assert torch.equal(read.noise, noise)
    assert read.header.phase_axes == 2


def test_partial_echo_keeps_one_phase_axis(tmp_path: Path) -> None:
    points = torch.zeros(12, 9, dtype=torch.bool)
    points[3:, ::2] = True
    read = fastmri.read_scan(written(tmp_path, made_scan(acquired=points)))
    assert torch.equal(read.acquired, points)
    assert read.header.phase_axes == 1


def test_the_same_scan_gives_the_same_bytes(tmp_path: Path) -> None:
    scan = made_scan(padding=(1, 9))
    sums = {
        hashlib.sha256(written(tmp_path, scan, name).read_bytes()).hexdigest()
        for name in ("a.h5", "b.h5")
    }
    assert len(sums) == 1


def test_single_coil_layout(tmp_path: Path) -> None:
    scan = made_scan((3, 1, 10, 7))
    path = tmp_path / "single.h5"
    fastmri.write_single_coil_scan(scan, path)
    with h5py.File(path) as file:
        assert file["kspace"].shape == (3, 10, 7)
    assert fastmri.target_dataset(path) == "reconstruction_esc"
    assert_same(fastmri.read_scan(path), scan)


def test_single_coil_layout_refuses_coils(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="2 coils"):
        fastmri.write_single_coil_scan(made_scan(), tmp_path / "single.h5")


@pytest.mark.parametrize("challenge", ["multicoil", "singlecoil"])
def test_fastmri_reads_what_is_written(tmp_path: Path, challenge: str) -> None:
    phase, padding = 9, (1, 8)
    acquired = torch.arange(phase) % 2 == 0
    scan = made_scan((2, 1, 12, phase), acquired=acquired, padding=padding)
    write = fastmri.write_scan if challenge == "multicoil" else fastmri.write_single_coil_scan
    write(scan, tmp_path / "scan.h5")
    samples = list(SliceDataset(tmp_path, challenge))
    assert len(samples) == 2
    kspace, mask, target, attributes, name, index = samples[1]
    expected = scan.kspace[1] if challenge == "multicoil" else scan.kspace[1][0]
    np.testing.assert_array_equal(kspace, expected.numpy())
    np.testing.assert_array_equal(mask, scan.acquired.numpy())
    assert scan.target is not None
    np.testing.assert_array_equal(target, scan.target[1].numpy())
    assert (attributes["padding_left"], attributes["padding_right"]) == padding
    assert attributes["encoding_size"] == (12, phase, 1)
    assert attributes["acquisition"] == "AXT2"
    assert attributes["patient_id"] == "key-17"
    assert attributes["max"] == scan.maximum
    assert attributes["norm"] == pytest.approx(float(torch.linalg.vector_norm(scan.target[:])))
    assert (name, index) == ("scan.h5", 1)


def test_real_files_round_trip(shared_data: Path, tmp_path: Path) -> None:
    files = [*shared_data.glob("kspace/*.h5"), *shared_data.glob("undersampled/*.h5")]
    assert files
    for path in files:
        scan = fastmri.read_scan(path)
        with h5py.File(path) as file:
            np.testing.assert_array_equal(scan.kspace[:].numpy(), file["kspace"][()])
        read = fastmri.read_scan(written(tmp_path, scan))
        assert_same(read, scan)
        assert read.header == scan.header


def test_real_targets_are_the_root_sum_of_squares(shared_data: Path) -> None:
    for path in shared_data.glob("kspace/*.h5"):
        scan = fastmri.read_scan(path)
        made = with_target(dataclasses.replace(scan, target=None, maximum=None))
        assert scan.target is not None
        assert made.target is not None
        torch.testing.assert_close(
            made.target[:], scan.target[:], rtol=1e-4, atol=1e-6 * scan.maximum
        )


# Header traps


def header_file(path: Path, header: Header | bytes, shape: tuple[int, ...], **more: object) -> Path:
    text = header if isinstance(header, bytes) else write_xml(header, coils=1).encode()
    return plain_file(path, kspace=complex_noise(*shape), ismrmrd_header=np.bytes_(text), **more)


@settings(max_examples=25, deadline=None)
@given(phase=st.integers(2, 40), data=st.data())
def test_padding_is_fastmris(
    tmp_path_factory: pytest.TempPathFactory, phase: int, data: st.DataObject
) -> None:
    centre = data.draw(st.integers(0, phase // 2))
    maximum = data.draw(st.integers(0, phase - 1 - (phase // 2 - centre)))
    folder = tmp_path_factory.mktemp("scan")
    header = Header(encoded_matrix=(4, phase, 1), phase_limits=(0, centre, maximum))
    path = header_file(folder / "a.h5", header, (1, 1, 4, phase))
    scan = fastmri.read_scan(path)
    metadata = SliceDataset(folder, "multicoil").raw_samples[0].metadata
    assert scan.padding == (metadata["padding_left"], metadata["padding_right"])
    assert not scan.kspace[:][..., ~scan.encoded].any()
    assert scan.acceleration == 1


def test_fewer_columns_than_the_crop(tmp_path: Path) -> None:
    """fastMRI's FLAIR_203 files: 203 columns, crop to 320 x 320."""
    header = Header(encoded_matrix=(32, 20, 1), recon_matrix=(24, 24, 1))
    scan = fastmri.read_scan(header_file(tmp_path / "flair.h5", header, (1, 2, 32, 20)))
    assert image_size(scan) == (24, 20)
    target = with_target(scan).target
    assert target is not None
    assert target.shape == (1, 24, 20)


@pytest.mark.parametrize("told", [None, np.nan, -1.0, "large"])
def test_missing_maximum_is_the_targets(tmp_path: Path, told: object) -> None:
    path = written(tmp_path, made_scan())
    with h5py.File(path, "r+") as file:
        expected = file["reconstruction_rss"][()].max()
        del file.attrs["max"]
        if told is not None:
            file.attrs["max"] = told
    assert fastmri.read_scan(path).maximum == expected


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"",
        b"\xff\xfe",
        b"not xml",
        b"<ismrmrdHeader><encoding></ismrmrdHeader>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><ismrmrdHeader>&a;</ismrmrdHeader>',
        b"<a>" * 100_000,
        b"<ismrmrdHeader>" + b" " * 5_000_000 + b"</ismrmrdHeader>",
        b"<ismrmrdHeader><encoding><encodedSpace><matrixSize><x>many</x><y>9</y></matrixSize>"
        b"</encodedSpace></encoding></ismrmrdHeader>",
    ],
)
def test_unusable_header_means_explicit_defaults(
    tmp_path: Path, text: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    more = {} if text is None else {"ismrmrd_header": text}
    path = plain_file(tmp_path / "a.h5", kspace=complex_noise(2, 1, 4, 9), **more)
    scan = fastmri.read_scan(path)
    assert scan.header == Header()
    assert scan.padding == (0, 9)
    assert scan.fully_sampled
    assert "nothing but the matrix is known" in caplog.text


def test_only_allow_listed_fields_are_read(tmp_path: Path) -> None:
    identity = "Muster^Maria"
    xml = write_xml(Header(encoded_matrix=(4, 9, 1)), coils=1).replace(
        "<experimentalConditions>",
        f"<subjectInformation><patientName>{identity}</patientName></subjectInformation>"
        f"<measurementInformation><protocolName>{identity}</protocolName></measurementInformation>"
        "<experimentalConditions>",
    )
    path = header_file(tmp_path / "a.h5", xml.encode(), (1, 1, 4, 9), private=identity)
    scan = fastmri.read_scan(path)
    assert scan.header.encoded_matrix == (4, 9, 1)
    assert identity not in scan.header.model_dump_json()
    assert identity.encode() not in written(tmp_path, scan, "copy.h5").read_bytes()


# Normalised on reading


@pytest.mark.parametrize("dtype", ["<c8", "<c16", ">c8", ">c16"])
def test_any_complex_type_is_read_as_complex64(tmp_path: Path, dtype: str) -> None:
    kspace = complex_noise(2, 3, 4, 5, dtype=dtype)
    scan = fastmri.read_scan(plain_file(tmp_path / "a.h5", kspace=kspace))
    assert scan.kspace[:].dtype == torch.complex64
    np.testing.assert_array_equal(scan.kspace[:].numpy(), kspace.astype("c8"))


@pytest.mark.parametrize("dtype", ["bool", "u1", "i8", "f4"])
def test_mask_of_any_kind_hides_what_is_outside(tmp_path: Path, dtype: str) -> None:
    mask = np.array([1, 0, 1, 1, 0], dtype=dtype)
    path = plain_file(tmp_path / "a.h5", kspace=complex_noise(1, 2, 4, 5), mask=mask)
    scan = fastmri.read_scan(path)
    assert scan.acquired.tolist() == [True, False, True, True, False]
    assert not scan.kspace[:][..., ~scan.acquired].any()
    assert scan.kspace[:][..., scan.acquired].all()


def test_mask_of_whole_lines_is_lines(tmp_path: Path) -> None:
    mask = np.tile(np.array([1, 0, 1, 1, 0], dtype=bool), (4, 1))
    path = plain_file(tmp_path / "a.h5", kspace=complex_noise(1, 2, 4, 5), mask=mask)
    assert fastmri.read_scan(path).acquired.shape == (5,)


def test_scan_travels_to_other_processes(tmp_path: Path) -> None:
    path = written(tmp_path, made_scan())
    scan = fastmri.read_scan(path)
    copy = pickle.loads(pickle.dumps(scan.kspace))  # noqa: S301 - own bytes
    assert torch.equal(copy[1], scan.kspace[1])


# Bad input


def refused(path: Path, read: Callable[[Path], object] = fastmri.read_scan) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        scan = read(path)
        if isinstance(scan, Scan):
            for stack in (scan.kspace, scan.target):
                for _ in stack or ():
                    pass
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    assert not hasattr(caught.value, "filename")
    return caught.value


@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.9, 0.99, 0.999])
def test_truncated(tmp_path: Path, kept: float) -> None:
    path = written(tmp_path, made_scan())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert "truncated or damaged" in str(refused(path))


def test_zero_bytes(tmp_path: Path) -> None:
    path = tmp_path / "empty.h5"
    path.touch()
    assert "the file is empty (got 0 bytes)" in str(refused(path))


def test_missing(tmp_path: Path) -> None:
    assert "does not exist" in str(refused(tmp_path / "none.h5"))


def test_folder(tmp_path: Path) -> None:
    assert "not a file" in str(refused(tmp_path))


def test_not_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    path.write_text("Dear reader")
    assert "not an HDF5 file (got first bytes b'Dear rea'" in str(refused(path))


def test_no_kspace(tmp_path: Path) -> None:
    error = refused(plain_file(tmp_path / "a.h5", data=np.zeros(3)))
    assert error.field == "kspace"
    assert error.got == "data"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, complex(0, np.nan)])
def test_not_finite_names_the_slice(tmp_path: Path, value: complex) -> None:
    kspace = complex_noise(3, 2, 4, 5)
    kspace[1, 0, 2, 3] = value
    error = refused(plain_file(tmp_path / "a.h5", kspace=kspace))
    assert error.slice_index == 1
    assert error.field == "kspace"
    assert "1 NaN or infinite of 40" in str(error)


def test_too_large_for_complex64(tmp_path: Path) -> None:
    kspace = complex_noise(1, 1, 4, 5, dtype="c16")
    kspace[0, 0, 0, 0] = 1e300
    assert "not finite" in str(refused(plain_file(tmp_path / "a.h5", kspace=kspace)))


@pytest.mark.parametrize("shape", [(4, 5), (1, 1, 1, 4, 5)])
def test_wrong_rank(tmp_path: Path, shape: tuple[int, ...]) -> None:
    error = refused(plain_file(tmp_path / "a.h5", kspace=complex_noise(*shape)))
    assert "wrong number of axes" in str(error)
    assert str(shape) in str(error)


def test_no_slices(tmp_path: Path) -> None:
    path = plain_file(tmp_path / "a.h5", kspace=np.zeros((0, 2, 4, 5), "c8"))
    assert "less data than its shape says" in str(refused(path))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 5, 2)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_real_kspace(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    error = refused(plain_file(tmp_path / "a.h5", kspace=np.ones(shape, dtype)))
    assert error.field == "kspace"
    assert "1j * kspace[..., 1]" in str(error)


def test_named_real_and_imaginary_parts(tmp_path: Path) -> None:
    kspace = np.zeros((1, 1, 4, 5), dtype=[("real", "f4"), ("imag", "f4")])
    assert "1j * kspace['imag']" in str(refused(plain_file(tmp_path / "a.h5", kspace=kspace)))


@pytest.mark.parametrize("matrix", [(4, 8, 1), (5, 9, 1)])
def test_header_of_another_matrix(tmp_path: Path, matrix: tuple[int, int, int]) -> None:
    error = refused(header_file(tmp_path / "a.h5", Header(encoded_matrix=matrix), (1, 1, 4, 9)))
    assert error.field == "encodedSpace.matrixSize"
    assert error.got == matrix[:2]
    assert "(4, 9)" in str(error)


@pytest.mark.parametrize("limits", [(0, 5, 8), (0, 4, 9), (0, 0, 8), (3, 4, 2)])
def test_header_with_lines_outside(tmp_path: Path, limits: tuple[int, int, int]) -> None:
    header = Header(encoded_matrix=(4, 9, 1), phase_limits=limits)
    error = refused(header_file(tmp_path / "a.h5", header, (1, 1, 4, 9)))
    assert error.field == "encodingLimits.kspace_encoding_step_1"


@pytest.mark.parametrize("shape", [(8,), (10,), (9, 4), (1, 9), (1, 4, 9), ()])
def test_mask_of_another_size(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = plain_file(
        tmp_path / "a.h5", kspace=complex_noise(1, 1, 4, 9), mask=np.ones(shape, bool)
    )
    error = refused(path)
    assert error.field == "mask"
    assert str(shape) in str(error.got)
    assert "(9,) for lines or (4, 9) for points" in str(error)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full(9, 2), "other than 0 and 1"),
        (np.full(9, 0.5), "other than 0 and 1"),
        (np.full(9, np.nan), "other than 0 and 1"),
        (np.ones(9, "c8"), "other than 0 and 1"),
        (np.zeros(9, bool), "acquires nothing"),
    ],
)
def test_mask_that_is_none(tmp_path: Path, mask: np.ndarray, message: str) -> None:
    path = plain_file(tmp_path / "a.h5", kspace=complex_noise(1, 1, 4, 9), mask=mask)
    assert message in str(refused(path))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.ones((1, 4, 4), "f4"), "another number of slices"),
        (np.ones((2, 1, 4, 4), "f4"), "not magnitude images"),
        (np.ones((2, 4, 4), "c8"), "not magnitude images"),
        (np.full((2, 4, 4), np.nan, "f4"), "not finite"),
    ],
)
def test_bad_target(tmp_path: Path, target: np.ndarray, message: str) -> None:
    path = plain_file(
        tmp_path / "a.h5", kspace=complex_noise(2, 1, 4, 4), reconstruction_rss=target
    )
    error = refused(path)
    assert error.field == "reconstruction_rss"
    assert message in str(error)


def test_bad_noise(tmp_path: Path) -> None:
    path = plain_file(tmp_path / "a.h5", kspace=complex_noise(1, 1, 4, 4), noise=np.ones(4))
    assert refused(path).field == "noise"


def test_flipped_bytes_in_kspace_are_noticed(tmp_path: Path) -> None:
    path = written(tmp_path, made_scan())
    with h5py.File(path) as file:
        places = [
            file["kspace"].id.get_chunk_info(chunk).byte_offset
            for chunk in range(file["kspace"].id.get_num_chunks())
        ]
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for chunk, place in enumerate(places):
        damaged = bytearray(whole)
        damaged[place + int(generator.integers(12 * 9 * 8))] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        error = refused(path)
        assert "damaged" in str(error)
        assert error.slice_index == chunk // 2
        assert error.field == "kspace"


def test_half_written_data_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("kspace", (3, 2, 4, 5), "c8", chunks=(1, 2, 4, 5))
        data[0] = 1
    assert "less data than its shape says" in str(refused(path))


# Writing


def test_existing_output_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_text("old")
    with pytest.raises(BadInputError, match="exists already"):
        fastmri.write_scan(made_scan(), path)
    assert path.read_text() == "old"


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="cannot be written"):
        fastmri.write_scan(made_scan(), tmp_path / "file" / "a.h5")


def test_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    kspace = made_scan().kspace[:]
    kspace[2, 0, 0, 0] = np.nan
    scan = dataclasses.replace(made_scan(), kspace=Stack.of(kspace))
    with pytest.raises(BadInputError, match="slice 2"):
        fastmri.write_scan(scan, tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_contradictions_are_not_written(tmp_path: Path) -> None:
    wrong = made_scan(header=Header(encoded_matrix=(12, 10, 1)))
    with pytest.raises(BadInputError, match="disagrees"):
        fastmri.write_scan(wrong, tmp_path / "a.h5")
    with pytest.raises(BadInputError, match="padding covers the centre"):
        fastmri.write_scan(made_scan(padding=(5, 9)), tmp_path / "a.h5")


def test_extras(tmp_path: Path) -> None:
    labels = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    fastmri.write_scan(
        made_scan(),
        tmp_path / "a.h5",
        extra_datasets={"tissue": labels, "weights": np.arange(3.0)},
        extra_attributes={"lesion": 1, "sex": "female"},
    )
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["tissue"][()], labels)
        np.testing.assert_array_equal(file["weights"][()], np.arange(3.0))
        assert (file.attrs["lesion"], file.attrs["sex"]) == (1, "female")


@pytest.mark.parametrize(
    "extra", [{"extra_datasets": {"kspace": np.ones(1)}}, {"extra_attributes": {"max": 1.0}}]
)
def test_extras_do_not_replace_the_layout(tmp_path: Path, extra: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="defines these names itself"):
        fastmri.write_scan(made_scan(), tmp_path / "a.h5", **extra)  # type: ignore[arg-type]


# Submissions


def test_submission_round_trip(tmp_path: Path) -> None:
    images = torch.rand((3, 5, 4), generator=torch.Generator().manual_seed(0))
    path = tmp_path / "a.h5"
    fastmri.write_submission(path, images, attributes={"method": "zero-filled"})
    with h5py.File(path) as file:
        assert file["reconstruction"].dtype == np.float32
        np.testing.assert_array_equal(file["reconstruction"][()], images.numpy())
        assert file.attrs["method"] == "zero-filled"
    assert torch.equal(fastmri.read_images(path, "reconstruction")[:], images)
    fastmri.write_submission(path, Stack.of(images * 2), overwrite=True)
    assert torch.equal(fastmri.read_images(path, "reconstruction")[1], images[1] * 2)


def test_submission_refuses_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="one magnitude image per slice"):
        fastmri.write_submission(tmp_path / "a.h5", torch.ones(2, 2))
    with pytest.raises(BadInputError, match="slice 0, field 'reconstruction': values are not"):
        fastmri.write_submission(tmp_path / "a.h5", torch.full((1, 2, 2), torch.nan))
    assert list(tmp_path.iterdir()) == []


def test_target_dataset_of_files(tmp_path: Path) -> None:
    images = np.ones((1, 4, 4), "f4")
    both = {"reconstruction_rss": images, "reconstruction_esc": images}
    multi = plain_file(tmp_path / "m.h5", kspace=complex_noise(1, 1, 4, 4), **both)
    single = plain_file(tmp_path / "s.h5", kspace=complex_noise(1, 4, 4), **both)
    alone = plain_file(tmp_path / "t.h5", reconstruction_esc=images)
    assert fastmri.target_dataset(multi) == "reconstruction_rss"
    assert fastmri.target_dataset(single) == "reconstruction_esc"
    assert fastmri.target_dataset(alone) == "reconstruction_esc"
    bare = plain_file(tmp_path / "n.h5", kspace=complex_noise(1, 4, 4))
    assert "no reference images" in str(refused(bare, fastmri.target_dataset))
    assert with_target(fastmri.read_scan(bare)).target is not None


def test_undersampled_scan_has_no_reference(tmp_path: Path) -> None:
    scan = made_scan(acquired=torch.arange(9) % 2 == 0, target=False)
    with pytest.raises(BadInputError, match="no reference"):
        with_target(scan)


_READ = """
import resource, sys, torch
from pathlib import Path
from adaptmr.data.fastmri import read_scan
torch.set_num_threads(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scan = read_scan(Path(sys.argv[1]))
total = sum(kspace.nbytes for kspace in scan.kspace)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(total, (after - before) * 1024)
"""


@pytest.mark.slow
def test_two_gigabytes_are_read_with_flat_memory(tmp_path: Path) -> None:
    """On disk the volume is small: one slice's compressed bytes, written for every slice."""
    path = tmp_path / "large.h5"
    shape = (70, 16, 640, 372)
    assert np.prod(shape) * 8 > 2e9
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "kspace", shape, "c8", chunks=(1, 1, *shape[2:]), compression="gzip", compression_opts=1
        )
        data[0, 0] = np.full(shape[2:], 1 + 2j, "c8")
        mask, raw = data.id.read_direct_chunk((0, 0, 0, 0))
        for index in np.ndindex(shape[:2]):
            data.id.write_direct_chunk((*index, 0, 0), raw, mask)
    result = subprocess.run(
        [sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, check=True
    )
    total, extra = map(int, result.stdout.split())
    assert total == np.prod(shape) * 8
    assert extra < 500e6


def test_resident_size_is_in_kibibytes() -> None:
    """What the memory test above relies on."""
    assert sys.platform != "linux" or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 1024
