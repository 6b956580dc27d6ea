"""Folders of reconstructions against folders of targets, beside ``fastmri.evaluate``."""

import json
import re
from argparse import Namespace
from pathlib import Path

import h5py
import numpy as np
import pytest
from fastmri.evaluate import evaluate as fastmri_evaluate

from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.metrics import Crop, ProtocolName
from adaptmr.workflows.evaluation import Evaluation, evaluate

METRICS = ("nmse", "psnr", "ssim")
# skimage and NumPy 2 disagree inside fastmri.evaluate.
fastmri_warnings = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def write(path: Path, attributes: dict[str, object] | None = None, **datasets: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
        for name, value in (attributes or {}).items():
            file.attrs[name] = value


def pair(
    folder: Path,
    name: str,
    *,
    shape: tuple[int, int, int] = (3, 40, 32),
    dataset: str = "reconstruction_rss",
    attributes: dict[str, object] | None = None,
    seed: int = 0,
) -> None:
    generator = np.random.default_rng([seed, *map(ord, name)])
    target = generator.random(shape).astype("f4")
    noise = 0.1 * generator.standard_normal(shape)
    kspace = np.zeros((shape[0], 2, 8, 8) if dataset.endswith("rss") else (shape[0], 8, 8), "c8")
    write(folder / "targets" / name, attributes, **{dataset: target, "kspace": kspace + 1})
    write(folder / "predictions" / name, reconstruction=np.abs(target + noise).astype("f4"))


def evaluated(folder: Path, **arguments: object) -> Evaluation:
    return evaluate(folder / "predictions", folder / "targets", **arguments)


def assert_as_fastmri(
    folder: Path,
    ours: Evaluation,
    dataset: str = "reconstruction_rss",
    acquisition: str | None = None,
    acceleration: int | None = None,
) -> None:
    theirs = fastmri_evaluate(
        Namespace(
            target_path=folder / "targets",
            predictions_path=folder / "predictions",
            acquisition=acquisition,
            acceleration=acceleration,
        ),
        dataset,
    )
    means, deviations = theirs.means(), theirs.stddevs()
    for name in METRICS:
        # fastMRI's SSIM is an array of one number.
        mean, deviation = np.ravel(means[name.upper()])[0], np.ravel(deviations[name.upper()])[0]
        assert getattr(ours.mean, name) == pytest.approx(mean, abs=1e-6)
        assert getattr(ours.two_std, name) == pytest.approx(2 * deviation, abs=1e-6)


@fastmri_warnings
def test_same_as_fastmri_evaluate(tmp_path: Path) -> None:
    for index, shape in enumerate([(3, 40, 32), (1, 33, 33), (5, 64, 17), (2, 20, 20)]):
        pair(tmp_path, f"volume{index}.h5", shape=shape)
    ours = evaluated(tmp_path)
    assert_as_fastmri(tmp_path, ours)
    assert [volume.name for volume in ours.volumes] == [f"volume{i}.h5" for i in range(4)]
    assert ours.protocol == "fastmri-volume"
    assert not ours.excluded
    assert not ours.filtered


@fastmri_warnings
def test_single_coil_targets_as_fastmri(tmp_path: Path) -> None:
    for index in range(3):
        name = f"volume{index}.h5"
        pair(tmp_path, name, dataset="reconstruction_esc")
        with h5py.File(tmp_path / "targets" / name, "a") as file:  # single-coil files carry both
            file["reconstruction_rss"] = np.ones_like(file["reconstruction_esc"][()])
    assert_as_fastmri(tmp_path, evaluated(tmp_path), "reconstruction_esc")


@fastmri_warnings
@pytest.mark.parametrize(
    ("acquisition", "acceleration", "kept"),
    [("AXT2", None, 4), (None, 8, 3), ("AXT2", 8, 2), ("AXFLAIR", None, 2), (None, None, 6)],
)
def test_filters_as_fastmri(
    tmp_path: Path, acquisition: str | None, acceleration: int | None, kept: int
) -> None:
    for index in range(6):
        attributes = {
            "acquisition": "AXFLAIR" if index % 3 == 0 else "AXT2",
            "acceleration": 8 if index % 2 else 4,
        }
        pair(tmp_path, f"volume{index}.h5", attributes=attributes)
    ours = evaluated(tmp_path, acquisition=acquisition, acceleration=acceleration)
    assert len(ours.volumes) == kept
    assert len(ours.filtered) == 6 - kept
    assert not ours.excluded
    assert_as_fastmri(tmp_path, ours, acquisition=acquisition, acceleration=acceleration)


def test_a_file_that_does_not_say_is_filtered_with_the_reason(tmp_path: Path) -> None:
    pair(tmp_path, "silent.h5")
    pair(tmp_path, "bytes.h5", attributes={"acquisition": np.bytes_(b"AXT2")})
    pair(tmp_path, "other.h5", attributes={"acquisition": "AXT1"})
    ours = evaluated(tmp_path, acquisition="AXT2")
    assert [volume.name for volume in ours.volumes] == ["bytes.h5"]
    assert {entry.name: entry.reason for entry in ours.filtered} == {
        "other.h5": "its acquisition is AXT1",
        "silent.h5": "the file does not say its acquisition",
    }


@fastmri_warnings
def test_real_volumes_as_fastmri(tmp_path: Path, shared_data: Path) -> None:
    generator = np.random.default_rng(0)
    wide = []
    for path in sorted((shared_data / "kspace").glob("*.h5")):
        with h5py.File(path) as file:
            target = file["reconstruction_rss"][()]
        noise = 0.03 * target.max() * generator.standard_normal(target.shape)
        images = np.abs(0.97 * target + noise).astype("f4")
        if target.shape[-2] < target.shape[-1]:
            wide.append(path.name)  # fastMRI's evaluation raises ValueError on these
            write(tmp_path / "wide" / "predictions" / path.name, reconstruction=images)
            write(tmp_path / "wide" / "targets" / path.name, reconstruction_rss=target)
            continue
        write(tmp_path / "predictions" / path.name, reconstruction=images)
        write(tmp_path / "targets" / path.name, reconstruction_rss=target)
    ours = evaluated(tmp_path)
    assert len(ours.volumes) >= 5
    assert_as_fastmri(tmp_path, ours)
    assert {volume.crop for volume in ours.volumes} == {Crop.SQUARE}
    assert "brain_t2_1ch.h5" in wide
    for volume in evaluated(tmp_path / "wide").volumes:
        assert volume.crop is Crop.ALL_ROWS
        assert volume.size == (256, 340)
        assert volume.ssim < 1


def test_json_is_the_contract(tmp_path: Path) -> None:
    pair(tmp_path, "good.h5")
    pair(tmp_path, "bad.h5")
    (tmp_path / "predictions" / "bad.h5").unlink()
    ours = evaluated(tmp_path)
    plain = json.loads(ours.model_dump_json())
    assert set(plain) == {"protocol", "volumes", "mean", "two_std", "excluded", "filtered"}
    assert plain["protocol"] == "fastmri-volume"
    assert set(plain["volumes"][0]) >= {"name", "nmse", "psnr", "ssim", "crop"}
    assert plain["mean"] == {name: plain["volumes"][0][name] for name in METRICS}
    assert plain["two_std"] == {"nmse": None, "psnr": None, "ssim": None}
    assert set(plain["excluded"][0]) == {"name", "reason"}
    assert Evaluation.model_validate_json(ours.model_dump_json()) == ours


def spoil(folder: Path, name: str, how: str) -> None:
    prediction, target = folder / "predictions" / name, folder / "targets" / name
    images = np.random.default_rng(0).random((3, 40, 32)).astype("f4")
    match how:
        case "missing prediction":
            prediction.unlink()
        case "NaN":
            images[1, 2, 3] = np.nan
            write(prediction, reconstruction=images)
        case "slices":
            write(prediction, reconstruction=images[:2])
        case "shape":
            write(prediction, reconstruction=images[:, :20, :20])
        case "complex":
            write(prediction, reconstruction=images.astype("c8"))
        case "other dataset":
            write(prediction, images=images)
        case "zero target":
            write(target, reconstruction_rss=np.zeros_like(images))
        case "no target":
            write(target, kspace=np.ones((3, 1, 8, 8), "c8"))
        case "truncated":
            target.write_bytes(target.read_bytes()[:-500])
        case "empty":
            prediction.write_bytes(b"")
        case "not HDF5":
            prediction.write_bytes(b"hello world" * 100)
        case "no such target":
            target.unlink()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing prediction", "does not exist"),
        ("NaN", "finite|NaN"),
        ("slices", "different numbers of slices"),
        ("shape", "does not fit the target"),
        ("complex", "not magnitude"),
        ("other dataset", "reconstruction"),
        ("zero target", "no signal"),
        ("no target", "no reference images"),
        ("truncated", "damaged"),
        ("empty", "empty"),
        ("not HDF5", "not an HDF5 file"),
        ("no such target", "no target of this name"),
    ],
)
def test_a_bad_file_is_named_and_never_averaged_in(tmp_path: Path, how: str, reason: str) -> None:
    for name in ("a.h5", "b.h5", "c.h5"):
        pair(tmp_path, name)
    good = evaluated(tmp_path)
    spoil(tmp_path, "b.h5", how)
    ours = evaluated(tmp_path)
    assert [entry.name for entry in ours.excluded] == ["b.h5"]
    assert ours.excluded[0].reason.count("\n") == 0
    assert re.search(reason, ours.excluded[0].reason)
    kept = [volume for volume in good.volumes if volume.name != "b.h5"]
    assert list(ours.volumes) == kept
    assert ours.mean.ssim == pytest.approx(np.mean([volume.ssim for volume in kept]))


