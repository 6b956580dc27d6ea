"""Efficiency kernels: tensors in, tensors out, a plain-torch reference beside each."""
