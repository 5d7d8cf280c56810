"""The cost of a model: exact multiply-adds, parameters, bytes, layer by layer.

A multiply-add (MAC) is one product that is added to a sum; papers that print "FLOPs" for ResNets
mean MACs. Convolutions, Dense and EinsumDense have them; every other layer (normalization, pooling,
activations, Add, Embedding, recurrent cells, attention) counts as 0. The count is for one example
and for the dense kernel: positions that the padding fills with zeros are counted, as in the papers.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfeffi.errors import BadInput

Shape = tuple[int | None, ...]
BYTES_PER_VALUE = 4  # float32


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one layer costs, all its calls together.

    Attributes:
        name: the layer's name, after those of the nested models it is in: "encoder/conv1".
        kind: its class, such as "Conv2D".
        macs: multiply-adds for one example.
        params: its weights; those of a layer that a model reaches by two names count at the first.
        output_shape: of its last call, without the batch.
    """

    name: str
    kind: str
    macs: int
    params: int
    output_shape: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a model costs.

    Attributes:
        macs: multiply-adds of one forward pass of one example.
        params: all weights, as `model.count_params()` counts them.
        bytes: the weights in float32, 4 bytes each.
        activation_bytes: the outputs of all layer calls for one example in float32 together; what
            training keeps in memory grows with it. Inference needs less: buffers are reused.
        layers: the cost of each layer, in the order of the first call.
        uncounted: layers with kernels whose multiply-adds are not counted, LSTM for one.
    """

    macs: int
    params: int
    bytes: int
    activation_bytes: int
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...] = ()


def cost(model: keras.Model, input_shape: Any = None) -> Cost:
    """Counts the multiply-adds, parameters and bytes of a model, exactly.

    A shared layer counts its MACs once a call and its parameters once. A transposed convolution
    multiplies each input position with its whole kernel.

    Args:
        model: a functional or built Sequential model, nested ones included.
        input_shape: the shape of one example, (height, width, channels), where the model leaves it
            open or another one is meant; for several inputs a list of shapes in the order of
            `model.inputs`, or a dict by input name.

    Returns:
        The cost for one example (batch 1).

    Raises:
        BadInput: the model is subclassed or not built, its input shape is open and none is given,
            or the one given does not fit.

    Example:
        cost(keras.applications.MobileNetV2()).macs      # 300_774_272
    """
    seen, params = walk(model, input_shape), model.count_params()
    return Cost(
        macs=sum(layer.macs for layer in seen.layers.values()),
        params=params,
        bytes=BYTES_PER_VALUE * params,
        activation_bytes=BYTES_PER_VALUE * seen.activations,
        layers=tuple(seen.layers.values()),
        uncounted=tuple(seen.uncounted),
    )


def walk(model: keras.Model, input_shape: Any = None) -> "Walk":
    """Goes through a model call by call with symbolic tensors; arguments and errors of `cost`."""
    _check_model(model)
    tensors, seen = _input_tensors(model, input_shape), Walk()
    try:
        seen.model(model, tensors, "")
    except BadInput:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        if input_shape is None:
            raise
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f'cost: input_shape {input_shape} does not fit model "{model.name}": {why}'
        ) from error
    return seen


def layer_macs(layer: keras.Layer, input_shape: Shape, output_shape: Shape) -> int:
    """The multiply-adds of one call of a built layer for one example.

    Args:
        layer: any built layer; one without a rule counts as 0.
        input_shape, output_shape: of the call, batch first.

    Raises:
        BadInput: a size that the count needs is open (None).
    """
    for kind, rule in _RULES:
        if isinstance(layer, kind):
            _values(layer, input_shape[1:])
            return int(rule(layer, input_shape, output_shape))
    return 0


def _values(operation: Any, shape: Shape) -> int:
    """How many values a tensor of this shape has."""
    if any(size is None for size in shape):
        raise BadInput(
            f'cost: layer "{operation.name}" works on the open shape {tuple(shape)}; '
            "give the model an input whose sizes settle it"
        )
    return math.prod(shape)


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise BadInput(f"cost: expected a keras.Model, got {type(model).__name__}")
    if isinstance(model, keras.Sequential):
        if not model.built or not model.layers or getattr(model, "inputs", None) is None:
            raise BadInput(
                f'cost: model "{model.name}" is not built; give it a keras.Input or call it once'
            )
    elif not _is_functional(model):
        raise BadInput(
            f'cost: model "{model.name}" is subclassed ({type(model).__name__}), its graph cannot '
            "be read; build it as keras.Model(inputs, outputs) or keras.Sequential"
        )


def _is_functional(model: Any) -> bool:
    return isinstance(model, keras.Model) and hasattr(model, "operations")


def _input_tensors(model: keras.Model, given: Any) -> list[keras.KerasTensor]:
    """One symbolic tensor for each input, batch 1, with every size known."""
    inputs = model.inputs
    shapes = [tuple(tensor.shape[1:]) for tensor in inputs]
    if given is not None:
        shapes = _given_shapes(given, [tensor.name for tensor in inputs], shapes)
    for tensor, shape in zip(inputs, shapes, strict=True):
        if any(size is None for size in shape):
            example = tuple(size or 224 for size in shape)
            raise BadInput(
                f'cost: input "{tensor.name}" of model "{model.name}" has the open shape {shape}; '
                f"give input_shape, such as input_shape={example}"
            )
    return [
        keras.KerasTensor((1, *shape), dtype=tensor.dtype)
        for tensor, shape in zip(inputs, shapes, strict=True)
    ]


def _given_shapes(given: Any, names: list[str], own: list[Shape]) -> list[Shape]:
    """The shapes a caller gave, checked against those that the model declares."""
    if isinstance(given, Mapping):
        missing = [name for name in names if name not in given]
        if missing or len(given) != len(names):
            raise BadInput(f"cost: input_shape has {sorted(given)}; the model's inputs are {names}")
        given = [given[name] for name in names]
    elif len(names) == 1 and _is_shape(given):
        given = [given]
    if not isinstance(given, Sequence) or not all(_is_shape(shape) for shape in given):
        raise BadInput(
            f"cost: input_shape {given!r} is not a shape; give the sizes of one example, such as "
            "(224, 224, 3), or one such shape an input"
        )
    if len(given) != len(names):
        raise BadInput(f"cost: {len(given)} input shapes for {len(names)} inputs: {names}")
    for name, shape, declared in zip(names, given, own, strict=True):
        fits = len(shape) == len(declared) and all(
            size is None or size == asked for size, asked in zip(declared, shape, strict=True)
        )
        if not fits:
            raise BadInput(
                f'cost: input_shape {tuple(shape)} does not fit input "{name}" of shape {declared}'
            )
    return [tuple(shape) for shape in given]


def _is_shape(value: Any) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in value
    )


class Walk:
    """Adds up what each call costs; `calls` has (operation, tensors in, tensors out) of each."""

    def __init__(self):
        self.calls: list[tuple[Any, list[Any], list[Any]]] = []
        self.layers: dict[str, LayerCost] = {}
        self.activations = 0
        self.uncounted: list[str] = []
        self._weights_seen: set[int] = set()

    def model(self, model: keras.Model, inputs: list[Any], prefix: str) -> list[Any]:
        """Walks one model; returns its output tensors."""
        if isinstance(model, keras.Sequential):
            tensors = inputs
            for layer in model.layers:
                tensors = self.call(layer, _arguments(tensors), {}, prefix)
            return tensors
        return self._functional(model, inputs, prefix)

    def _functional(self, model: keras.Model, inputs: list[Any], prefix: str) -> list[Any]:
        config = model.get_config()
        operations = {operation.name: operation for operation in model.operations}
        tensors: dict[tuple, Any] = {}
        for key, tensor in zip(_references(config["input_layers"]), inputs, strict=True):
            tensors[key] = tensor
        waiting = [
            (entry["name"], index, node)
            for entry in config["layers"]
            for index, node in enumerate(entry["inbound_nodes"])
        ]
        while waiting:
            later = []
            for name, index, node in waiting:
                if not all(key in tensors for key in _tensors_in(node)):
                    later.append((name, index, node))
                    continue
                args, kwargs = _filled(node["args"], tensors), _filled(node["kwargs"], tensors)
                outputs = self.call(operations[name], args, kwargs, prefix)
                tensors.update({(name, index, i): tensor for i, tensor in enumerate(outputs)})
            if len(later) == len(waiting):
                raise BadInput(f'cost: model "{model.name}" has calls that nothing feeds')
            waiting = later
        outputs = _references(config["output_layers"])
        return [tensors[n, i - _first_node(operations[n]), t] for n, i, t in outputs]

    def call(self, operation: Any, args: Sequence, kwargs: dict, prefix: str) -> list[Any]:
        """Adds one call to the sums; returns its output tensors."""
        inputs = [x for x in keras.tree.flatten((args, kwargs)) if _is_tensor(x)]
        if isinstance(operation, keras.Sequential) or _is_functional(operation):
            return self.model(operation, inputs, f"{prefix}{operation.name}/")
        outputs = keras.tree.flatten(operation.compute_output_spec(*args, **kwargs))
        if any(None in tensor.shape[1:] for tensor in outputs):
            # EinsumDense declares the sizes it was built with; a trace of its call knows better.
            traced = keras.Operation.compute_output_spec(operation, *args, **kwargs)
            outputs = keras.tree.flatten(traced)
        name = prefix + operation.name
        shape = tuple(outputs[0].shape) if outputs else ()
        macs = layer_macs(operation, tuple(inputs[0].shape), shape) if inputs else 0
        before = self.layers.get(name)
        if before:
            params, macs = before.params, macs + before.macs
        else:
            params = self._new_params(operation)
            if _has_uncounted_kernel(operation):
                self.uncounted.append(name)
        kind = operation.__class__.__name__  # a fused BatchNormalization is one, too
        self.layers[name] = LayerCost(name, kind, macs, params, shape[1:])
        self.activations += sum(_values(operation, tensor.shape[1:]) for tensor in outputs)
        self.calls.append((operation, inputs, outputs))
        return outputs

    def _new_params(self, operation: Any) -> int:
        """The weights that no layer before has brought."""
        new = [w for w in getattr(operation, "weights", ()) if id(w) not in self._weights_seen]
        self._weights_seen.update(id(weight) for weight in new)
        return sum(math.prod(weight.shape) for weight in new)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _arguments(tensors: list[Any]) -> list[Any]:
    return [tensors] if len(tensors) > 1 else list(tensors)


def _first_node(operation: Any) -> int:
    """In "output_layers" the calls of a nested functional model count from 1, in "args" from 0."""
    return int(_is_functional(operation))


def _references(struct: Any) -> list[tuple[str, int, int]]:
    """The [layer, node, tensor] triples of "input_layers" and "output_layers", in flat order."""
    if isinstance(struct, Mapping):
        return [key for name in sorted(struct) for key in _references(struct[name])]
    if len(struct) == 3 and isinstance(struct[0], str):
        return [tuple(struct)]
    return [key for part in struct for key in _references(part)]


def _is_reference(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__"


def _tensors_in(value: Any) -> list[tuple[str, int, int]]:
    """The tensors that the serialized arguments of a call name."""
    if _is_reference(value):
        return [tuple(value["config"]["keras_history"])]
    if isinstance(value, Mapping):
        return [key for part in value.values() for key in _tensors_in(part)]
    if isinstance(value, (list, tuple)):
        return [key for part in value for key in _tensors_in(part)]
    return []


def _filled(value: Any, tensors: dict) -> Any:
    """The serialized arguments of a call with the tensors put in."""
    if _is_reference(value):
        return tensors[tuple(value["config"]["keras_history"])]
    if isinstance(value, Mapping):
        if "class_name" in value:
            return keras.saving.deserialize_keras_object(dict(value))
        return {key: _filled(part, tensors) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(part, tensors) for part in value)
    return value


def _spatial(layer: keras.Layer, shape: Shape) -> Shape:
    """The sizes of a convolution's input or output without batch and channels."""
    return shape[1:-1] if layer.data_format == "channels_last" else shape[2:]