@pytest.mark.parametrize("side", ["predictions", "targets"])
def test_every_truncation_is_named(tmp_path: Path, side: str) -> None:
    pair(tmp_path, "a.h5")
    path = tmp_path / side / "a.h5"
    whole = path.read_bytes()
    for end in [0, 1, 7, 8, 100, *range(512, len(whole), len(whole) // 25), len(whole) - 1]:
        path.write_bytes(whole[:end])
        ours = evaluated(tmp_path)
        assert [entry.name for entry in ours.excluded] == ["a.h5"]
        assert "a.h5" in ours.excluded[0].reason
        assert not ours.volumes


def test_equal_images_give_json_without_infinity(tmp_path: Path) -> None:
    pair(tmp_path, "a.h5")
    pair(tmp_path, "b.h5")
    with h5py.File(tmp_path / "targets" / "a.h5") as file:
        write(tmp_path / "predictions" / "a.h5", reconstruction=file["reconstruction_rss"][()])
    ours = evaluated(tmp_path)
    assert ours.volumes[0].psnr is None
    # The mean is infinite too; it is not the mean of the others.
    assert ours.mean.psnr is None
    assert ours.mean.ssim is not None
    json.dumps(ours.model_dump(mode="json"), allow_nan=False)


def test_region_of_the_target_file(tmp_path: Path) -> None:
    pair(tmp_path, "a.h5")
    labels = np.zeros((3, 40, 32), "u1")
    labels[:, 15:25, 10:20] = 4
    with h5py.File(tmp_path / "targets" / "a.h5", "a") as file:
        file["labels"] = labels
    ours = evaluated(tmp_path, protocol=ProtocolName.REGION_VOLUME, region="labels")
    assert ours.volumes[0].share == pytest.approx(100 / 32**2)
    missing = evaluated(tmp_path, protocol=ProtocolName.REGION_VOLUME, region="lesions")
    assert "lesions" in missing.excluded[0].reason
    for arguments in ({"region": "labels"}, {"protocol": ProtocolName.REGION_VOLUME}):
        with pytest.raises(UsageError, match="go together"):
            evaluated(tmp_path, **arguments)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    pair(tmp_path, "a.h5")
    with pytest.raises(BadInputError, match="folder does not exist"):
        evaluate(tmp_path / "nowhere", tmp_path / "targets")
    with pytest.raises(BadInputError, match="folder does not exist"):
        evaluate(tmp_path / "predictions", tmp_path / "targets" / "a.h5")
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInputError, match="no targets"):
        evaluate(tmp_path / "predictions", tmp_path / "none")


def test_what_is_no_scan_beside_the_targets_is_left_alone(tmp_path: Path) -> None:
    pair(tmp_path, "a.h5")
    (tmp_path / "targets" / "README.md").write_text("notes")
    (tmp_path / "targets" / ".a.h5.partial.h5").write_bytes(b"")
    ours = evaluated(tmp_path)
    assert len(ours.volumes) == 1
    assert not ours.excluded


def test_filters_that_leave_nothing_leave_no_mean(tmp_path: Path) -> None:
    pair(tmp_path, "a.h5", attributes={"acquisition": "AXT2"})
    ours = evaluated(tmp_path, acquisition="AXT1")
    assert ours.volumes == ()
    assert ours.mean.ssim is None
    assert len(ours.filtered) == 1
