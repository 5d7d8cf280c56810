"""A short training of a twin in tf_keras: what came before it, zeros and shared weights, stays.

The library has schemes of its own for that (PQAT, CQAT, PCQAT), each for some layers and one
combination. Here the gradients are held as in `tfeffi.methods`: a zero gets none, and weights that share
a value get one sum, so that every wrapper of the library keeps both.
"""

import contextlib
import dataclasses
import functools
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfeffi.compress.prune.batches import labelled
from tfeffi.compress.tfmot.library import is_clustering, tf_keras
from tfeffi.compress.tfmot.translation import variable_name
from tfeffi.errors import BadInput
from tfeffi.layers import subsampled
from tfeffi.methods.keep_zeros import masked
from tfeffi.methods.shared_weights import shares_values, summed
from tfeffi.surgery.graph import read
from tfeffi.train.losses import gives_probabilities, per_example


@dataclasses.dataclass(frozen=True)
class Training:
    """How a twin is trained: Adam, its rate falling to zero along a cosine.

    Attributes:
        epochs, batch_size: as ever; a last, smaller batch of an epoch is left out.
        learning_rate: the peak.
        seed: of the order of the images.

    Raises:
        BadInput: a number out of range.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
                raise BadInput(f"tfmot: {name}={value!r}; give a whole number from 1 on")
        rate = self.learning_rate
        if not isinstance(rate, numbers.Real) or not (np.isfinite(rate) and rate > 0):
            raise BadInput(f"tfmot: learning_rate={rate!r}; give a number above 0")
        seed = self.seed
        if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
            raise BadInput(f"tfmot: seed={seed!r}; give a whole number from 0 on")


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Training images and labels in memory, and whether the model's outputs are probabilities."""

    images: np.ndarray
    labels: np.ndarray
    probabilities: bool

    @classmethod
    def of(cls, model: keras.Model, data: Any, batch_size: int) -> "Examples":
        """Reads them.

        Raises:
            BadInput: the model is no classifier of one input of one size, or the data has no labels,
                labels that are no classes of the model, or fewer images than a batch.
        """
        model = read(model).model
        output = model.output_shape
        if len(model.inputs) != 1 or not isinstance(output, tuple) or len(output) != 2:
            raise BadInput(
                f'tfmot: model "{model.name}" gives {output}; it trains classifiers of one input'
            )
        if None in model.inputs[0].shape[1:]:
            raise BadInput(
                f'tfmot: the input of model "{model.name}" has the open shape '
                f"{tuple(model.inputs[0].shape[1:])}; rebuild it for images of one size"
            )
        images, labels = [], []
        for (batch,), found in labelled(model, data, "tfmot"):
            if found is None:
                raise BadInput("tfmot: the training data has no labels; give images with labels")
            images.append(np.asarray(batch))
            labels.append(np.asarray(found).reshape(-1))
        if sum(map(len, images)) < batch_size:
            raise BadInput(f"tfmot: fewer than {batch_size} training images do not fill a batch")
        images, labels = np.concatenate(images), np.concatenate(labels)
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= output[1]:
            raise BadInput(f"tfmot: labels must be whole numbers from 0 to {output[1] - 1}")
        return cls(images, labels.astype(np.int64), gives_probabilities(model))


def steps(examples: Examples, training: Training) -> int:
    """How many steps that will be."""
    return training.epochs * (len(examples.images) // training.batch_size)


def train(
    twin,
    examples: Examples,
    training: Training,
    *,
    after_epoch: Callable[[], None] = lambda: None,
) -> list[float]:
    """Trains a tf_keras model in place; zeros and shared weights of its kernels stay.

    Not so in the library's wrappers for clustering, whose own work that is.

    Args:
        twin: the model, perhaps in wrappers of the library.
        examples: what it learns from.
        training: for how long.
        after_epoch: called after each epoch.

    Returns:
        The mean loss of each epoch.

    Raises:
        BadInput: a loss that is not finite.
    """
    count = len(examples.images) // training.batch_size
    rate = tf_keras().optimizers.schedules.CosineDecay(
        training.learning_rate, training.epochs * count
    )
    optimizer = tf_keras().optimizers.Adam(rate)
    step = _step(twin, optimizer, examples.probabilities, _Held.of(twin))
    random, losses = np.random.default_rng(training.seed), []
    for _ in range(training.epochs):
        order, total = random.permutation(len(examples.images)), 0.0
        for start in range(0, count * training.batch_size, training.batch_size):
            rows = order[start : start + training.batch_size]
            total += float(step(examples.images[rows], examples.labels[rows]))
        losses.append(total / count)
        if not np.isfinite(losses[-1]):
            raise BadInput(
                f"tfmot: the loss is not finite, learning_rate={training.learning_rate}; lower it"
            )
        after_epoch()
    return losses


@contextlib.contextmanager
def _subsampling(twin):
    """Within it oneDNN computes the gradients right, see `tfeffi.layers.SubsampledConv2D`."""
    kinds = (tf_keras().layers.Conv1D, tf_keras().layers.Conv2D)
    convolutions = [layer for layer in twin.submodules if type(layer) in kinds]
    for layer in convolutions:
        layer.convolution_op = functools.partial(_convolve, layer)
    try:
        yield
    finally:
        for layer in convolutions:
            del layer.convolution_op


def _convolve(layer, inputs, kernel):
    read = subsampled(layer, inputs)
    if read is None:
        return type(layer).convolution_op(layer, inputs, kernel)
    return tf.nn.convolution(read, kernel, strides=1, padding="VALID")


def _step(twin, optimizer, probabilities: bool, held: "_Held"):
    variables = twin.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape, _subsampling(twin):  # while it is traced
            outputs = twin(images, training=True)
            each = per_example(
                "cross_entropy", outputs, images, labels, probabilities=probabilities
            )
            loss = tf.add_n([tf.reduce_mean(each), *twin.losses])
        gradients = tape.gradient(loss, variables)
        gradients = held(gradients)
        found = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        optimizer.apply_gradients(found)
        return loss

    return step


@dataclasses.dataclass(frozen=True, eq=False)
class _Held:
    """Which weights of each variable are zero, and which share a value, when training begins."""

    masks: Sequence[np.ndarray | None]
    shares: Sequence[tuple[np.ndarray, int] | None]

    @classmethod
    def of(cls, twin) -> "_Held":
        masks, shares = [], []
        clustered = [one for one in twin.layers if is_clustering(one)]
        free = {id(variable) for one in clustered for variable in one.trainable_variables}
        for variable in twin.trainable_variables:
            values = variable.numpy()
            is_kernel = variable_name(variable).endswith("kernel") and id(variable) not in free
            masks.append(values != 0 if is_kernel and not values.all() else None)
            found, index = np.unique(values, return_inverse=True)
            shared = is_kernel and shares_values(values)
            index = np.where(values.ravel() == 0, -1, index.ravel())
            shares.append((index, found.size) if shared else None)
        return cls(masks, shares)

    def __call__(self, gradients: list) -> list:
        found = [
            gradient if share is None or gradient is None else summed(gradient, *share)
            for gradient, share in zip(gradients, self.shares, strict=True)
        ]
        masks = [None if g is None else mask for g, mask in zip(found, self.masks, strict=True)]
        return masked(found, masks)