def _convolution(layer: Any, _: Shape, output_shape: Shape) -> int:
    # The kernel is (..., channels in / groups, filters): groups need no rule of their own, and
    # a depthwise kernel (..., channels in, multiplier) none either.
    return math.prod(_spatial(layer, output_shape)) * math.prod(layer.kernel.shape)


def _transposed(layer: Any, input_shape: Shape, _: Shape) -> int:
    return math.prod(_spatial(layer, input_shape)) * math.prod(layer.kernel.shape)


def _separable(layer: Any, _: Shape, output_shape: Shape) -> int:
    kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return math.prod(_spatial(layer, output_shape)) * kernels


def _dense(layer: Any, _: Shape, output_shape: Shape) -> int:
    return math.prod(output_shape[1:]) * layer.kernel.shape[0]


def _einsum(layer: Any, input_shape: Shape, output_shape: Shape) -> int:
    """Every index of the equation is one loop: those of the output and the summed ones."""
    kernel = layer.equation.split("->")[0].split(",")[1].replace(" ", "")
    output = layer.equation.split("->")[1]
    summed = [size for x, size in zip(kernel, layer.kernel.shape, strict=True) if x not in output]
    return math.prod(output_shape[1:]) * math.prod(summed)


def _time_distributed(layer: Any, input_shape: Shape, output_shape: Shape) -> int:
    inner = layer_macs(layer.layer, (1, *input_shape[2:]), (1, *output_shape[2:]))
    return input_shape[1] * inner


def _wrapped(layer: Any, input_shape: Shape, output_shape: Shape) -> int:
    return layer_macs(layer.layer, input_shape, output_shape)


_L = keras.layers
_RULES: tuple[tuple[Any, Callable[[Any, Shape, Shape], int]], ...] = (
    ((_L.SeparableConv1D, _L.SeparableConv2D), _separable),
    ((_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose), _transposed),
    ((_L.Conv1D, _L.Conv2D, _L.Conv3D, _L.DepthwiseConv1D, _L.DepthwiseConv2D), _convolution),
    (_L.Dense, _dense),
    (_L.EinsumDense, _einsum),
    (_L.TimeDistributed, _time_distributed),
    (_L.SpectralNormalization, _wrapped),
)
_NO_PRODUCTS = (_L.Embedding, _L.PReLU, _L.LayerNormalization)  # weights of many axes, none summed


def _has_uncounted_kernel(operation: Any) -> bool:
    counted = (*(kind for kind, _ in _RULES), _NO_PRODUCTS)
    if any(isinstance(operation, kind) for kind in counted):
        return False
    return any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ()))
