"""What layers answer to calibration data: the second moments that data-aware factorization needs."""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf

from tfeffi.compress.prune.batches import batches
from tfeffi.compress.sites import Site
from tfeffi.errors import BadInput
from tfeffi.surgery.forward import Forward
from tfeffi.surgery.graph import Graph

ROWS = 1 << 16  # responses held in float64 at once, per layer


@dataclasses.dataclass(eq=False)
class Moments:
    """Sums over vectors: a layer's responses y = xW without its bias, or the patches x it reads, at
    every example and position."""

    count: int
    total: np.ndarray
    products: np.ndarray

    @classmethod
    def zeros(cls, width: int) -> "Moments":
        return cls(0, np.zeros(width), np.zeros((width, width)))

    def add(self, responses: np.ndarray) -> None:
        """Adds responses (..., width), in float64."""
        rows = responses.reshape(-1, responses.shape[-1])
        for start in range(0, len(rows), ROWS):
            block = rows[start : start + ROWS].astype(np.float64)
            self.total += block.sum(axis=0)
            self.products += block.T @ block
        self.count += len(rows)

    def through(self, matrix: np.ndarray) -> "Moments":
        """Of patches: the moments of the responses that a kernel (width, outputs) gives."""
        matrix = np.asarray(matrix, np.float64)
        return Moments(self.count, self.total @ matrix, matrix.T @ self.products @ matrix)

    @property
    def mean(self) -> np.ndarray:
        """ȳ, (width,)."""
        return self.total / self.count

    @property
    def raw(self) -> np.ndarray:
        """The mean of yᵀy, (width, width)."""
        return self.products / self.count

    @property
    def centered(self) -> np.ndarray:
        """The mean of (y − ȳ)ᵀ(y − ȳ), (width, width)."""
        return self.raw - np.outer(self.mean, self.mean)


def measure(
    graph: Graph, sites: Sequence[Site], data, patches: Collection[str] = ()
) -> dict[str, Moments]:
    """Runs the model over the data and sums up the responses of each layer.

    Args:
        graph: the model, read.
        sites: the layers to look at; a shared layer is looked at in all its calls.
        data: a tf.data.Dataset of batches (inputs, or inputs and labels), an array of inputs, a
            list or a dict of arrays for several inputs, or `tfeffi.data.Images`. A few hundred
            images are enough.
        patches: the paths of Conv2D layers whose patches (kh·kw·cin) are wanted, not responses.

    Returns:
        The moments of each layer, by path.

    Raises:
        BadInput: the data is empty, or of another shape than the model takes.
    """
    model = graph.model
    tensors = [call.inputs[0] for site in sites for call in site.calls]
    forward = Forward(graph, tensors)
    signature = [tf.TensorSpec((None, *i.shape[1:]), i.dtype) for i in model.inputs]

    @tf.function(input_signature=[signature], autograph=False)
    def respond(inputs):
        values = iter(forward(inputs))
        wanted = [_patches if site.path in patches else _linear for site in sites]
        pairs = zip(sites, wanted, strict=True)
        return [answer(site, next(values)) for site, answer in pairs for _ in site.calls]

    def width(site: Site) -> int:
        size = site.kernel.shape[-1]
        return site.kernel.size // size if site.path in patches else size

    moments = {site.path: Moments.zeros(width(site)) for site in sites}
    paths = [site.path for site in sites for _ in site.calls]
    for inputs in batches(model, data, "factorize"):
        for path, answer in zip(paths, respond(inputs), strict=True):
            moments[path].add(answer.numpy())
    if any(not one.count for one in moments.values()):
        raise BadInput("factorize: the data is empty; give it at least one batch")
    if any(not np.isfinite(one.products).all() for one in moments.values()):
        raise BadInput("factorize: the model's responses to the data are not finite")
    return moments


def _linear(site: Site, inputs: tf.Tensor) -> tf.Tensor:
    """The layer without bias and activation, channels last, in float32."""
    inputs, kernel = tf.cast(inputs, tf.float32), tf.constant(site.kernel)
    if site.is_dense:
        return tf.tensordot(inputs, kernel, 1)
    layer, padding = site.layer, site.layer.padding.upper()
    inputs = _channels_last(layer, inputs)
    if padding == "CAUSAL":
        before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        inputs, padding = tf.pad(inputs, [(0, 0), (before, 0), (0, 0)]), "VALID"
    return tf.nn.convolution(inputs, kernel, layer.strides, padding, dilations=layer.dilation_rate)


def _patches(site: Site, inputs: tf.Tensor) -> tf.Tensor:
    """What a Conv2D reads at each position, (..., kh·kw·cin), in float32."""
    layer = site.layer
    sizes = [(1, *pair, 1) for pair in (layer.kernel_size, layer.strides, layer.dilation_rate)]
    inputs = _channels_last(layer, tf.cast(inputs, tf.float32))
    return tf.image.extract_patches(inputs, *sizes, layer.padding.upper())


def _channels_last(layer, inputs: tf.Tensor) -> tf.Tensor:
    if layer.data_format != "channels_first":
        return inputs
    rank = len(inputs.shape)
    return tf.transpose(inputs, (0, *range(2, rank), 1))
