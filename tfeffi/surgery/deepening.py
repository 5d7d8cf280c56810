"""`deepen`: one more layer that passes its input on; training then finds a use for it."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfeffi.errors import BadInput
from tfeffi.surgery.forward import Forward
from tfeffi.surgery.graph import Graph, Layer, read
from tfeffi.surgery.replacing import New, replace
from tfeffi.surgery.wishes import check_names

IDEMPOTENT = ("linear", "relu", "relu6", "hard_tanh", "hard_shrink")  # f(f(x)) = f(x)
BATCH = 256
_ACTIVATIONS = ("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax")
_INHERITED = ("kernel_regularizer", "bias_regularizer", "kernel_initializer", "dtype")


def deepen(
    model: keras.Model,
    after: str,
    *,
    kernel_size: int | tuple[int, ...] | None = None,
    batch_normalization: bool = False,
    data: Any = None,
    name: str | None = None,
    **arguments: Any,
) -> keras.Model:
    """Inserts a layer that starts as the identity, so that the model still computes the same.

    It stands at the end of the block of the layer that is named: after the batch normalization and
    the activation that follow it. It has the same width and the same activation f, which must keep
    f(f(x)) = f(x): ReLU or none, and not sigmoid, tanh, GELU or softmax.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        after: the convolution or dense layer to insert after, or its activation layer. After
            feature maps the new layer is a convolution, after vectors it is dense.
        kernel_size: of a new convolution, odd; by default that of the layer named if it is odd, else 3.
        batch_normalization: whether the new layer has one. Its γ = √(σ² + ε) and β = μ undo its
            normalization; μ and σ² are measured on `data` and are its moving statistics too. It is
            the identity at inference, and in training on the whole of `data` as one batch.
        data: for batch normalization: training examples, an array (a list of arrays for several
            inputs), a tf.data.Dataset of batches or `tfeffi.data.Images`.
        name: of the new layer; by default that of `after` with "_deeper".
        arguments: for the new layer, such as `kernel_regularizer`; by default it has the
            regularizers and the dtype of the layer named.

    Returns:
        A functional model. An optimizer starts afresh with it.

    Raises:
        BadInput: an unknown layer, one that makes an output of the model, an activation that is not
            idempotent, an even kernel, strides, batch normalization without data.

    Example:
        deeper = deepen(model, after="conv2")

    Source: Net2Deeper (Chen et al. 2015, arXiv 1511.05641, section 2.4).
    """
    graph = read(model)
    check_names(graph.layers, [after])
    end = _end(graph, after)
    _check_end(graph, after, end)
    width = graph.shapes[_outputs(graph, end)[0]][-1]
    block = _Block(graph, after, end, name)
    settings = {"use_bias": not batch_normalization, **_inherited(block), **arguments}
    layer = _layer(block, kernel_size, width, settings)
    separate = batch_normalization or graph.layers[end].kind in _ACTIVATIONS
    chain = [block.again(), _identity(block, layer, width, linear=separate)]
    if batch_normalization:
        chain.append(_normalization(block, data))
    if separate:
        chain += block.activation()
    return replace(model, {end: chain})


@dataclasses.dataclass(frozen=True, eq=False)
class _Block:
    """Where the new layer goes.

    Attributes:
        graph: the model.
        start: the layer that was named.
        end: the last layer of its block, after which the new one stands.
        given: the name for the new layer, or None.
    """

    graph: Graph
    start: str
    end: str
    given: str | None

    @property
    def last(self) -> Layer:
        return self.graph.layers[self.end]

    def name(self, suffix: str = "") -> str:
        """A free name for a new layer."""
        prefix = self.end[: self.end.rfind("/") + 1]
        wanted = f"{self.given or self.start.removeprefix(prefix) + '_deeper'}{suffix}"
        name, number = wanted, 1
        while prefix + name in self.graph.layers:
            number += 1
            name = f"{wanted}_{number}"
        return name

    def again(self) -> New:
        """The last layer itself, which the chain begins with."""
        live = self.last.live
        return New(type(live).from_config(live.get_config()), live.get_weights())

    def activation(self) -> list[New]:
        """A layer with the activation of the last layer; none for a linear one."""
        live = self.last.live
        if self.last.kind in _ACTIVATIONS:
            config = {**live.get_config(), "name": self.name("_activation"), "trainable": True}
            return [New(type(live).from_config(config))]
        function = getattr(live, "activation", None)
        if function in (None, keras.activations.linear):
            return []
        return [New(keras.layers.Activation(function, name=self.name("_activation")))]


def _end(graph: Graph, start: str) -> str:
    """The last layer of the block of a layer: along normalization, up to its activation."""
    end = start
    while not _has_activation(graph.layers[end]):
        made = set(_outputs(graph, end))
        readers = [call for call in graph.calls if made & set(call.inputs)]
        paths = {call.layer.path for call in readers}
        if len(paths) != 1 or made & set(graph.outputs):
            break
        [path] = paths
        calls = [call for call in graph.calls if call.layer.path == path]
        follows = graph.layers[path].kind in ("BatchNormalization", *_ACTIVATIONS)
        together = path.rpartition("/")[0] == start.rpartition("/")[0]
        if not (follows and together and all(set(call.inputs) <= made for call in calls)):
            break
        end = path
    return end


def _has_activation(layer: Layer) -> bool:
    function = getattr(layer.live, "activation", None)
    return layer.kind in _ACTIVATIONS or function not in (None, keras.activations.linear)


def _outputs(graph: Graph, path: str) -> list[int]:
    return [tensor for call in graph.calls if call.layer.path == path for tensor in call.outputs]


def _check_end(graph: Graph, start: str, end: str) -> None:
    layer = graph.layers[end]
    calls = [call for call in graph.calls if call.layer.path == end]
    if layer.kind == "InputLayer" or layer.live is None:
        raise BadInput(f'deepen: "{end}" is no layer with weights; name the one it follows')
    if not _is_idempotent(layer):
        raise BadInput(
            f"deepen: the activation of {layer} is not idempotent: applied twice it gives something "
            f"else, so no layer with it is the identity; it can be one of {', '.join(IDEMPOTENT)}"
        )
    if set(_outputs(graph, end)) & set(graph.outputs):
        raise BadInput(f'deepen: "{end}" makes an output of the model; name a layer before it')
    if any(len(call.inputs) != 1 or len(call.outputs) != 1 for call in calls):
        raise BadInput(f'deepen: "{end}" takes several tensors; name the layer that follows it')
    shapes = [graph.shapes[tensor] for tensor in _outputs(graph, end)]
    if any(shape is None or len(shape) not in (2, 3, 4, 5) or not shape[-1] for shape in shapes):
        raise BadInput(f'deepen: "{end}" makes {shapes[0]}, neither vectors nor feature maps')
    formats = [graph.layers[path].config.get("data_format") for path in (start, end)]
    if "channels_first" in formats:
        raise BadInput(f'deepen: "{start}" has its channels first; only channels last are met')


def _is_idempotent(layer: Layer) -> bool:
    if layer.kind == "ReLU":
        return not layer.live.negative_slope
    if layer.kind in ("LeakyReLU", "PReLU", "ELU", "Softmax"):
        return False
    function = getattr(layer.live, "activation", None)
    return function is None or function in [keras.activations.get(one) for one in IDEMPOTENT]


def _inherited(block: _Block) -> dict[str, Any]:
    """What the new layer takes over from the one that was named."""
    config = block.graph.layers[block.start].config
    return {key: config[key] for key in _INHERITED if config.get(key) is not None}


def _layer(block: _Block, kernel_size, width: int, settings: dict[str, Any]) -> keras.Layer:
    """The new layer, unbuilt and linear."""
    rank = len(block.graph.shapes[_outputs(block.graph, block.end)[0]])
    start = block.graph.layers[block.start]
    dense = rank == 2 or start.kind == "Dense"
    if dense and kernel_size is not None:
        raise BadInput(f'deepen: after "{block.end}" comes a Dense layer, which has no kernel_size')
    if "activation" in settings:
        raise BadInput(f'deepen: the activation is that of "{block.end}"; give none')
    kind = "Dense" if dense else f"Conv{rank - 2}D"
    shape = {"units": width}
    if not dense:
        shape = {"filters": width, "kernel_size": _kernel_size(start, kernel_size, rank - 2)}
        shape.update(padding="same", data_format="channels_last")
    try:
        layer = getattr(keras.layers, kind)(**{**shape, **settings, "name": block.name()})
    except (TypeError, ValueError) as error:
        raise BadInput(f"deepen: {kind}: {str(error).strip().splitlines()[0]}") from error
    _check_layer(layer, width)
    return layer


def _kernel_size(start: Layer, given, dimensions: int) -> tuple[int, ...]:
    if given is None:
        own = getattr(start.live, "kernel_size", None) or (3,) * dimensions
        given = own if all(size % 2 for size in own) else 3
    sizes = (given,) * dimensions if isinstance(given, int) else tuple(given)
    if len(sizes) != dimensions or any(not isinstance(k, int) or k < 1 or not k % 2 for k in sizes):
        raise BadInput(f"deepen: kernel_size={given!r} must be odd: an even kernel has no centre")
    return sizes


def _check_layer(layer: keras.Layer, width: int) -> None:
    if getattr(layer, "filters", getattr(layer, "units", None)) != width:
        raise BadInput(f"deepen: the new layer must be {width} wide, as what it passes on")
    if set(getattr(layer, "strides", (1,))) != {1}:
        raise BadInput(
            f"deepen: strides={layer.strides}: a layer that skips positions is no identity"
        )
    if getattr(layer, "groups", 1) != 1:
        raise BadInput(f"deepen: groups={layer.groups}: only a full kernel is made")
    if getattr(layer, "padding", "same") not in ("same", "causal"):
        raise BadInput(f'deepen: padding="{layer.padding}" cuts the border off; leave it "same"')


def _identity(block: _Block, layer: keras.Layer, width: int, *, linear: bool) -> New:
    """The new layer with the weights that pass its input on; with its activation if not linear."""
    sizes = getattr(layer, "kernel_size", ())
    kernel = np.zeros((*sizes, width, width), np.float32)
    last = getattr(layer, "padding", "same") == "causal"  # what is now is the last of its window
    kernel[tuple(size - 1 if last else size // 2 for size in sizes)] = np.eye(width)
    if not linear:
        layer.activation = getattr(block.last.live, "activation", None) or layer.activation
    return New(layer, [kernel, np.zeros(width, np.float32)] if layer.use_bias else [kernel])


def _normalization(block: _Block, data) -> New:
    """A batch normalization that undoes itself."""
    if data is None:
        raise BadInput("deepen: batch_normalization=True measures its input; give it data")
    mean, variance = _moments(block.graph, _outputs(block.graph, block.end), data)
    dtype = block.graph.layers[block.start].live.dtype_policy
    layer = keras.layers.BatchNormalization(name=block.name("_bn"), dtype=dtype)
    gamma = np.sqrt(variance + layer.epsilon)
    return New(layer, [np.float32(one) for one in (gamma, mean, mean, variance)])


def _moments(graph: Graph, wanted: list[int], data) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel over all examples and positions of some tensors."""
    forward = Forward(graph, wanted)
    count, total, squares = 0, 0.0, 0.0
    for inputs in _batches(graph.model, data):
        for value in forward(inputs):
            rows = np.float64(keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")))
            rows = rows.reshape(-1, rows.shape[-1])
            count += len(rows)
            total, squares = total + rows.sum(axis=0), squares + (rows**2).sum(axis=0)
    if not count:
        raise BadInput("deepen: the data is empty; give it at least one batch")
    mean = total / count
    return mean, np.maximum(squares / count - mean**2, 0.0)


def _batches(model: keras.Model, data) -> Iterator[list]:
    """The inputs of the model, batch by batch."""
    if hasattr(data, "images"):  # tfeffi.data.Images: uint8, and models take [0, 1]
        data = data.images / np.float32(255)
    if isinstance(data, tf.data.Dataset):
        given = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in data)
    else:
        arrays = [np.asarray(one) for one in (data if len(model.inputs) > 1 else [data])]
        length = len(arrays[0]) if arrays[0].ndim else 0
        given = ([a[i : i + BATCH] for a in arrays] for i in range(0, length, BATCH))
    for batch in given:
        values = keras.tree.flatten(batch)
        shapes = [tuple(value.shape[1:]) for value in values]
        wanted = [tuple(tensor.shape[1:]) for tensor in model.inputs]
        if len(shapes) != len(wanted) or not all(map(_fits, shapes, wanted)):
            raise BadInput(f"deepen: the data has shapes {shapes}, which the model does not take")
        pairs = zip(values, model.inputs, strict=True)
        yield [keras.ops.cast(value, tensor.dtype) for value, tensor in pairs]


def _fits(shape: tuple, wanted: tuple) -> bool:
    """Whether an example has a shape, in which None is any size."""
    return len(shape) == len(wanted) and all(
        one in (None, size) for one, size in zip(wanted, shape, strict=True)
    )
