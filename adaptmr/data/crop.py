"""Centre crops, placed as fastMRI places them."""

from torch import Tensor


def center_crop(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The centre of the last two axes; an axis shorter than asked for is left whole.

    Args:
        image: (..., rows, columns).
        size: rows and columns to keep.

    Returns:
        (..., min(rows, size[0]), min(columns, size[1])), a view.
    """
    rows, columns = (min(have, want) for have, want in zip(image.shape[-2:], size, strict=True))
    top, left = (image.shape[-2] - rows) // 2, (image.shape[-1] - columns) // 2
    return image[..., top : top + rows, left : left + columns]
