"""Data as users have it, as batches that fit the model: datasets, arrays, dicts, Images."""

from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from tfeffi.errors import BadInput

BATCH = 256


def batches(model: keras.Model, data, who: str) -> Iterator[list[tf.Tensor]]:
    """The inputs of the model, batch by batch, checked and cast; `who` asks, in messages."""
    return (inputs for inputs, _ in labelled(model, data, who))


def labelled(
    model: keras.Model, data, who: str
) -> Iterator[tuple[list[tf.Tensor], np.ndarray | None]]:
    """The inputs of the model and the labels, batch by batch.

    Args:
        model: what the data is for.
        data: a tf.data.Dataset of batches (inputs, or inputs and labels), an array of inputs, a
            list or a dict of arrays for several inputs, a tuple (inputs, labels) of those, or
            `tfeffi.data.Images`.
        who: asks, in messages.

    Yields:
        The inputs in the order of `model.inputs`, checked and cast, and the labels as they are, or
        None if the data has none. Empty batches are left out.

    Raises:
        BadInput: the data is of another kind or shape than the model takes, or not finite.
    """
    for x, y in _pairs(model, data, who):
        values = [tf.convert_to_tensor(v) for v in _flat(model, x, who)]
        for value, expected in zip(values, model.inputs, strict=True):
            if not _fits(value.shape, expected.shape):
                raise BadInput(
                    f'{who}: the data has shape {tuple(value.shape)}, input "{expected.name}" of '
                    f"the model takes {tuple(expected.shape)}"
                )
            if value.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(value))):
                raise BadInput(f"{who}: the data holds values that are not finite; clean it first")
        values = [tf.cast(v, i.dtype) for v, i in zip(values, model.inputs, strict=True)]
        if len(values[0]):
            yield values, y


def _pairs(model: keras.Model, data, who: str) -> Iterable[tuple]:
    if hasattr(data, "images"):  # tfeffi.data.Images: uint8, and models take [0, 1]
        images, labels = data.images, getattr(data, "labels", None)
        scale = (
            1 if "int" in model.inputs[0].dtype else np.float32(255)
        )  # but those of whole numbers
        return (
            (_slice(images, i) / scale, None if labels is None else _slice(labels, i))
            for i in range(0, len(images), BATCH)
        )
    if isinstance(data, tf.data.Dataset):
        return (keras.utils.unpack_x_y_sample_weight(batch)[:2] for batch in data)
    labels = None
    if _is_pair(model, data):
        data, labels = data[0], _array(data[1], who)
    arrays = [_array(one, who) for one in _arrays(model, data, who)]
    lengths = [len(one) for one in arrays]
    if len(set(lengths)) > 1:
        raise BadInput(f"{who}: the inputs in data have {lengths} examples; give equally many")
    if labels is not None and len(labels) != lengths[0]:
        raise BadInput(f"{who}: {lengths[0]} inputs with {len(labels)} labels; give one label each")
    return (
        ([_slice(a, i) for a in arrays], None if labels is None else _slice(labels, i))
        for i in range(0, lengths[0], BATCH)
    )


def _is_pair(model: keras.Model, data) -> bool:
    """Whether a tuple is (inputs, labels), and not the inputs of a model that takes two."""
    several = len(model.inputs) > 1
    return (
        isinstance(data, tuple)
        and len(data) == 2
        and (not several or isinstance(data[0], (dict, list, tuple)))
    )


def _arrays(model: keras.Model, data, who: str) -> list:
    if isinstance(data, dict) or (isinstance(data, (list, tuple)) and len(model.inputs) > 1):
        return _flat(model, data, who)
    return [data]


def _array(data, who: str) -> np.ndarray:
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise BadInput(f"{who}: data is neither a tf.data.Dataset, an array nor Images") from error
    if array.ndim == 0 or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        kind = "objects or text" if array.ndim else type(data).__name__
        raise BadInput(
            f"{who}: data is {kind}; give a tf.data.Dataset of batches, an array "
            "or tfeffi.data.Images"
        )
    return array


def _slice(array, start: int):
    return array[start : start + BATCH]


def _flat(model: keras.Model, x, who: str) -> list:
    """The inputs as a list, in the order of `model.inputs`."""
    if isinstance(x, dict):
        names = [tensor.name for tensor in model.inputs]
        keys = getattr(model, "input", None)
        if isinstance(keys, dict) and len(keys) == len(names):
            names = sorted(keys)  # as Keras flattens it; a key need not be the tensor's name
        if set(names) - set(x):
            raise BadInput(f"{who}: the data has inputs {sorted(x)}, the model takes {names}")
        return [x[name] for name in names]
    values = list(x) if isinstance(x, (list, tuple)) else [x]
    if len(values) != len(model.inputs):
        raise BadInput(f"{who}: the data has {len(values)} inputs, the model {len(model.inputs)}")
    return values


def _fits(shape, expected) -> bool:
    return len(shape) == len(expected) and all(
        want in (None, got) for got, want in zip(shape[1:], expected[1:], strict=True)
    )
