"""Labels of scans: the classes and numbers that tasks are given."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from pydantic import TypeAdapter

from adaptmr.data.annotations import (
    Annotation,
    LabelMap,
    ParticipantClass,
    ParticipantNumber,
    Presence,
    Share,
    annotated,
)
from adaptmr.data.fastmri import read_scan, write_scan
from adaptmr.data.participants import Part, Participants
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.errors import BadInputError

SIZE = (2, 4, 5)
LABELS = np.zeros(SIZE, dtype=np.uint8)
LABELS[0, 1, 1:4] = (1, 2, 3)
LABELS[0, 2, 1:3] = 12
TABLE = Participants(
    {"a": Part.TRAINING}, {"sex": {"a": "F"}, "age": {"a": "31"}, "site": {}}, Path("table.tsv")
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "scan.h5", "w") as stream:
        stream["labels"] = LABELS
        stream["blurred"] = LABELS.astype(np.float32)
    return tmp_path / "scan.h5"


def _of(annotation: Annotation, file: Path, size: tuple[int, int, int] = SIZE) -> np.ndarray:
    return annotated(annotation, file, size, "a", TABLE)


def test_classes_of_pixels(file: Path) -> None:
    found = _of(LabelMap(classes=((1, 2), (12,))), file)
    assert found.dtype == np.int64
    assert found[0, 1].tolist() == [0, 1, 1, 0, 0]
    assert found[0, 2].tolist() == [0, 2, 2, 0, 0]
    assert not found[1].any()


def test_presence_needs_enough_pixels(file: Path) -> None:
    assert _of(Presence(numbers=(12,)), file).tolist() == [1, 0]
    assert _of(Presence(numbers=(12,), pixels=3), file).tolist() == [0, 0]


def test_share(file: Path) -> None:
    """One pixel of three; of nothing there is no share, and it counts as none."""
    assert _of(Share(numbers=(1,), among=(1, 2, 3)), file) == pytest.approx([1 / 3, 0])


def test_what_the_table_says(file: Path) -> None:
    assert _of(ParticipantClass(column="sex", classes=("M", "F")), file).tolist() == [1, 1]
    assert _of(ParticipantNumber(column="age"), file).tolist() == [31, 31]


def test_all_slices_together(file: Path) -> None:
    def whole(annotation: Annotation) -> np.ndarray:
        return annotated(annotation, file, SIZE, "a", TABLE, whole=True)

    assert whole(Presence(numbers=(12,), pixels=2)) == 1
    assert whole(Presence(numbers=(12,), pixels=3)) == 0
    assert whole(Share(numbers=(12,), among=(1, 2, 3, 12))) == pytest.approx(2 / 5)
    assert whole(ParticipantNumber(column="age")) == 31
    assert whole(ParticipantClass(column="sex", classes=("M", "F"))).shape == ()


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (LabelMap(dataset="lesions", classes=((1,),)), "'lesions': a dataset is missing"),
        (LabelMap(dataset="blurred", classes=((1,),)), "float32 of shape.*whole numbers"),
        (ParticipantClass(column="sex"), "'F' for a; expected 0, 1"),
        (ParticipantNumber(column="sex"), "'F' for a; expected a number"),
        (ParticipantNumber(column="site"), "does not know this of a subject"),
    ],
)
def test_what_cannot_be_used(file: Path, annotation: Annotation, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        _of(annotation, file)


def test_labels_of_another_size(file: Path) -> None:
    with pytest.raises(BadInputError, match=r"shape \(2, 4, 5\).*shape \(2, 5, 4\)"):
        _of(Presence(numbers=(1,)), file, (2, 5, 4))


def test_kinds_are_told_apart() -> None:
    adapter: TypeAdapter[Annotation] = TypeAdapter(Annotation)
    for each in (Presence(numbers=(1,)), Share(numbers=(1,), among=(1, 2))):
        assert adapter.validate_python(each.model_dump(mode="json")) == each


def test_simulated_labels_lie_where_the_image_has_them(tmp_path: Path) -> None:
    """In T2 contrast fluid is brighter than white matter: moved labels would mix the two."""
    config = SimulationConfig(subjects=1, seed=5, matrix=(64, 48), slices=2, coils=3, snr=100)
    (path,) = simulate(config, tmp_path)
    scan = read_scan(path)
    assert scan.target is not None
    labels = annotated(LabelMap(classes=((1,), (3,))), path, scan.target.shape, "", TABLE)
    image = scan.target[:].numpy()
    fluid, white = image[labels == 1].mean(), image[labels == 2].mean()
    moved = np.roll(labels, 5, axis=1)
    assert fluid > 1.8 * white
    assert image[moved == 1].mean() < 0.85 * fluid


def test_labels_survive_writing_a_scan_again(tmp_path: Path, file: Path) -> None:
    config = SimulationConfig(subjects=1, seed=5, matrix=(24, 24), slices=2, coils=1)
    (path,) = simulate(config, tmp_path)
    labels = annotated(LabelMap(classes=((3,),)), path, (2, 24, 24), "", TABLE)
    again = tmp_path / "again.h5"
    scan = replace(read_scan(path), name=again.name)
    write_scan(scan, again, extra_datasets={"labels": labels.astype(np.uint8)})
    assert np.array_equal(
        annotated(LabelMap(classes=((1,),)), again, (2, 24, 24), "", TABLE), labels
    )
