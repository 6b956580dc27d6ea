"""Training of any reconstructor that is a module."""
