"""Stages run by an engine: Dagster, in the process of the command unless told otherwise."""
