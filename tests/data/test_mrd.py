import dataclasses
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ismrmrd import constants, xsd
from made_scans import FULL_HEADER, made_scan

from adaptmr.data import fastmri, mrd, mrd_lines
from adaptmr.data.header_xml import write_xml
from adaptmr.data.scan import Header, Stack
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier

COILS, READOUT, PHASE, SLICES = 2, 8, 6, 3


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(np.complex64)


def line(data: np.ndarray, column: int, slice_index: int = 0, **fields: int) -> ismrmrd.Acquisition:
    """One acquisition as the ismrmrd package makes it; ``fields`` go to counters or the header."""
    acquisition = ismrmrd.Acquisition.from_array(data, center_sample=data.shape[1] // 2)
    acquisition.idx.kspace_encode_step_1 = column
    acquisition.idx.slice = slice_index
    for name, value in fields.items():
        if name == "flag":
            acquisition.set_flag(value)
        elif hasattr(acquisition.idx, name):
            setattr(acquisition.idx, name, value)
        else:
            setattr(acquisition._head, name, value)
    return acquisition


def xml(**changes: object) -> str:
    header = Header(
        encoded_matrix=(READOUT, PHASE, 1),
        recon_matrix=(READOUT, PHASE, 1),
        encoded_field_of_view=(300.0, 200.0, 5.0),
        recon_field_of_view=(300.0, 200.0, 5.0),
    ).model_copy(update=changes)
    return write_xml(header, coils=COILS)


def file_of(path: Path, lines: list[ismrmrd.Acquisition], text: str | None = None) -> Path:
    """A file written by the ismrmrd package."""
    with ismrmrd.Dataset(path, mode="w") as file:
        file.write_xml_header((text or xml()).encode())
        for acquisition in lines:
            file.append_acquisition(acquisition)
    return path


def volume_lines(kspace: np.ndarray, **fields: int) -> list[ismrmrd.Acquisition]:
    return [
        line(np.ascontiguousarray(kspace[index, :, :, column]), column, index, **fields)
        for column in range(kspace.shape[3])
        for index in range(kspace.shape[0])
    ]


# Out and in


@settings(max_examples=20, deadline=None)
@given(
    slices=st.integers(1, 3),
    coils=st.integers(1, 3),
    readout=st.integers(1, 9),
    phase=st.integers(1, 9),
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
    padding = (
        data.draw(st.integers(0, phase // 2)),
        data.draw(st.integers(phase // 2 + 1, phase)),
    )
    flags = data.draw(st.lists(st.booleans(), min_size=phase, max_size=phase))
    flags[phase // 2] = True
    scan = made_scan(
        (slices, coils, readout, phase),
        acquired=torch.tensor(flags),
        padding=padding,
        noise=torch.from_numpy(noise(coils, 5000)),
    )
    path = tmp_path_factory.mktemp("scan") / "scan.mrd"
    mrd.write_scan(scan, path)
    read = mrd.read_scan(path)
    assert torch.equal(read.kspace[:], scan.kspace[:])
    assert torch.equal(read.acquired, scan.acquired)
    assert read.padding == padding
    assert read.noise is not None
    assert scan.noise is not None
    assert torch.equal(read.noise, scan.noise)
    filled = {"encoded_matrix", "recon_matrix", "phase_limits"}
    assert read.header.model_dump(exclude=filled) == FULL_HEADER.model_dump(exclude=filled)
    assert pickle.loads(pickle.dumps(read.kspace))[0].shape == scan.kspace[0].shape  # noqa: S301


@pytest.mark.parametrize("slices", [1, 4, 5])
def test_three_dimensional_round_trip(tmp_path: Path, slices: int) -> None:
    points = torch.rand(8, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    scan = made_scan((slices, 2, 8, 7), acquired=points, padding=(0, 6))
    scan = dataclasses.replace(scan, header=FULL_HEADER.model_copy(update={"phase_axes": 2}))
    path = tmp_path / "scan.mrd"
    mrd.write_scan(scan, path)
    read = mrd.read_scan(path)
    torch.testing.assert_close(read.kspace[:], scan.kspace[:], rtol=1e-5, atol=1e-5)
    assert torch.equal(read.acquired, scan.acquired)
    assert read.padding == scan.padding
    assert read.header.phase_axes == 2
    assert read.header.encoded_matrix == (8, 7, slices)
    assert read.header.recon_field_of_view == FULL_HEADER.recon_field_of_view


def test_real_files_round_trip(shared_data: Path, tmp_path: Path) -> None:
    files = [*shared_data.glob("kspace/*.h5"), *shared_data.glob("undersampled/*.h5")]
    assert files
    for path in files:
        scan = fastmri.read_scan(path)
        mrd.write_scan(scan, tmp_path / "scan.mrd", overwrite=True)
        read = mrd.read_scan(tmp_path / "scan.mrd")
        assert torch.equal(read.kspace[:], scan.kspace[:])
        assert torch.equal(read.acquired, scan.acquired)
        assert read.header == scan.header


def test_ismrmrd_reads_what_is_written(tmp_path: Path) -> None:
    acquired = torch.arange(9) % 2 == 0
    scan = made_scan((2, 2, 12, 9), acquired=acquired, padding=(1, 9), noise=torch.ones(2, 10) * 1j)
    path = tmp_path / "scan.mrd"
    mrd.write_scan(scan, path)
    with ismrmrd.Dataset(path, mode="r") as file:
        header = xsd.CreateFromDocument(file.read_xml_header())
        lines = [file.read_acquisition(n) for n in range(file.number_of_acquisitions())]
    limits = header.encoding[0].encodingLimits.kspace_encoding_step_1
    assert header.encoding[0].trajectory is xsd.trajectoryType.CARTESIAN
    assert (limits.minimum, limits.center, limits.maximum) == (0, 3, 7)
    assert header.encoding[0].encodingLimits.slice.maximum == 1
    assert header.acquisitionSystemInformation.receiverChannels == 2
    assert lines[0].is_flag_set(constants.ACQ_IS_NOISE_MEASUREMENT)
    np.testing.assert_array_equal(lines[0].data, np.full((2, 10), 1j))
    columns = [2, 4, 6, 8]
    assert [entry.idx.kspace_encode_step_1 for entry in lines[1:]] == [1, 3, 5, 7] * 2
    assert [entry.idx.slice for entry in lines[1:]] == [0] * 4 + [1] * 4
    for entry, (index, column) in zip(
        lines[1:], [(i, c) for i in range(2) for c in columns], strict=True
    ):
        np.testing.assert_array_equal(entry.data, scan.kspace[index][:, :, column].numpy())
        assert entry.center_sample == 6
        assert entry.is_flag_set(constants.ACQ_FIRST_IN_SLICE) == (column == 2)
        assert entry.is_flag_set(constants.ACQ_LAST_IN_SLICE) == (column == 8)
        assert tuple(entry.slice_dir) == (0, 0, 1)
        assert entry.isChannelActive(1)
        assert not entry.isChannelActive(2)
    assert lines[-1].is_flag_set(constants.ACQ_LAST_IN_MEASUREMENT)


def test_points_of_a_two_dimensional_scan_are_refused(tmp_path: Path) -> None:
    points = torch.rand(12, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    with pytest.raises(BadInputError, match=r"cannot be acquired as lines.*fastMRI HDF5"):
        mrd.write_scan(made_scan(acquired=points), tmp_path / "scan.mrd")
    assert list(tmp_path.iterdir()) == []


def test_partial_echo_round_trip(tmp_path: Path) -> None:
    points = torch.zeros(12, 9, dtype=torch.bool)
    points[3:, ::2] = True
    scan = made_scan(acquired=points)
    mrd.write_scan(scan, tmp_path / "scan.mrd")
    read = mrd.read_scan(tmp_path / "scan.mrd")
    assert torch.equal(read.kspace[:], scan.kspace[:])
    assert torch.equal(read.acquired, points)


def test_existing_and_unwritable_outputs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(BadInputError, match="exists already"):
        mrd.write_scan(made_scan(), path)
    with pytest.raises(BadInputError, match="cannot be written"):
        mrd.write_scan(made_scan(), path / "scan.mrd")
    assert path.read_text() == "old"


# In, as others write it


def test_what_ismrmrd_writes_is_read(tmp_path: Path) -> None:
    kspace = noise(SLICES, COILS, READOUT, PHASE)
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", volume_lines(kspace)))
    np.testing.assert_array_equal(scan.kspace[:].numpy(), kspace)
    np.testing.assert_array_equal(scan.kspace[1].numpy(), kspace[1])
    assert scan.fully_sampled
    assert scan.padding == (0, PHASE)
    assert scan.noise is None
    assert scan.header.encoded_field_of_view == (300.0, 200.0, 5.0)


def test_partial_fourier_stands_where_it_belongs(tmp_path: Path) -> None:
    """Four of six lines, the centre is step 1: columns 2 to 5 exist."""
    kspace = noise(1, COILS, READOUT, 4)
    path = file_of(tmp_path / "a.h5", volume_lines(kspace), xml(phase_limits=(0, 1, 3)))
    scan = mrd.read_scan(path)
    assert scan.padding == (2, 6)
    np.testing.assert_array_equal(scan.kspace[0][:, :, 2:].numpy(), kspace[0])
    assert not scan.kspace[0][:, :, :2].any()
    assert scan.acceleration == 1


def test_undersampled_lines(tmp_path: Path) -> None:
    kspace = noise(2, COILS, READOUT, PHASE)
    lines = [entry for entry in volume_lines(kspace) if entry.idx.kspace_encode_step_1 % 2]
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", lines))
    assert scan.acquired.tolist() == [False, True] * 3
    assert scan.acceleration == 2
    np.testing.assert_array_equal(scan.kspace[1][..., 1::2].numpy(), kspace[1][..., 1::2])


def test_partial_echo_is_placed_by_its_centre(tmp_path: Path) -> None:
    kspace = noise(1, COILS, 6, PHASE)
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", volume_lines(kspace, center_sample=2)))
    assert scan.matrix == (READOUT, PHASE)
    np.testing.assert_array_equal(scan.kspace[0][:, 2:].numpy(), kspace[0])
    assert scan.acquired.shape == (READOUT, PHASE)
    assert scan.acquired[2:].all()
    assert not scan.acquired[:2].any()


def test_discarded_samples_are_left_out(tmp_path: Path) -> None:
    kspace = noise(1, COILS, READOUT + 3, PHASE)
    lines = volume_lines(kspace, discard_pre=2, discard_post=1, center_sample=READOUT // 2 + 2)
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", lines))
    np.testing.assert_array_equal(scan.kspace[0].numpy(), kspace[0][:, 2:-1])


def test_oversampling_is_kept(tmp_path: Path) -> None:
    kspace = noise(1, COILS, READOUT, PHASE)
    text = xml(recon_matrix=(READOUT // 2, PHASE, 1), recon_field_of_view=(150.0, 200.0, 5.0))
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", volume_lines(kspace), text))
    assert scan.matrix == (READOUT, PHASE)
    assert scan.header.recon_matrix == (READOUT // 2, PHASE, 1)


def test_oversampling_that_the_scanner_removed(tmp_path: Path) -> None:
    kspace = noise(1, COILS, READOUT // 2, PHASE)
    text = xml(recon_matrix=(READOUT // 2, PHASE, 1), recon_field_of_view=(150.0, 200.0, 5.0))
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", volume_lines(kspace), text))
    np.testing.assert_array_equal(scan.kspace[:].numpy(), kspace)
    assert scan.header.encoded_matrix == (READOUT // 2, PHASE, 1)
    assert scan.header.encoded_field_of_view == (150.0, 200.0, 5.0)


def test_reversed_lines_are_turned(tmp_path: Path) -> None:
    kspace = noise(1, COILS, READOUT, PHASE)
    lines = [
        line(
            np.ascontiguousarray(kspace[0, :, ::-1, column]), column, flag=constants.ACQ_IS_REVERSE
        )
        if column % 2
        else line(np.ascontiguousarray(kspace[0, :, :, column]), column)
        for column in range(PHASE)
    ]
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", lines))
    np.testing.assert_array_equal(scan.kspace[:].numpy(), kspace)


def test_averages_are_averaged(tmp_path: Path) -> None:
    first, second = noise(1, COILS, READOUT, PHASE), noise(1, COILS, READOUT, PHASE, seed=1)
    lines = volume_lines(first) + volume_lines(second, average=1)
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", lines))
    np.testing.assert_allclose(scan.kspace[:].numpy(), (first + second) / 2, rtol=1e-6)


def test_noise_is_scaled_to_the_bandwidth_of_the_image(tmp_path: Path) -> None:
    kspace, samples = noise(1, COILS, READOUT, PHASE), noise(COILS, 50)
    flag = constants.ACQ_IS_NOISE_MEASUREMENT
    lines = [line(samples, 0, flag=flag, sample_time_us=8), *volume_lines(kspace, sample_time_us=2)]
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", lines))
    assert scan.noise is not None
    np.testing.assert_allclose(scan.noise.numpy(), 2 * samples, rtol=1e-6)
    np.testing.assert_array_equal(scan.kspace[:].numpy(), kspace)


@pytest.mark.parametrize(
    "flag",
    [
        constants.ACQ_IS_NAVIGATION_DATA,
        constants.ACQ_IS_DUMMYSCAN_DATA,
        constants.ACQ_IS_RTFEEDBACK_DATA,
        constants.ACQ_IS_HPFEEDBACK_DATA,
        constants.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
        constants.ACQ_IS_PARALLEL_CALIBRATION,
    ],
)
def test_lines_that_are_no_image_are_left_out(tmp_path: Path, flag: int) -> None:
    kspace = noise(1, COILS, READOUT, PHASE)
    lines = [*volume_lines(kspace), line(noise(COILS, READOUT, seed=2), 0, flag=flag)]
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", lines))
    np.testing.assert_array_equal(scan.kspace[:].numpy(), kspace)


def test_embedded_calibration_lines_count(tmp_path: Path) -> None:
    kspace = noise(1, COILS, READOUT, PHASE)
    lines = volume_lines(kspace)
    for entry in lines[::2]:
        entry.set_flag(constants.ACQ_IS_PARALLEL_CALIBRATION)
    text = xml().replace(
        "</encoding>",
        "<parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1>"
        "<kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>"
        "<calibrationMode>embedded</calibrationMode></parallelImaging></encoding>",
    )
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", lines, text))
    np.testing.assert_array_equal(scan.kspace[:].numpy(), kspace)
    assert mrd.read_scan(file_of(tmp_path / "b.h5", lines)).acceleration == 2


def test_three_dimensional_lines_become_slices_along_the_readout(tmp_path: Path) -> None:
    """An object made in image space; its readout is twofold oversampled."""
    partitions = 5
    wanted = torch.from_numpy(noise(READOUT // 2, COILS, PHASE, partitions))
    padded = torch.zeros(READOUT, COILS, PHASE, partitions, dtype=torch.complex64)
    padded[READOUT // 4 : -READOUT // 4] = wanted
    lines_data = fourier(padded, dims=(0,)).numpy()
    lines = [
        line(lines_data[:, :, column, part].T.copy(), column, kspace_encode_step_2=part)
        for column in range(PHASE)
        for part in range(partitions)
        if (column, part) != (0, 0)
    ]
    text = write_xml(
        Header(
            encoded_matrix=(READOUT, PHASE, partitions),
            recon_matrix=(READOUT // 2, PHASE, partitions),
        ),
        coils=COILS,
        partition_limits=(0, 2, 4),
    )
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", lines, text))
    wanted[:, :, 0, 0] = 0
    torch.testing.assert_close(scan.kspace[:], wanted, rtol=1e-5, atol=1e-5)
    assert scan.header.phase_axes == 2
    assert int((~scan.acquired).sum()) == 1
    assert not scan.acquired[0, 0]


@pytest.mark.parametrize(
    ("direction", "orientation"),
    [((0.1, 0.2, -0.9), "axial"), ((1, 0, 0), "sagittal"), ((0, -1, 0), "coronal")],
)
def test_orientation_is_told_by_the_slice_direction(
    tmp_path: Path, direction: tuple[float, float, float], orientation: str
) -> None:
    lines = volume_lines(noise(1, COILS, READOUT, PHASE))
    for entry in lines:
        entry.slice_dir[:] = direction
    assert mrd.read_scan(file_of(tmp_path / "a.h5", lines)).header.orientation == orientation


def test_only_allow_listed_fields_travel(tmp_path: Path) -> None:
    identity = "Muster^Maria"
    text = xml().replace(
        "<acquisitionSystemInformation>",
        f"<subjectInformation><patientName>{identity}</patientName></subjectInformation>"
        f"<measurementInformation><protocolName>{identity}</protocolName></measurementInformation>"
        f"<acquisitionSystemInformation><institutionName>{identity}</institutionName>",
    )
    path = file_of(tmp_path / "a.h5", volume_lines(noise(1, COILS, READOUT, PHASE)), text)
    assert identity.encode() in path.read_bytes()
    scan = mrd.read_scan(path)
    assert identity not in scan.header.model_dump_json()
    for write in (mrd.write_scan, fastmri.write_scan):
        write(scan, tmp_path / "copy.h5", overwrite=True)
        assert identity.encode() not in (tmp_path / "copy.h5").read_bytes()


def test_protocols_of_fastmri_are_acquisitions(tmp_path: Path) -> None:
    text = xml().replace(
        "<acquisitionSystemInformation>",
        "<measurementInformation><protocolName>AXFLAIR</protocolName></measurementInformation>"
        "<acquisitionSystemInformation>",
    )
    path = file_of(tmp_path / "a.h5", volume_lines(noise(1, COILS, READOUT, PHASE)), text)
    assert mrd.read_scan(path).header.acquisition == "AXFLAIR"


# Bad input


def refused(path: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        for _ in mrd.read_scan(path).kspace:
            pass
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_real_spiral_is_refused_by_name(shared_data: Path) -> None:
    message = refused(shared_data / "raw" / "spiral_mrd.h5")
    assert "not Cartesian (got spiral; expected cartesian)" in message


@pytest.mark.parametrize("trajectory", ["epi", "radial", "goldenangle", "spiral", "other", ""])
def test_other_trajectories_are_refused(tmp_path: Path, trajectory: str) -> None:
    text = xml().replace(">cartesian<", f">{trajectory}<")
    path = file_of(tmp_path / "a.h5", volume_lines(noise(1, COILS, READOUT, PHASE)), text)
    assert "not Cartesian" in refused(path)


Change = Callable[[list[ismrmrd.Acquisition]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[0].set_flag(constants.ACQ_IS_PHASECORR_DATA), "phase-correction"),
        (lambda lines: lines[0].set_flag(constants.ACQ_COMPRESSION1), "compressed"),
        (lambda lines: setattr(lines[0].idx, "contrast", 1), "'contrast'.*not of one volume"),
        (lambda lines: setattr(lines[0].idx, "repetition", 1), "'repetition'.*not of one volume"),
        (lambda lines: setattr(lines[0].idx, "phase", 1), "'phase'.*not of one volume"),
        (lambda lines: setattr(lines[0].idx, "set", 1), "'set'.*not of one volume"),
        (lambda lines: setattr(lines[0]._head, "encoding_space_ref", 1), "'encoding_space_ref'"),
        (
            lambda lines: setattr(lines[0].idx, "kspace_encode_step_1", 6),
            "positions 0 to 6; expected 0 to 5",
        ),
        (lambda lines: setattr(lines[0].idx, "kspace_encode_step_2", 1), "encode_step_2"),
        (lambda lines: setattr(lines[0]._head, "center_sample", 7), "outside the encoded matrix"),
        (lambda lines: lines.pop(), "slice 1: the slices were sampled differently"),
        (lambda lines: lines.clear(), "acquisitions|'data'"),
        (lambda lines: lines[1].data.fill(np.nan), "slice 1, .*NaN or infinite"),
        (lambda lines: lines[0].resize(READOUT, COILS + 1), "'active_channels'"),
        (
            lambda lines: [entry.set_flag(constants.ACQ_IS_NOISE_MEASUREMENT) for entry in lines],
            "no imaging lines",
        ),
    ],
)
def test_bad_lines(tmp_path: Path, change: Change, message: str) -> None:
    lines = volume_lines(noise(2, COILS, READOUT, PHASE))
    change(lines)
    path = file_of(tmp_path / "a.h5", lines)
    with pytest.raises(BadInputError, match=message):
        for _ in mrd.read_scan(path).kspace:
            pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("broken", "header cannot be read"),
        (xml().replace("<x>8</x>", "<x>0</x>"), "no matrix size"),
        (
            xml().replace("</ismrmrdHeader>", "<encoding></encoding></ismrmrdHeader>"),
            "several encoding spaces",
        ),
    ],
)
def test_bad_headers(tmp_path: Path, text: str, message: str) -> None:
    path = file_of(tmp_path / "a.h5", volume_lines(noise(1, COILS, READOUT, PHASE)), text)
    assert message in refused(path)


def test_other_layouts(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = np.ones(3)
    assert "0 groups" in refused(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["dataset/xml"] = np.array([xml().encode()])
        file["dataset/data"] = np.ones(3)
    assert "wrong layout" in refused(tmp_path / "b.h5")


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, kept: float) -> None:
    path = file_of(tmp_path / "a.h5", volume_lines(noise(1, COILS, READOUT, PHASE)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert "truncated" in refused(path) or "empty" in refused(path)


def test_volume_is_read_slice_by_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kspace = noise(SLICES, COILS, READOUT, PHASE)
    scan = mrd.read_scan(file_of(tmp_path / "a.h5", volume_lines(kspace)))
    read: list[int] = []
    original = mrd_lines.read_lines

    def counted(path: Path, data: object, numbers: np.ndarray, coils: int) -> list[np.ndarray]:
        read.append(len(numbers))
        return original(path, data, numbers, coils)

    monkeypatch.setattr(mrd_lines, "read_lines", counted)
    _ = scan.kspace[1]
    assert read == [PHASE]


def test_target_is_left_out(tmp_path: Path) -> None:
    scan = made_scan()
    mrd.write_scan(scan, tmp_path / "a.mrd")
    assert mrd.read_scan(tmp_path / "a.mrd").target is None


def test_stack_of_written_scan_is_read_once_per_slice(tmp_path: Path) -> None:
    scan = made_scan()
    ranges: list[tuple[int, int]] = []

    def watched(start: int, stop: int) -> torch.Tensor:
        ranges.append((start, stop))
        return scan.kspace.read(start, stop)

    watched_scan = dataclasses.replace(scan, kspace=Stack(scan.kspace.shape, watched))
    mrd.write_scan(watched_scan, tmp_path / "a.mrd")
    assert ranges == [(0, 1), (1, 2), (2, 3)]


_READ = """
import resource, sys, torch
from pathlib import Path
from adaptmr.data.mrd import read_scan
torch.set_num_threads(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(kspace.nbytes for kspace in read_scan(Path(sys.argv[1])).kspace)
print(total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_memory_stays_flat(tmp_path: Path) -> None:
    """HDF5 once kept the samples of every line whose header was read."""
    shape = (20, 16, 320, 186)
    kspace = Stack(shape, lambda start, stop: torch.ones((stop - start, *shape[1:])) * 1j)
    scan = dataclasses.replace(
        made_scan((1, 1, *shape[2:]), target=False, header=Header()), kspace=kspace
    )
    mrd.write_scan(scan, tmp_path / "a.mrd")
    result = subprocess.run(
        [sys.executable, "-c", _READ, str(tmp_path / "a.mrd")],
        capture_output=True,
        text=True,
        check=True,
    )
    total, extra = map(int, result.stdout.split())
    assert total == math.prod(shape) * 8
    assert extra < total / 2
