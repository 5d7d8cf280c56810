"""One layer as a model of its own, so that it can be exported and timed; and which layers need no
time, because the converter folds them into the one before.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfeffi.errors import BadInput
from tfeffi.export import convert
from tfeffi.surgery import graph as graphs

Shape = tuple[int | None, ...]

# Batch normalization and these activations behind one of these cost nothing: they are folded.
KERNELS = (
    "Conv1D", "Conv2D", "DepthwiseConv2D", "Dense", "SeparableConv2D", "Conv2DTranspose",
)  # fmt: skip
_SUMS = ("Add", "Subtract", "ops.Add", "ops.Subtract")
_CLAMPS = ("linear", "relu", "relu6")
_GONE = (  # not there at inference
    "InputLayer", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise",
    "GaussianDropout", "ActivityRegularization", "Identity",
)  # fmt: skip
_NOT_TIMED = ("initializer", "regularizer", "constraint")  # what they say changes no time
_CALIBRATED = 4  # random inputs
_NAMES = ("name", "trainable", "seed", "batch_shape", "optional")


def build(
    entry: Mapping[str, Any],
    arguments: Any,
    shapes: Sequence[Shape],
    custom_objects: Mapping[str, type] | None = None,
) -> keras.Model:
    """A model that is one call of one layer, with fresh weights.

    Args:
        entry: the layer as Keras serializes it: {"class_name", "config", ...}.
        arguments: of the call, as `tfeffi.surgery.graph.Call` has them; None for a layer that is
            called on its inputs alone.
        shapes: of its inputs, without the batch.
        custom_objects: the classes that Keras does not know.

    Raises:
        ValueError, TypeError: Keras cannot build it.
    """
    skipped = ("inbound_nodes", "build_config", "name")
    layer = keras.saving.deserialize_keras_object(
        {key: value for key, value in entry.items() if key not in skipped},
        custom_objects=dict(custom_objects or {}),
    )
    inputs = [keras.Input(tuple(shape), batch_size=1) for shape in shapes]
    if arguments is None:
        outputs = layer(inputs if len(inputs) > 1 else inputs[0])
    else:
        args, kwargs = graphs.fill(arguments, inputs)
        outputs = layer(*args, **kwargs)
    return convert.in_float32(keras.Model(inputs, keras.tree.flatten(outputs)))


def exported(
    model: keras.Model, quantize: str | None = None, input_shape: Sequence[int] | None = None
) -> bytes:
    """The .tflite of a model as it is timed, at batch 1.

    Args:
        model: of any precision.
        quantize: None, or "int8": inputs and outputs too. The ranges are those of random inputs:
            they change what comes out, not how long it takes.
        input_shape: of one example, where the model leaves it open.

    Raises:
        ExportError: it cannot be converted.
        BadInput: its input shape is open.
    """
    model = convert.in_float32(model)
    signature = convert.specs(model, 1, input_shape)
    if quantize is None:
        return convert.convert(model, signature, None)
    random = np.random.default_rng(0)
    images = [
        random.random((_CALIBRATED, *spec.shape[1:])).astype(spec.dtype.as_numpy_dtype)
        for spec in signature
    ]
    return convert.convert(model, signature, quantize, images, integer_io=True)


def key(entry: Mapping[str, Any], arguments: Any, shapes: Sequence[Shape]) -> str:
    """The same for calls that take the same time: names and initial values do not count."""
    timed = {
        "class": entry["class_name"],
        "config": _timed(entry["config"]),
        "arguments": arguments,
        "shapes": [list(shape) for shape in shapes],
    }
    text = json.dumps(timed, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _timed(config: Any) -> Any:
    if not isinstance(config, Mapping):
        return config
    return {
        name: _timed(value)
        for name, value in config.items()
        if name not in _NAMES and not name.endswith(_NOT_TIMED)
    }


def folded(graph: graphs.Graph) -> frozenset[int]:
    """The calls, by their place in `graph.calls`, that the exported file spends no time on.

    Layers that only training knows; batch normalization right behind a linear layer with a kernel,
    whose weights take it in; ReLU and ReLU6 right behind that, or behind an addition.
    """
    uses: dict[int, int] = {}
    for call in graph.calls:
        for tensor in call.inputs:
            uses[tensor] = uses.get(tensor, 0) + 1
    for tensor in graph.outputs:
        uses[tensor] = uses.get(tensor, 0) + 1
    found, state = set(), {}  # what an output can still take in: "kernel", "clamp"
    for place, call in enumerate(graph.calls):
        kind, config = call.layer.kind, call.layer.config
        before = state.get(call.inputs[0]) if len(call.inputs) == 1 else None
        alone = len(call.inputs) == 1 and uses[call.inputs[0]] == 1
        after = None
        if kind in _GONE:
            found.add(place)
            after = before if alone else None
        elif kind == "BatchNormalization" and before == "kernel" and alone:
            found.add(place)
            after = "clamp"
        elif _is_clamp(kind, config) and before in ("kernel", "clamp") and alone:
            found.add(place)
        elif kind in KERNELS and config.get("activation", "linear") == "linear":
            after = "kernel"
        elif kind in _SUMS:
            after = "clamp"
        if len(call.outputs) == 1:
            state[call.outputs[0]] = after
    return frozenset(found)


def _is_clamp(kind: str, config: Mapping[str, Any]) -> bool:
    if kind == "ReLU":
        plain = not config.get("negative_slope") and not config.get("threshold")
        return plain and config.get("max_value") in (None, 6, 6.0)
    return kind == "Activation" and config.get("activation") in _CLAMPS


def shape_of(graph: graphs.Graph, tensor: int) -> tuple[int, ...]:
    """The shape of a tensor without the batch.

    Raises:
        BadInput: it is open.
    """
    shape = graph.shapes[tensor]
    if shape is None or None in shape[1:]:
        raise BadInput(
            f'latency table: model "{graph.model.name}" leaves the shape {shape} open; build it '
            "with an input whose sizes are known"
        )
    return tuple(shape[1:])


def memory_of(graph: graphs.Graph, quantize: str | None) -> int:
    """The bytes that one inference goes through: all weights, and the largest activations.

    Raises:
        BadInput: a shape is open.
    """
    most = 0
    for call in graph.calls:
        shapes = (shape_of(graph, tensor) for tensor in (*call.inputs, *call.outputs))
        most = max(most, sum(int(np.prod(shape)) for shape in shapes))
    return (graph.model.count_params() + most) * (1 if quantize == "int8" else 4)
