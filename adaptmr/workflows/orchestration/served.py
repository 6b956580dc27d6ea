"""What Dagster's server loads: the workflow of the folder that the environment names."""

from adaptmr.workflows.orchestration.definitions import served

defs = served()
