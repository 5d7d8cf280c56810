"""From the operators of a .tflite back to the Keras layers that they compute.

The converter names its tensors by the name scopes of the trace, but Keras opens a scope twice for
each layer, and TensorFlow numbers what is taken: "conv2d_1" is the second scope of the layer
"conv2d", or the first of another. So for the trace the layers are called "layer_0.", "layer_1.", ...:
the dot ends the name, whatever number follows. It also makes the names independent of those that
Keras counts up in a process, and for that the layers within layers (an activation, a cell) are
"part_0.", "part_1.", ...
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence

import keras

from tfeffi.export.steps import Step

_SCOPE = re.compile(r"layer_(\d+)\.(_\d+)?")
_ANY_SCOPE = re.compile(r"((?:layer|part)_\d+\.)(_\d+)?")


def paths(model: keras.Model) -> list[tuple[str, keras.Layer]]:
    """The layers that compute something, in the model's order: "conv", or "backbone/conv" if nested."""
    found, seen = [], set()

    def collect(inner, prefix):
        for layer in inner.layers:
            if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
                continue
            seen.add(id(layer))
            if getattr(layer, "layers", None):
                collect(layer, f"{prefix}{layer.name}/")
            else:
                found.append((prefix + layer.name, layer))

    collect(model, "")
    return found


@contextlib.contextmanager
def numbered(model: keras.Model) -> Iterator[None]:
    """While this is open, the layers' scopes are numbers, and "model." for models."""
    kept = []
    try:
        for layer, scope in _scopes(model):
            kept.append((layer, layer.name))
            layer.name = scope
        yield
    finally:
        for layer, name in kept:
            layer.name = name


def _scopes(model: keras.Model) -> list[tuple[keras.Layer, str]]:
    """What every layer is called in the trace: those of `paths`, their parts, and the models."""
    layers = [layer for _, layer in paths(model)]
    known, parts, models = {id(layer) for layer in layers}, [], []
    for layer in model._flatten_layers():
        if id(layer) not in known and not isinstance(layer, keras.layers.InputLayer):
            (models if getattr(layer, "layers", None) else parts).append(layer)
    return [
        *((layer, f"layer_{number}.") for number, layer in enumerate(layers)),
        *((part, f"part_{number}.") for number, part in enumerate(parts)),
        *((inner, "model.") for inner in models),
    ]


def owners(steps: Sequence[Step], model: keras.Model) -> list[int | None]:
    """Which layer each step computes, as a number of `paths`.

    A step that computes several, such as a convolution with its normalization and activation, is of
    the first of them. What the converter made up itself goes with the step that feeds it.

    Args:
        steps: of a file converted while `numbered` was open.
        model: that was converted.
    """
    at_end = _at_end(model)
    found: list[int | None] = []
    for step in steps:
        numbers = _numbers(";".join(step.outputs)) or _numbers(step.kernel_name or "")
        numbers += [] if numbers else [at_end[k] for k in step.is_output if at_end[k] is not None]
        numbers += [] if numbers else [found[s] for s in step.sources if found[s] is not None]
        found.append(min(numbers, default=None))
    return found


def _numbers(names: str) -> list[int]:
    """Of the innermost layer in each of the names that a tensor is called by."""
    scopes = ([_SCOPE.fullmatch(part) for part in name.split("/")] for name in names.split(";"))
    return [int([s for s in found if s][-1][1]) for found in scopes if any(found)]


def _at_end(model: keras.Model) -> list[int | None]:
    """The layer that makes each output of the model; the file names the output's tensor otherwise."""
    numbers = {id(layer): number for number, (_, layer) in enumerate(paths(model))}
    made_by = (tensor._keras_history.operation for tensor in model.outputs)
    return [numbers.get(id(operation)) for operation in made_by]


def with_names(content: bytes, model: keras.Model) -> bytes:
    """The file with the layers' names in place of their numbers, as any other export has them."""
    from ai_edge_litert.tools import flatbuffer_utils

    names = {scope: layer.name for layer, scope in _scopes(model)}
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for graph in file.subgraphs:
        for tensor in graph.tensors:
            tensor.name = _restored(tensor.name.decode(), names).encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(file))


def _restored(name: str, names: Mapping[str, str]) -> str:
    def own(scope: re.Match) -> str:
        return names[scope[1]] + (scope[2] or "")

    return _ANY_SCOPE.sub(own, name).replace("model._", "model_")
