import hashlib
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import fastmri
import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
from fastmri.data import SliceDataset
from fastmri.data.transforms import center_crop
from pydantic import ValidationError

from adaptmr.data.anatomy.signal import Contrast
from adaptmr.data.anatomy.tissue import LESIONS, Tissue
from adaptmr.data.fastmri import read_scan
from adaptmr.data.scan import Orientation
from adaptmr.data.simulation import (
    SimulationConfig,
    simulate,
    simulate_scan,
)
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier

TINY = SimulationConfig(
    subjects=3, seed=11, matrix=(36, 30), slices=2, coils=3, tumour_probability=0.5
)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def but(**changes: object) -> SimulationConfig:
    return SimulationConfig.model_validate({**TINY.model_dump(), **changes})


def test_files_are_the_same_bytes_whatever_else_is_made(tmp_path: Path) -> None:
    both = but(contrasts=(Contrast.FLAIR, Contrast.T2))
    first = list(simulate(both, tmp_path / "a"))
    again = list(simulate(but(contrasts=(Contrast.T2,), subjects=2), tmp_path / "b"))
    assert [path.name for path in first] == [
        f"sim_s11_{subject:04d}_AX{contrast}.h5"
        for subject in range(3)
        for contrast in ("FLAIR", "T2")
    ]
    hashes = {path.name: sha(path) for path in first}
    assert len(set(hashes.values())) == len(first)
    for path in again:
        assert sha(path) == hashes[path.name]


def test_one_subject_alone_is_the_one_in_the_file(tmp_path: Path) -> None:
    path = list(simulate(TINY, tmp_path))[2]
    scan, truth = simulate_scan(TINY, 2)
    stored = read_scan(path)
    assert torch.equal(stored.kspace[:], scan.kspace[:])
    assert stored.header == scan.header
    assert stored.padding == scan.padding
    with h5py.File(path) as file:
        for name, values in truth.datasets.items():
            np.testing.assert_array_equal(file[name][()], values)
        for name, value in truth.attributes.items():
            assert file.attrs[name] == value


def test_another_seed_is_another_head() -> None:
    one, other = simulate_scan(TINY, 0), simulate_scan(but(seed=12), 0)
    assert (one[1].datasets["labels"] != other[1].datasets["labels"]).mean() > 0.02
    assert not torch.equal(one[0].kspace[:], other[0].kspace[:])


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the state that must not be touched
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr] # noqa: NPY002
    simulate_scan(TINY, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index] # noqa: NPY002


def test_memory_stays_flat(tmp_path: Path) -> None:
    config = but(subjects=12, matrix=(16, 16), slices=1, coils=2)
    peaks = []
    tracemalloc.start()
    try:
        for _ in simulate(config, tmp_path):
            peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert peaks[-1] < peaks[2] + 2**20


