"""Reconstruction networks and their files."""
