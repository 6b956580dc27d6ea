"""Stages that read, compute, write and report: what the commands call."""
