"""The images that full int8 learns the ranges of its activations from: training images, never test.

What a network is tested on must not shape it, and the calibration shapes it.
"""

import itertools
import warnings

import numpy as np

from tfeffi.errors import BadInput

MOST_IMAGES = 1000  # ranges settle after some hundreds; a dataset that repeats must end somewhere
_NARROW = 0.1  # images that span less than this part of the expected range were scaled twice


class CalibrationWarning(UserWarning):
    """The calibration images do not look like the images the model will see."""


def images(
    calibration,
    *,
    shape: tuple[int, ...],
    value_range: tuple[float, float] | None,
    any_split: bool = False,
    dtype=np.float32,
    what: str = "calibration",
) -> np.ndarray:
    """The calibration images as one array: of more than 1000, an evenly spaced part.

    Files often come sorted by class, so the first ones would be of a few classes only.

    Args:
        calibration: an array (n, h, w, c); a tf.data.Dataset (or any iterable) of batches, images
            or (images, labels); or a `tfeffi.data.Images` of a training split, which is scaled to
            [0, 1] as the pipelines do. Of a dataset, whose length is unknown, the first 1000 count.
        shape: what the model takes, without the batch.
        value_range: what the model expects; None if anything goes.
        any_split: test images are welcome: these are for a comparison, not for calibration.
        dtype: of the model's input; an integer one takes whole numbers, and `Images` unscaled.
        what: they are called in messages.

    Returns:
        Array of at most 1000 images, of that dtype.

    Raises:
        BadInput: there are none, they have another shape, are not finite, or are test images.

    Warns:
        CalibrationWarning: they lie outside the expected range, or fill little of it.
    """
    if not any_split:
        check_split(getattr(calibration, "split", "train"))
    dtype = np.dtype(dtype)
    found = _array(calibration, what, whole=dtype.kind in "iu")
    if not len(found):
        raise BadInput(f"{what} has no images; give some, 100 or more are good")
    if found.shape[1:] != shape:
        raise BadInput(f"{what} images have the shape {found.shape[1:]}, the model takes {shape}")
    if not np.isfinite(found).all():
        raise BadInput(f"{what} images hold values that are not finite (NaN or infinite)")
    cast = found.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(cast, found):
        raise BadInput(
            f"{what} values lie in [{found.min():.4g}, {found.max():.4g}], the model takes whole "
            f"numbers ({dtype}); give stored pixels"
        )
    if value_range is not None and dtype.kind == "f":
        _warn(float(found.min()), float(found.max()), value_range)
    return cast


def spread(count: int, most: int) -> np.ndarray:
    """The indices of at most `most` of `count` things, evenly spaced, the first one among them."""
    return np.arange(count) if count <= most else np.arange(most) * count // most


def check_split(split: str, what: str = "calibration") -> None:
    """Raises BadInput unless every part of a split such as "train[:500]" is training data."""
    for part in str(split).split("+"):
        if not part.strip().startswith("train"):
            raise BadInput(
                f'{what} on the split "{split}": use training images only, e.g. "train[:500]"'
            )


def _array(calibration, what: str, whole: bool) -> np.ndarray:
    if hasattr(calibration, "images") and hasattr(calibration, "split"):  # tfeffi.data.Images
        stored = calibration.images[spread(len(calibration.images), MOST_IMAGES)]
        return stored if whole else stored.astype(np.float32) / np.float32(255)
    if hasattr(calibration, "__array__"):
        array = np.asarray(calibration)
        return np.asarray(array[spread(len(array), MOST_IMAGES)], np.float32)
    batches, count = [], 0
    try:
        iterator = iter(calibration)
    except TypeError as error:
        raise BadInput(
            f"{what} is a {type(calibration).__name__}; give an array or a dataset of batches"
        ) from error
    for batch in iterator:
        first = batch[0] if isinstance(batch, tuple | list) else batch
        batches.append(np.asarray(first, np.float32))
        count += len(batches[-1]) if batches[-1].ndim else 0
        if count >= MOST_IMAGES:
            break
    if not batches:
        return np.zeros((0,), np.float32)
    if len({batch.shape[1:] for batch in batches}) > 1:
        raise BadInput(f"{what} batches differ in the shape of their images")
    return np.concatenate(batches)[:MOST_IMAGES]


def _warn(lowest: float, highest: float, expected: tuple[float, float]) -> None:
    span = expected[1] - expected[0]
    outside = lowest < expected[0] - 0.01 * span or highest > expected[1] + 0.01 * span
    if outside or highest - lowest < _NARROW * span:
        warnings.warn(
            f"calibration values lie in [{lowest:.4g}, {highest:.4g}], expected is "
            f"[{expected[0]:g}, {expected[1]:g}]; scale them as in training, or give value_range",
            CalibrationWarning,
            stacklevel=5,
        )


def batches(images: np.ndarray, size: int):
    """Batches of exactly `size` images, the last one filled up from the front."""
    around = itertools.cycle(range(len(images)))
    for start in range(0, len(images), size):
        rows = np.arange(start, min(start + size, len(images)))
        while len(rows) < size:
            rows = np.append(rows, next(around))
        yield images[rows]
