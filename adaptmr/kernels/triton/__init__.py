"""Triton paths of the kernels, imported only where they run: triton is an extra.

Complex numbers enter as pairs of floats. The same code runs on CPU tensors in triton's
interpreter, which is how it is tested without a GPU.
"""
