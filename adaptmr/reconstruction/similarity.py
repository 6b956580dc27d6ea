"""Structural similarity of images, differentiable and on whatever device the images are on."""

from torch import Tensor
from torch.nn.functional import avg_pool2d

from adaptmr.errors import BadInputError

WINDOW = 7
"""Side of the uniform window, pixels."""
K1 = 0.01
K2 = 0.03


def ssim(prediction: Tensor, target: Tensor, data_range: Tensor | float) -> Tensor:
    """Mean structural similarity of each image (Wang et al. 2004, doi:10.1109/TIP.2003.819861).

    Uniform 7 x 7 window, k1 = 0.01, k2 = 0.03, sample covariance, averaged over the positions whose
    window lies inside the image: the definition of ``skimage.metrics.structural_similarity`` and
    of fastMRI's ``SSIMLoss``. Differentiable.

    Args:
        prediction: (..., rows, columns) real.
        target: (..., rows, columns) real, same shape.
        data_range: range of the data, a number or a tensor that broadcasts over ``...``; positive.

    Returns:
        (...) similarity of each image, 1 for identical images.

    Raises:
        BadInputError: the shapes differ, or an image is smaller than the window.
    """
    return ssim_map(prediction, target, data_range).mean((-2, -1))


def ssim_map(prediction: Tensor, target: Tensor, data_range: Tensor | float) -> Tensor:
    """Structural similarity of each window that lies inside the image; its mean is `ssim`.

    Takes and raises what `ssim` does.

    Returns:
        (..., rows - 6, columns - 6); element (i, j) is the window centred on pixel (i + 3, j + 3).
    """
    if prediction.shape != target.shape:
        raise BadInputError(
            "prediction and target have different shapes",
            got=tuple(prediction.shape),
            expected=tuple(target.shape),
        )
    if min(target.shape[-2:]) < WINDOW:
        raise BadInputError(
            "the image is smaller than the SSIM window",
            got=tuple(target.shape[-2:]),
            expected=f"at least {WINDOW} x {WINDOW}",
        )
    if isinstance(data_range, Tensor):
        data_range = data_range.to(target)[..., None, None]
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # Covariances do not change with an offset; taking it out first saves float32 from cancellation.
    offset_x = prediction.mean((-2, -1), keepdim=True)
    offset_y = target.mean((-2, -1), keepdim=True)
    x, y = prediction - offset_x, target - offset_y
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    variance_x = sample * (_window_mean(x * x) - mean_x * mean_x)
    variance_y = sample * (_window_mean(y * y) - mean_y * mean_y)
    covariance = sample * (_window_mean(x * y) - mean_x * mean_y)
    mean_x, mean_y = mean_x + offset_x, mean_y + offset_y
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    denominator = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    similarity: Tensor = numerator / denominator
    return similarity


def _window_mean(image: Tensor) -> Tensor:
    """Means over all windows that lie inside the image, (..., rows - 6, columns - 6)."""
    rows, columns = image.shape[-2:]
    means = avg_pool2d(image.reshape(-1, 1, rows, columns), WINDOW, stride=1)
    return means.reshape(*image.shape[:-2], *means.shape[-2:])
