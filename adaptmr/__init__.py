"""adaptmr: adaptive MR acquisition, and reconstruction by networks that keep learning."""

__version__ = "0.1.0"
