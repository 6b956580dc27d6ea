"""What the tests of the continual training share."""

from pathlib import Path

import pytest
from made_studies import make_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study of simulated heads."""
    return make_study(tmp_path_factory.mktemp("study"))
