"""What all tests share."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the public MR data that lies beside the checkout; never committed."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared MR data are not beside this checkout (../shared/data)")
    return SHARED_DATA
