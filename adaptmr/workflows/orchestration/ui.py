"""Dagster's pages of a workflow, on this machine only: there is no login."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from adaptmr.workflows.orchestration.definitions import FOLDER
from adaptmr.workflows.orchestration.run import home
from adaptmr.workflows.stages.plan import opened

HOST: Final = "127.0.0.1"
_SERVED: Final = "adaptmr.workflows.orchestration.served"


def serve(out: Path, port: int) -> int:
    """Serve the pages until the server is stopped.

    Args:
        out: folder of a workflow that was run, or begun, before.
        port: of this machine.

    Returns:
        The exit code of the server.

    Raises:
        BadInputError: there is no workflow in the folder.
    """
    out = out.absolute()
    opened(out)
    command = [sys.executable, "-m", "dagster_webserver", "--host", HOST, "--port", str(port)]
    environment = {**os.environ, "DAGSTER_HOME": str(home(out)), FOLDER: str(out)}
    served = ["--module-name", _SERVED]
    return subprocess.run([*command, *served], env=environment, check=False).returncode  # noqa: S603
