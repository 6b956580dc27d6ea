"""Masks learned jointly with a reconstruction network: the baselines that selection must beat."""
