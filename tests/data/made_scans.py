"""Scans made of random numbers, for the tests of the doors."""

from typing import Any

import torch

from adaptmr.data.scan import Header, Scan, Stack

FULL_HEADER = Header(
    acquisition="AXT2",
    subject="key-17",
    encoded_field_of_view=(440.0, 220.0, 5.0),
    recon_field_of_view=(220.0, 220.0, 5.0),
    field_strength=2.89,
    repetition_time=6000.0,
    echo_time=113.0,
    inversion_time=100.0,
    flip_angle=150.0,
    orientation="axial",
)


def made_scan(
    shape: tuple[int, int, int, int] = (3, 2, 12, 9),
    *,
    acquired: torch.Tensor | None = None,
    padding: tuple[int, int] | None = None,
    header: Header = FULL_HEADER,
    target: bool = True,
    seed: int = 0,
    **more: Any,
) -> Scan:
    """A scan of complex noise; zero outside ``acquired`` and in the padding."""
    slices, _, readout, phase = shape
    generator = torch.Generator().manual_seed(seed)
    kspace = torch.randn(shape, dtype=torch.complex64, generator=generator)
    padding = padding or (0, phase)
    inside = torch.zeros(phase, dtype=torch.bool)
    inside[padding[0] : padding[1]] = True
    acquired = inside.clone() if acquired is None else acquired & inside
    images = torch.rand((slices, readout, phase), generator=generator)
    return Scan(
        name="made.h5",
        kspace=Stack.of(torch.where(acquired, kspace, torch.zeros(()))),
        acquired=acquired,
        padding=padding,
        header=header,
        target=Stack.of(images) if target else None,
        maximum=float(images.max()) if target else None,
        **more,
    )
