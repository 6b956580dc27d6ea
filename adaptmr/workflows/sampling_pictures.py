"""Pictures of samples, uncertainty and the choice among masks."""

from torch import Tensor

from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.decision import Decision
from adaptmr.workflows.report.figures import (
    kspace_picture,
    magnitude_picture,
    mask_picture,
    picture_row,
)

_UNCERTAINTY = "uncertainty (dB)"


def uncertainty_picture(low: Tensor, samples: Tensor, values: Tensor) -> bytes:
    """What is known of a slice, what it may look like, and where in k-space that differs.

    Args:
        low: (rows, columns) low-frequency image.
        samples: (n, rows, columns) samples in its units.
        values: (rows, columns) uncertainty.

    Returns:
        PNG.
    """
    window = (0.0, float(samples.max()))
    return picture_row(
        [
            ("low frequencies", magnitude_picture(low, window)),
            *(
                (f"sample {number}", magnitude_picture(sample, window))
                for number, sample in enumerate(samples)
            ),
            # The square root, as decibels of a variance are half those of a magnitude.
            (_UNCERTAINTY, kspace_picture(values.sqrt())),
        ]
    )


def choice_picture(low: Tensor, values: Tensor | None, bank: MaskBank, decision: Decision) -> bytes:
    """What a mask was chosen by, and among which.

    Args:
        low: (rows, columns) low-frequency image.
        values: (rows, columns) uncertainty; zero where it is not known, none where nobody asked.
        bank: the masks.
        decision: the choice.

    Returns:
        PNG, the chosen mask framed, each with its score.
    """
    titles = [
        f"mask {number}" if score is None else f"mask {number}: {score:.4g}"
        for number, score in enumerate(decision.scores)
    ]
    masks = [mask_picture(mask, bank.matrix[0]) for mask in bank.masks]
    evidence = [("low frequencies", magnitude_picture(low, (0.0, float(low.max()))))]
    if values is not None:
        evidence.append((_UNCERTAINTY, kspace_picture(values.sqrt())))
    return picture_row(
        [*evidence, *zip(titles, masks, strict=True)], framed=len(evidence) + decision.index
    )
