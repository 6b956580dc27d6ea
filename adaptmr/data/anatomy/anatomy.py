"""What the simulator asks of an anatomy: the parametric head and volumes alike."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adaptmr.data.anatomy.geometry import Array
from adaptmr.data.anatomy.signal import Contrast

Corners = tuple[tuple[float, float, float], tuple[float, float, float]]


class Anatomy(Protocol):
    """One subject, evaluated at points in mm about the centre of the field of view."""

    @property
    def focus(self) -> Corners:
        """Lowest and highest corner of what slices are spread over, mm."""
        ...

    @property
    def contrasts(self) -> tuple[Contrast, ...] | None:
        """The contrasts that it is an image of; None when it can be seen in any."""
        ...

    @property
    def subject(self) -> str | None:
        """Pseudonymous key, where it comes from a file."""
        ...

    @property
    def attributes(self) -> dict[str, str | float | int]:
        """What is known about the subject, for classification and regression."""
        ...

    def signals(self, contrast: Contrast, field_strength: float) -> NDArray[np.float32]:
        """Signal of each tissue, (tissues,), signed."""
        ...

    def sample(self, points: Array) -> tuple[NDArray[np.uint8], Array]:
        """Tissue (n,) and factor on its signal (n,) at (3, n) points in mm."""
        ...
