from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from adaptmr.data.anatomy.signal import Contrast, signals
from adaptmr.data.anatomy.tissue import Tissue
from adaptmr.data.anatomy.volumes import Volume, volume_paths
from adaptmr.errors import BadInputError


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def ball(size: int = 48, radius: float = 20.0) -> np.ndarray:
    axis = np.arange(size) - size / 2
    return np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2) < radius


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def still(volume: Volume) -> Volume:
    """The volume without pose and shape, so that points can be looked up by hand."""
    from dataclasses import replace

    deformation = replace(
        volume.deformation, matrix=np.eye(3), shift=np.zeros(3), amplitude=np.zeros(3)
    )
    return replace(volume, deformation=deformation)


def test_freesurfer_labels_become_tissues_with_their_signals(tmp_path: Path) -> None:
    labels = np.where(ball(), 2, 0).astype(np.int16)
    labels[20:28, 20:28, 20:28] = 43
    labels[ball(48, 23) & ~ball()] = 515
    volume = still(Volume.load(save(tmp_path / "labels.nii.gz", labels), rng()))
    tissue, weight = volume.sample(np.float32([[0, 15, 21.5, 60], [0] * 4, [0] * 4]))
    assert tissue.tolist() == [Tissue.CSF, Tissue.WHITE_MATTER, Tissue.BONE, Tissue.BACKGROUND]
    assert np.abs(weight - 1).max() < 0.2
    assert volume.contrasts is None
    table = volume.signals(Contrast.T2, 3.0)
    np.testing.assert_allclose(table, signals(Contrast.T2, 3.0), rtol=0.5, atol=0.02)


def test_the_affine_decides_where_points_are(tmp_path: Path) -> None:
    labels = np.where(ball(32, 14), 3, 0).astype(np.uint8)
    labels[:16] *= 2  # ours: 3 is white matter, 6 skin; first half along the first axis
    affine = np.array([[0, 0, 2.0, 7], [-2.0, 0, 0, 3], [0, 2.0, 0, -9], [0, 0, 0, 1]])
    volume = still(Volume.load(save(tmp_path / "a.nii", labels, affine), rng()))
    # The first axis runs towards the back, 2 mm a voxel.
    tissue, _ = volume.sample(np.float32([[0, 0], [10, -10], [0, 0]]))
    assert tissue.tolist() == [Tissue.SKIN, Tissue.WHITE_MATTER]
    low, high = volume.focus
    assert np.subtract(high, low).max() == pytest.approx(2 * 27, abs=4)


def test_an_image_keeps_its_magnitude_and_its_labels(tmp_path: Path) -> None:
    image = (ball() * np.linspace(500, 1500, 48)[:, None, None]).astype(np.uint16)
    image += (np.random.default_rng(0).integers(0, 40, image.shape) * ball()).astype(np.uint16)
    path = save(tmp_path / "sub-07_ses-2_T1w.nii.gz", image)
    save(tmp_path / "sub-07_ses-2_tissue.nii.gz", np.where(ball(), 2, 0).astype(np.uint8))
    tumour = np.zeros(image.shape, np.uint8)
    tumour[24:28, 24:28, 24:28] = 1
    tumour[24:28, 24:28, 28:30] = 2
    tumour[24:28, 24:28, 30:32] = 4
    save(tmp_path / "sub-07_ses-2_tumour.nii.gz", tumour)
    volume = still(Volume.load(path, rng()))
    assert volume.contrasts == (Contrast.T1,)
    assert volume.subject == "sub-07"
    assert set(np.unique(volume.tissue)) == {
        Tissue.BACKGROUND,
        Tissue.CORTEX,
        Tissue.NECROSIS,
        Tissue.OEDEMA,
        Tissue.TUMOUR,
    }
    assert (volume.signals(Contrast.T1, 3.0) == 1).all()
    tissue, weight = volume.sample(np.float32([[-10, 10, 100], [0] * 3, [-10] * 3]))
    assert tissue.tolist() == [Tissue.CORTEX, Tissue.CORTEX, Tissue.BACKGROUND]
    assert 1.2 < weight[1] / weight[0] < 2.2
    assert weight[2] == 0


