"""Gates: whether a candidate bank may take the place of the one that serves."""