def test_fastmri_reads_the_files(tmp_path: Path) -> None:
    config = but(subjects=2, readout_oversampling=2, phase_resolution=0.8, field_of_view=(240, 200))
    files = list(simulate(config, tmp_path))
    dataset = SliceDataset(root=tmp_path, challenge="multicoil")
    assert len(dataset) == 4
    kspace, mask, target, attributes, name, index = dataset[3]
    assert name == files[1].name
    assert index == 1
    assert mask is None
    assert kspace.shape == (3, 72, 30)
    assert attributes["encoding_size"] == (72, 30, 1)
    assert attributes["recon_size"] == (36, 30, 1)
    assert (attributes["padding_left"], attributes["padding_right"]) == (3, 27)
    assert attributes["acquisition"] == "AXT2"
    assert attributes["max"] == pytest.approx(max(dataset[k][2].max() for k in (2, 3)))
    image = fastmri.ifft2c(torch.view_as_real(torch.from_numpy(kspace)))
    expected = fastmri.rss(fastmri.complex_abs(image))
    np.testing.assert_allclose(center_crop(expected, (36, 30)), target, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("matrix", [(36, 30), (33, 35), (24, 41)])
@pytest.mark.parametrize("oversampling", [1, 2])
def test_target_truth_and_labels_lie_on_each_other(
    matrix: tuple[int, int], oversampling: int
) -> None:
    config = but(
        matrix=matrix, readout_oversampling=oversampling, snr=1e6, contrasts=("PD",), slices=1
    )
    scan, truth = simulate_scan(config, 1)
    assert scan.target is not None
    target = scan.target[0].numpy()
    np.testing.assert_allclose(target, truth.datasets["ground_truth"][0], atol=1e-3)
    # The label map's outline fits the image's better than when it is moved by a pixel.
    inside = truth.datasets["labels"][0] > 0
    shown = target > 0.25 * np.percentile(target, 95)

    def agreement(rows: int, columns: int) -> float:
        return float((np.roll(inside, (rows, columns), (0, 1)) == shown).mean())

    best = agreement(0, 0)
    assert best > 0.9
    for move in ((2, 0), (-2, 0), (0, 2), (0, -2)):
        assert agreement(*move) < best


def test_images_are_complex_and_kspace_is_not_hermitian() -> None:
    scan, _ = simulate_scan(but(matrix=(35, 33), snr=1e6, slices=1), 0)
    kspace = scan.kspace[0]
    mirror = kspace.flip((-2, -1)).conj()
    for own, other in zip(kspace, mirror, strict=True):
        # Hermitian up to a constant phase would be magnitude data in disguise.
        likeness = torch.vdot(own.flatten(), other.flatten()).abs() / own.norm() ** 2
        assert likeness < 0.95
    image = inverse_fourier(kspace)
    assert float(torch.angle(image[image.abs() > 0.3 * image.abs().max()]).std()) > 0.2


@pytest.mark.parametrize("snr", [5.0, 40.0])
def test_snr_is_as_stated(snr: float) -> None:
    config = but(matrix=(64, 64), coils=4, snr=snr)
    noisy, truth = simulate_scan(config, 0)
    clean, _ = simulate_scan(config.model_copy(update={"snr": 1e9}), 0)
    noise = (noisy.kspace[:] - clean.kspace[:]).transpose(0, 1).flatten(1)
    deviation = float(noise.real.square().mean().sqrt())
    assert deviation == pytest.approx(truth.attributes["noise_deviation"], rel=0.03)
    image = truth.datasets["ground_truth"]
    visible = image > 0.06 * image.max()
    assert image[visible].mean() / deviation == pytest.approx(snr, rel=0.15)
    # The noise scan has the covariance of the noise in the scan.
    assert noisy.noise is not None
    measured, prescan = (values @ values.mH / values.shape[1] for values in (noise, noisy.noise))
    assert float((measured - prescan).norm() / measured.norm()) < 0.2
    off = measured - torch.diag(torch.diag(measured))
    assert float(off.abs().max()) > 0.03 * float(torch.diag(measured).real.mean())


def test_the_noise_is_independent_between_slices_and_contrasts() -> None:
    config = but(matrix=(48, 48), contrasts=("T2", "PD"))

    def noise(contrast: Contrast) -> torch.Tensor:
        noisy, _ = simulate_scan(config, 0, contrast)
        clean, _ = simulate_scan(config.model_copy(update={"snr": 1e9}), 0, contrast)
        return torch.nn.functional.normalize((noisy.kspace[:] - clean.kspace[:]).flatten(1), dim=1)

    rows = torch.cat([noise(Contrast.T2), noise(Contrast.PD)])
    likeness = (rows @ rows.mH).abs() - torch.eye(4)
    assert float(likeness.max()) < 0.06


def test_partial_fourier_padding_and_lost_lines_are_what_the_file_says(tmp_path: Path) -> None:
    config = but(
        subjects=1, matrix=(32, 40), phase_resolution=0.8, partial_fourier=0.75, dropped_lines=0.2
    )
    (path,) = simulate(config, tmp_path)
    scan = read_scan(path)
    assert scan.padding == (12, 36)
    assert scan.header.phase_limits == (0, 8, 23)
    assert int(scan.acquired.sum()) == 24 - round(0.2 * 24)
    assert not scan.fully_sampled
    # The scan in memory is as empty there as the file, whose door would empty it.
    assert torch.equal(scan.kspace[:], simulate_scan(config, 0)[0].kspace[:])
    kspace = scan.kspace[:]
    measured = (kspace != 0).all(dim=2).all(dim=1).all(dim=0)
    assert torch.equal(measured, scan.acquired)
    assert (kspace[..., ~scan.acquired] == 0).all()
    with h5py.File(path) as file:
        target, truth = file["reconstruction_rss"][()], file["ground_truth"][()]
    assert np.linalg.norm(target - truth) > 0.05 * np.linalg.norm(truth)


def test_readout_oversampling_widens_the_field_of_view() -> None:
    plain, _ = simulate_scan(but(snr=1e9), 0)
    wide, _ = simulate_scan(but(snr=1e9, readout_oversampling=2), 0)
    assert wide.matrix == (72, 30)
    assert wide.header.encoded_field_of_view == (460.0, 230.0, 5.0)
    assert wide.header.recon_field_of_view == plain.header.recon_field_of_view
    assert plain.target is not None
    assert wide.target is not None
    assert float((plain.target[:] - wide.target[:]).norm() / plain.target[:].norm()) < 0.05


def test_gibbs_ringing_is_real() -> None:
    # The scan of a finer matrix, cut to the coarse one, is the coarse scan: nothing aliases.
    coarse, _ = simulate_scan(but(matrix=(32, 32), snr=1e9), 0)
    fine, _ = simulate_scan(but(matrix=(64, 64), snr=1e9), 0)
    cut = fine.kspace[:][..., 16:48, 16:48] / 2
    assert float((cut - coarse.kspace[:]).norm() / cut.norm()) < 0.12


@pytest.mark.parametrize("contrast", list(Contrast))
def test_the_header_tells_the_truth(contrast: Contrast) -> None:
    scan, _ = simulate_scan(
        but(field_strength=1.5, slice_thickness=4, slice_spacing=6), 1, contrast
    )
    header = scan.header
    assert header.acquisition == f"AX{contrast}"
    assert header.subject == "sim-11-0001"
    assert header.encoded_matrix == (36, 30, 1)
    assert header.recon_field_of_view == (230.0, 230.0, 4.0)
    assert header.field_strength == 1.5
    assert header.phase_limits == (0, 15, 29)
    times = {
        Contrast.T1: (250, 2.5, None, 70),
        Contrast.T1POST: (250, 2.5, None, 70),
        Contrast.T2: (6000, 100, None, 90),
        Contrast.FLAIR: (9000, 90, 2500, 90),
        Contrast.PD: (3500, 15, None, 90),
    }
    told = (header.repetition_time, header.echo_time, header.inversion_time, header.flip_angle)
    assert told == times[contrast]


@pytest.mark.parametrize(
    ("orientation", "prefix"), [("axial", "AX"), ("sagittal", "SAG"), ("coronal", "COR")]
)
def test_orientations(orientation: str, prefix: str) -> None:
    scan, truth = simulate_scan(but(orientation=orientation, slices=3, matrix=(48, 48)), 0)
    assert scan.header.acquisition == f"{prefix}T2"
    assert scan.header.orientation == Orientation(orientation).value
    labels = truth.datasets["labels"]
    eyes = np.argwhere(labels == Tissue.EYE)
    if orientation == "sagittal":
        neck = labels[1, -3:]
        assert (neck > 0).mean() > 0.2  # the neck is at the bottom, air at the top
        assert (labels[:, :2] == 0).all()
        assert len(eyes) == 0 or eyes[:, 2].mean() < 24  # the front is on the left
    if orientation == "axial" and len(eyes):
        assert eyes[:, 1].mean() < 24  # the front is at the top


def test_lesions_appear_in_the_labels_if_and_only_if_asked_for() -> None:
    base = {"matrix": (64, 64), "slices": 8}
    for subject in range(3):
        healthy = but(**base, white_matter_lesions=False, tumour_probability=0.0)
        _, truth = simulate_scan(healthy, subject)
        assert not truth.datasets["lesions"].any()
        assert (truth.attributes["lesion"], truth.attributes["tumour"]) == (0, 0)
        assert truth.attributes["lesion_volume_ml"] == 0
        _, truth = simulate_scan(but(**base, tumour_probability=1.0), subject)
        labels, lesions = truth.datasets["labels"], truth.datasets["lesions"]
        assert (truth.attributes["lesion"], truth.attributes["tumour"]) == (1, 1)
        assert truth.attributes["lesion_volume_ml"] > 1
        for number, tissue in enumerate(LESIONS, start=1):
            np.testing.assert_array_equal(lesions == number, labels == tissue)


def test_an_existing_file_is_kept_unless_allowed(tmp_path: Path) -> None:
    config = but(subjects=1)
    (path,) = simulate(config, tmp_path)
    before = sha(path)
    with pytest.raises(BadInputError, match="exists already"):
        list(simulate(config, tmp_path))
    assert list(simulate(config, tmp_path, overwrite=True)) == [path]
    assert sha(path) == before
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "wrong",
    [
        {"coils": 33},
        {"coils": 0},
        {"snr": 0},
        {"field_strength": 7.0},
        {"matrix": (4, 32)},
        {"partial_fourier": 0.4},
        {"contrasts": ()},
        {"contrasts": ("T9",)},
        {"tissue": 1},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        but(**wrong)


def make_label_map(folder: Path) -> Path:
    axis = np.arange(60) - 30.0
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2)
    labels = np.select([radius < 8, radius < 18, radius < 22, radius < 25], [4, 2, 3, 24], 0)
    path = folder / "labels_07.nii.gz"
    nib.save(nib.Nifti1Image(labels.astype(np.int16), np.diag([3.0, 3.0, 3.0, 1.0])), path)
    return path


def make_image(folder: Path) -> Path:
    axis = np.arange(60) - 30.0
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2)
    image = np.where(radius < 25, 3000 - 40 * radius + 500 * np.sin(axis / 4), 0)
    path = folder / "sub-05_ses-1_FLAIR.nii.gz"
    nib.save(nib.Nifti1Image(image.astype(np.uint16), np.diag([3.0, 3.0, 3.0, 1.0])), path)
    tumour = np.where(radius < 6, 4, 0).astype(np.uint8)
    nib.save(
        nib.Nifti1Image(tumour, np.diag([3.0, 3.0, 3.0, 1.0])),
        folder / "sub-05_ses-1_tumour.nii.gz",
    )
    return path


