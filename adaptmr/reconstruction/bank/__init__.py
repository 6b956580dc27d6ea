"""The product's one artefact: J (mask, network) pairs, and all that chooses and judges."""
