"""Banks of lines and of points."""

from pathlib import Path

import pytest
from made_banks import Parts, make_bank, make_parts, make_scans

from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.persistence import load
from adaptmr.sampling.frame import Positions


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("lines")
    return make_parts(folder, make_scans(folder / "scans"), Positions.LINES)


@pytest.fixture(scope="session")
def points(tmp_path_factory: pytest.TempPathFactory, lines: Parts) -> Parts:
    return make_parts(tmp_path_factory.mktemp("points"), lines.scans, Positions.POINTS)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, lines: Parts) -> Path:
    return make_bank(tmp_path_factory.mktemp("bank") / "bank", lines)


@pytest.fixture(scope="session")
def bank(folder: Path) -> ReconstructionBank:
    return load(folder)


@pytest.fixture(scope="session")
def bank_of_points(tmp_path_factory: pytest.TempPathFactory, points: Parts) -> ReconstructionBank:
    return load(make_bank(tmp_path_factory.mktemp("bank") / "points", points))