@pytest.mark.parametrize("make", [make_label_map, make_image])
def test_volumes_take_the_heads_place(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    config = but(subjects=2, anatomy=(tmp_path,), matrix=(40, 40), slices=3, snr=200)
    files = list(simulate(config, tmp_path / "out"))
    image = path.name.startswith("sub")
    contrast = "FLAIR" if image else "T2"
    assert [file.name for file in files] == [f"sim_s11_000{k}_AX{contrast}.h5" for k in range(2)]
    scans = [read_scan(file) for file in files]
    # Both are of one person, in different poses.
    assert {scan.header.subject for scan in scans} == {"sub-05" if image else "labels_07"}
    assert not torch.equal(scans[0].kspace[:], scans[1].kspace[:])
    assert (scans[0].header.echo_time is None) == image
    with h5py.File(files[0]) as file:
        labels = file["labels"][()]
        assert file.attrs["anatomy"] == path.name
        assert file.attrs["tumour"] == int(image)
    expected = {0, 14} if image else {0, 1, 2, 3}
    assert set(np.unique(labels)) == expected
    target = scans[0].target
    assert target is not None
    middle = target[1].numpy()
    assert middle[labels[1] > 0].mean() > 5 * middle[:4, :4].mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "acquisition", "tissues"),
    [
        ("anatomy/labels_03.nii.gz", "AXT2", {1, 2, 3, 4, 5, 6, 7, 8}),
        ("anatomy/head_T1w.nii.gz", "AXT1", {1, 2, 3, 4}),
        ("brains/sub-01_ses-1_T1w.nii.gz", "AXT1", {1, 2, 3, 4}),
        ("tumours/sub-01_FLAIR.nii.gz", "AXFLAIR", {13, 14, 15}),
    ],
)
def test_real_heads(
    name: str, acquisition: str, tissues: set[int], shared_data: Path, tmp_path: Path
) -> None:
    config = SimulationConfig(subjects=1, slices=8, coils=4, anatomy=(shared_data / name,))
    (path,) = simulate(config, tmp_path)
    scan = read_scan(path)
    assert scan.header.acquisition == acquisition
    with h5py.File(path) as file:
        labels = file["labels"][()]
        truth = file["ground_truth"][()]
    assert tissues <= set(np.unique(labels).tolist())
    # Every slice shows something, and no slice is another's copy.
    assert (truth.reshape(8, -1).max(1) > 0.1 * truth.max()).all()
    for above, below in pairwise(truth):
        assert np.linalg.norm(above - below) > 0.01 * np.linalg.norm(above)


@pytest.mark.slow
def test_a_hundred_volumes_in_flat_memory(tmp_path: Path) -> None:
    config = but(subjects=100, matrix=(16, 16), slices=1, coils=2)
    held = []
    tracemalloc.start()
    try:
        for path in simulate(config, tmp_path):
            held.append(tracemalloc.get_traced_memory()[0])
            path.unlink()
    finally:
        tracemalloc.stop()
    assert len(held) == 100
    assert max(held[50:]) < max(held[:10]) + 2**20
