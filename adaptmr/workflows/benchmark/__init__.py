"""Whether adaptive selection pays: every way to choose a mask, measured on the same slices."""
