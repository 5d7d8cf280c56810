"""How active each channel is on a data set, measured where it is read.

A channel counts where a layer sums over it: the input of a convolution or dense layer, after
batch normalization, activation, addition and pooling have done their work. Coupled channels are
read at several places; their counts are added. "Active" means not zero: after a ReLU that is
positive, and elsewhere it is what makes a channel that is never active one that can go exactly.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling
from tfeffi.surgery.forward import Forward

BATCH = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Activity:
    """What was measured, for each class of coupled channels.

    Attributes:
        active: (classes,) how often an activation was not zero, over examples and positions.
        total: (classes,) how many activations there were.
        magnitude: (classes,) the sum of their absolute values.
        examples: how many examples were seen.
    """

    active: np.ndarray
    total: np.ndarray
    magnitude: np.ndarray
    examples: int

    @property
    def share(self) -> np.ndarray:
        """The share of activations that are not zero: 1 - APoZ; 1 where nothing reads."""
        return np.where(self.total > 0, self.active / np.maximum(self.total, 1), 1.0)

    @property
    def mean(self) -> np.ndarray:
        """The mean absolute activation; infinite where nothing reads."""
        return np.where(self.total > 0, self.magnitude / np.maximum(self.total, 1), np.inf)


def measure(coupling: Coupling, data) -> Activity:
    """Runs the model over the data and counts.

    Args:
        coupling: the labelled model, `Coupling.of(model)`.
        data: a tf.data.Dataset of batches (inputs, or inputs and labels), an array of inputs, a
            list or a dict of arrays for several inputs, or `tfeffi.data.Images`.

    Returns:
        Counts for each class of channels, over the whole data.

    Raises:
        BadInput: the data is empty, or of another shape than the model takes.

    Source: Network Trimming (Hu et al. 2016, arXiv 1607.03250), equation 1, counted where the
    channel is read.
    """
    reads = {tensor: classes for _, tensor, classes in coupling.reads}
    axes = [coupling.channels[tensor].axis for tensor in reads]
    model = coupling.graph.model
    forward = Forward(coupling.graph, list(reads))
    signature = [tf.TensorSpec((None, *i.shape[1:]), i.dtype) for i in model.inputs]

    @tf.function(input_signature=[signature], autograph=False)
    def count(inputs):
        found = []
        for value, axis in zip(forward(inputs), axes, strict=True):
            others = [a for a in range(len(value.shape)) if a != axis]
            active = tf.math.count_nonzero(value, others)
            magnitude = tf.reduce_sum(tf.abs(tf.cast(value, tf.float32)), others)
            found.append((active, magnitude, tf.size(value, tf.int64)))
        return found

    sums, examples = None, 0
    for inputs in batches(model, data, "prune"):
        examples += len(inputs[0])
        now = [tuple(np.asarray(v, np.float64) for v in one) for one in count(inputs)]
        sums = now if sums is None else [_add(a, b) for a, b in zip(sums, now, strict=True)]
    if not examples:
        raise BadInput("prune: the data is empty; give it at least one batch")
    return _by_class(coupling.classes.count, reads.values(), sums, examples)


def batches(model: keras.Model, data, who: str) -> Iterator[list[tf.Tensor]]:
    """The inputs of the model, batch by batch, checked and cast; `who` asks, in messages."""
    for x in _inputs(model, data, who):
        values = [tf.convert_to_tensor(v) for v in _flat(model, x, who)]
        for value, expected in zip(values, model.inputs, strict=True):
            if not _fits(value.shape, expected.shape):
                raise BadInput(
                    f'{who}: the data has shape {tuple(value.shape)}, input "{expected.name}" of '
                    f"the model takes {tuple(expected.shape)}"
                )
        values = [tf.cast(v, i.dtype) for v, i in zip(values, model.inputs, strict=True)]
        if len(values[0]):
            yield values


def _inputs(model: keras.Model, data, who: str) -> Iterable:
    if hasattr(data, "images"):  # tfeffi.data.Images: uint8, and models take [0, 1]
        images = data.images
        return (_slice(images, i) / np.float32(255) for i in range(0, len(images), BATCH))
    if isinstance(data, tf.data.Dataset):
        return (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in data)
    if isinstance(data, dict) or (isinstance(data, (list, tuple)) and len(model.inputs) > 1):
        arrays = [_array(one, who) for one in _flat(model, data, who)]
        lengths = [len(one) for one in arrays]
        if len(set(lengths)) > 1:
            raise BadInput(f"{who}: the inputs in data have {lengths} examples; give equally many")
        return ([_slice(a, i) for a in arrays] for i in range(0, lengths[0], BATCH))
    array = _array(data, who)
    return (_slice(array, i) for i in range(0, len(array), BATCH))


def _array(data, who: str) -> np.ndarray:
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise BadInput(f"{who}: data is neither a tf.data.Dataset, an array nor Images") from error
    if array.ndim == 0 or not np.issubdtype(array.dtype, np.number):
        raise BadInput(
            f"{who}: data is {type(data).__name__}; give a tf.data.Dataset of batches, an array "
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


def _add(one, other):
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _by_class(count: int, reads, sums, examples: int) -> Activity:
    active, total, magnitude = np.zeros(count), np.zeros(count), np.zeros(count)
    for classes, (nonzero, absolute, size) in zip(reads, sums, strict=True):
        np.add.at(active, classes, nonzero)
        np.add.at(magnitude, classes, absolute)
        np.add.at(total, classes, float(size) / len(classes))
    return Activity(active.astype(np.int64), np.rint(total).astype(np.int64), magnitude, examples)