def test_label_maps_beside_an_image_are_no_subjects(tmp_path: Path) -> None:
    values = ball(12, 5).astype(np.uint8)
    for name in ("a_T1w", "a_tissue", "a_brain", "b_FLAIR", "b_tumour", "labels_01"):
        save(tmp_path / f"{name}.nii.gz", values)
    (tmp_path / "notes.txt").write_text("not a volume")
    assert [path.name for path in volume_paths([tmp_path])] == [
        "a_T1w.nii.gz",
        "b_FLAIR.nii.gz",
        "labels_01.nii.gz",
    ]
    alone = tmp_path / "a_tissue.nii.gz"
    assert volume_paths([alone]) == (alone,)


def test_a_thin_slab_keeps_its_slices(tmp_path: Path) -> None:
    labels = np.zeros((90, 90, 10), np.uint8)
    labels[5:85, 5:85] = 3
    for seed in range(4):
        volume = Volume.load(save(tmp_path / f"{seed}.nii.gz", labels), np.random.default_rng(seed))
        place = np.zeros((3, 8), dtype=np.float32)
        place[2] = np.arange(8) - 3.5
        assert (volume.sample(place)[0] == Tissue.WHITE_MATTER).all()


def damaged(folder: Path) -> Path:
    path = save(
        folder / "cut_T1w.nii.gz",
        np.random.default_rng(0).integers(0, 4000, (24, 24, 24), np.int16),
    )
    path.write_bytes(path.read_bytes()[:3000])
    return path


def not_nifti(folder: Path) -> Path:
    path = folder / "text_T1w.nii.gz"
    path.write_text("hello")
    return path


def four_axes(folder: Path) -> Path:
    return save(folder / "four.nii", np.zeros((4, 4, 4, 3), np.float32))


def not_finite(folder: Path) -> Path:
    values = np.ones((6, 6, 6), np.float32)
    values[2, 2, 2] = np.nan
    return save(folder / "nan.nii", values)


def empty(folder: Path) -> Path:
    return save(folder / "empty.nii", np.zeros((6, 6, 6), np.uint8))


def unknown_labels(folder: Path) -> Path:
    return save(folder / "labels.nii", np.full((6, 6, 6), 9999, np.int16))


def negative_labels(folder: Path) -> Path:
    return save(folder / "labels.nii", np.full((6, 6, 6), -3, np.int16))


def fractional(folder: Path) -> Path:
    return save(folder / "x.nii", np.random.default_rng(0).uniform(0, 1, (9, 9, 9)).astype("f4"))


def mismatched(folder: Path) -> Path:
    save(folder / "m_labels.nii", np.ones((5, 5, 5), np.uint8))
    return save(
        folder / "m_T2w.nii", np.random.default_rng(0).uniform(0, 1, (9, 9, 9)).astype("f4")
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (damaged, "cannot be read"),
        (not_nifti, "cannot be read"),
        (four_axes, "not a volume of real numbers.*expected three axes"),
        (not_finite, "not finite"),
        (empty, "empty"),
        (unknown_labels, "unknown meaning.*9999"),
        (negative_labels, "unknown meaning.*-3"),
        (fractional, "contrast of this image is not told.*_T1w"),
        (mismatched, r"m_labels\.nii.*another size.*\(5, 5, 5\).*\(9, 9, 9\)"),
    ],
)
def test_bad_volumes_are_refused_by_name(make: object, message: str, tmp_path: Path) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(BadInputError, match=message) as caught:
        Volume.load(path, rng())
    assert "\n" not in str(caught.value)
    assert caught.value.file is not None


def test_bad_paths_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.nii.gz", tmp_path):
        with pytest.raises(BadInputError, match="NIfTI volume"):
            volume_paths([path])
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(BadInputError, match="not a NIfTI volume"):
        volume_paths([tmp_path / "a.png"])
