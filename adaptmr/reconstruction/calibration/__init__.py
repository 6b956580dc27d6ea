"""Calibrated uncertainty of an image: intervals and bounds that hold for a new subject."""
