"""Which positions of k-space to acquire, and how uncertain we are."""
