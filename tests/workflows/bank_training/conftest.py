"""Scans that banks are trained on."""

from pathlib import Path

import pytest
from made_training import make_scans


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``train`` and ``calibration``."""
    return make_scans(tmp_path_factory.mktemp("bank") / "scans")
