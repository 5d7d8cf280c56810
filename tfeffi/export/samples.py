"""The inputs on which a file is compared with its model, and the comparison."""

import dataclasses
import pathlib

import keras
import numpy as np

from tfeffi.errors import BadInput
from tfeffi.export import calibration as calibrating
from tfeffi.export import contract, litert

_MOST_VALUES = 5_000_000  # of images compared with Keras: 200 of 32x32x3 and more, 33 of 224x224x3
_MOST_CHECKED = 200
_RANDOM_IMAGES = 16
_KERAS_BATCH = 32


def of(signature, images, check_with, value_range) -> list[np.ndarray]:
    """The inputs on which the file is compared with Keras, one array an input."""
    size = sum(int(np.prod(spec.shape[1:])) for spec in signature)
    most = max(1, min(_MOST_CHECKED, _MOST_VALUES // max(size, 1)))
    if check_with is not None:
        if len(signature) != 1:
            raise BadInput(
                f"check_with is images of one input, this model has {len(signature)}; leave it out"
            )
        found = calibrating.images(
            check_with, shape=tuple(signature[0].shape[1:]), value_range=None, any_split=True,
            dtype=dtype(signature[0]), what="check_with",
        )  # fmt: skip
        return [found[calibrating.spread(len(found), most)]]
    if images is not None:
        return [images[calibrating.spread(len(images), most)]]
    random, count = np.random.default_rng(0), min(most, _RANDOM_IMAGES)
    return [
        random_values(random, (count, *spec.shape[1:]), dtype(spec), value_range or (0.0, 1.0))
        for spec in signature
    ]


def dtype(spec) -> np.dtype:
    """What an input takes, as numpy's type."""
    return np.dtype(spec.dtype.as_numpy_dtype)


def random_values(random, shape, dtype: np.dtype, value_range) -> np.ndarray:
    """Random inputs: bytes (pixels) of their whole range, all else within `value_range`."""
    if dtype.kind in "iu":  # wider integers are indices or lengths, of which few are valid
        limits = np.iinfo(dtype)
        low, high = (limits.min, limits.max) if dtype.itemsize == 1 else map(int, value_range)
        return random.integers(low, high, shape, dtype, endpoint=True)
    if dtype.kind == "b":
        return random.integers(0, 1, shape, endpoint=True).astype(dtype)
    return random.uniform(*value_range, shape).astype(dtype)


def parity(
    model: keras.Model, path: pathlib.Path, samples: list[np.ndarray], real: bool
) -> tuple[contract.Parity, int | None]:
    """Compares file and model; classes only count on real images, noise has none.

    Also measures the bytes of the file's arena; None where that fails.
    """
    batches = []
    for start in range(0, len(samples[0]), _KERAS_BATCH):
        rows = [sample[start : start + _KERAS_BATCH] for sample in samples]
        packed = rows[0] if len(rows) == 1 else keras.tree.pack_sequence_as(model.input, rows)
        batches.append([np.asarray(o) for o in keras.tree.flatten(model(packed, training=False))])
    reference = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    inputs = {f"input_{i}": sample for i, sample in enumerate(samples)}
    got, arena_bytes = litert.run_measured(path, inputs, arena=True)
    found = contract.compare(reference, [got[f"output_{i}"] for i in range(len(reference))])
    return found if real else dataclasses.replace(found, top1_agreement=None), arena_bytes
