"""Configuration files and what is said about wrong ones."""

from pathlib import Path

import pytest

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.reconstruction.training.config import TrainConfig
from adaptmr.workflows.config import load_config

GOOD = """\
data: scans
architecture: {kind: varnet, cascades: 4}
masks:
  - {kind: random, acceleration: 4}
  - {kind: equispaced-fraction, acceleration: 8, center_fraction: 0.04}
epochs: 7
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "train.yaml"


def test_a_good_file_becomes_the_model(file: Path) -> None:
    file.write_text(GOOD)
    config = load_config(file, TrainConfig)
    assert config.architecture == VarNetConfig(cascades=4)
    assert config.masks[1].center_fraction == 0.04
    assert (config.epochs, config.data) == (7, Path("scans"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs", "epoch"), r"field 'epoch': .*unknown key.*Did you mean 'epochs'\?"),
        (("cascades", "cascade"), r"'architecture.varnet.cascade'.*Did you mean 'cascades'\?"),
        (("center_fraction", "centre_fraction"), r"'masks.1.centre_fraction'.*'center_fraction'\?"),
        (("epochs", "workrs"), r"field 'workrs'.*Did you mean 'workers'"),
        (("data: scans\n", ""), r"field 'data'.*got nothing.*Add this key"),
        (("epochs: 7", "epochs: many"), r"field 'epochs'.*got 'many'.*valid integer"),
        (("kind: varnet", "kind: varnt"), r"field 'architecture'.*'unet', 'varnet'"),
        (("kind: random", "kind: rando"), r"field 'masks.0.kind'.*got 'rando'.*'random'"),
        (("epochs: 7", "epochs: 0"), r"field 'epochs'.*greater than 0"),
    ],
)
def test_the_first_problem_is_named(file: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    file.write_text(GOOD.replace(*change))
    with pytest.raises(BadInputError, match=message) as caught:
        load_config(file, TrainConfig)
    assert caught.value.file == file
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "- 1\n- 2\n", "key: [1, 2\n", "just text"])
def test_a_file_without_keys_and_values_is_refused(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(BadInputError, match=r"train.yaml: the configuration"):
        load_config(file, TrainConfig)


def test_a_missing_file_and_one_that_is_not_text_are_refused(file: Path) -> None:
    with pytest.raises(BadInputError, match=r"cannot be read.*No such file"):
        load_config(file, TrainConfig)
    file.write_bytes(b"\xff\xfe\x00data")
    with pytest.raises(BadInputError, match="not YAML"):
        load_config(file, TrainConfig)
