"""Batch normalization over parts of the batch: the noise of small batches in large ones."""

import keras
from keras import ops

from tfeffi.errors import BadInput
from tfeffi.layers.exchange import exchange
from tfeffi.layers.fused_batch_normalization import FusedBatchNormalization

MOST_KERNELS = 32  # calls a layer: more make a graph that takes long to build


class GhostBatchNormalization(FusedBatchNormalization):
    """`keras.layers.BatchNormalization` with the statistics of `ghost_batch` examples at a time.

    In training the batch is cut, in order, into virtual batches of `ghost_batch` examples, each
    normalized by its own mean and variance, which the moving statistics follow one after the other. A
    batch that is no larger than `ghost_batch`, inference, masks, `renorm=True` and `synchronized=True`
    are as in `FusedBatchNormalization`. So is each virtual batch, if their number is known and not
    large; else, and with `fuse` off, they are Keras's operations.

    In a config and a `.keras` file it is a plain BatchNormalization, so that both load where tfeffi
    is not installed; `ghost_batch` is about training and not kept.

    Args:
        ghost_batch: examples of a virtual batch; it divides the batches of a training.
        **arguments: of `keras.layers.BatchNormalization`.

    Raises:
        BadInput: a `ghost_batch` below 1, or one that does not divide the batch.

    Source: Hoffer et al. 2017, arXiv 1705.08741, algorithm 1.

    Example:
        x = GhostBatchNormalization(ghost_batch=32, name="bn1")(x)
    """

    default_ghost_batch = 32
    fuse = True

    def __init__(self, ghost_batch: int | None = None, **arguments):
        super().__init__(**arguments)
        self.ghost_batch = self.default_ghost_batch if ghost_batch is None else ghost_batch
        check_ghost_batch(self.ghost_batch)

    def call(self, inputs, training=None, mask=None):
        """Normalizes; arguments as in `keras.layers.BatchNormalization`."""
        learns = bool(training) and self.trainable
        is_keras_s = mask is not None or getattr(self, "renorm", False) or self.synchronized
        size = inputs.shape[0]
        if not learns or is_keras_s or (size is not None and size <= self.ghost_batch):
            return super().call(inputs, training=training, mask=mask)
        if size is not None:
            check_ghost_batch(self.ghost_batch, size)
        few = size is not None and size <= MOST_KERNELS * self.ghost_batch
        if few and self._fuses(inputs, mask, learns):
            return ops.cast(self._fused_parts(inputs), self.compute_dtype)
        return ops.cast(self._parts(inputs), self.compute_dtype)

    def _fuses(self, inputs, mask, learns) -> bool:
        return self.fuse and super()._fuses(inputs, mask, learns)

    def _fused_parts(self, inputs):
        """One call of the kernel for each virtual batch."""
        done = [
            self._normalized(part)
            for part in ops.split(inputs, inputs.shape[0] // self.ghost_batch)
        ]
        outputs, means, variances = zip(*done, strict=True)
        self._follow(ops.stack(means), ops.stack(variances))
        return ops.concatenate(outputs)

    def _parts(self, inputs):
        """The same in Keras's operations, for any backend and rank."""
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        parts = ops.reshape(x, (-1, self.ghost_batch, *ops.shape(x)[1:]))
        mean, variance = ops.moments(
            parts, axes=[1, *(axis + 1 for axis in self._reduction_axes[1:])], keepdims=True
        )
        self._follow(mean, variance)
        broadcast = [1] * len(parts.shape)
        broadcast[self.axis % len(x.shape) + 1] = -1
        factor = ops.rsqrt(variance + self.epsilon)
        if self.scale:
            factor *= ops.reshape(ops.cast(self.gamma, x.dtype), broadcast)
        normal = (parts - mean) * factor
        if self.center:
            normal += ops.reshape(ops.cast(self.beta, x.dtype), broadcast)
        return ops.reshape(normal, ops.shape(x))

    def _follow(self, mean, variance) -> None:
        """Moves the moving statistics as if the virtual batches had come one after the other."""
        count = ops.shape(mean)[0]
        later = ops.cast(ops.arange(count - 1, -1, -1), mean.dtype)  # batches after each
        weights = (1.0 - self.momentum) * ops.power(self.momentum, later)
        old = ops.power(self.momentum, ops.cast(count, mean.dtype))
        for moving, found in ((self.moving_mean, mean), (self.moving_variance, variance)):
            each = ops.reshape(found, (count, -1))
            moving.assign(old * moving + ops.sum(weights[:, None] * each, axis=0))


def check_ghost_batch(ghost_batch: int, batch_size: int | None = None) -> None:
    """Raises BadInput for a size that is none, or that does not divide the batch."""
    if not isinstance(ghost_batch, int) or ghost_batch < 1:
        raise BadInput(f"ghost_batch={ghost_batch!r} must be a whole number of at least 1")
    if batch_size is not None and batch_size > ghost_batch and batch_size % ghost_batch:
        raise BadInput(f"ghost_batch={ghost_batch} does not divide a batch of {batch_size}")


def ghost_batch_normalization(model: keras.Model, ghost_batch: int) -> keras.Model:
    """Rebuilds a model with `GhostBatchNormalization` in place of each BatchNormalization.

    Args:
        model: a functional or Sequential model; see `tfeffi.layers.exchange`.
        ghost_batch: examples of a virtual batch.

    Returns:
        The same model but for its training.

    Raises:
        BadInput: a subclassed model, or a `ghost_batch` below 1.

    Example:
        model = ghost_batch_normalization(keras.applications.MobileNetV2(weights=None), 32)
    """
    return exchange(model, {"BatchNormalization": ghost_class(ghost_batch)})


def ghost_class(ghost_batch: int, fuse: bool = True) -> type[GhostBatchNormalization]:
    """The class whose layers, made from a BatchNormalization's config, have that `ghost_batch`."""
    check_ghost_batch(ghost_batch)
    kind = GhostBatchNormalization
    return type(kind.__name__, (kind,), {"default_ghost_batch": ghost_batch, "fuse": fuse})
