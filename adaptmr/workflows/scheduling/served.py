"""What Dagster's daemon loads: the schedules of the folder that the environment names."""

import os
from pathlib import Path

from adaptmr.workflows.scheduling.daemon import FOLDER, definitions

defs = definitions(Path(os.environ[FOLDER]))
