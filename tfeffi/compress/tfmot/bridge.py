"""A Keras 3 functional model rebuilt in tf_keras by its config, and its weights brought back.

The graph is read from the config (`tfeffi.surgery.graph`), nested models opened; each layer is made from
its own config in tf_keras and called as it was. Initializers are dropped: the weights are copied. What
tf_keras lacks but has no variables, an operation of `keras.ops` or a layer such as `CustomScaleLayer`,
runs inside a tf_keras layer. All else is refused by name. At the end both models compute one random
batch, and what differs is refused, too.
"""

import dataclasses
import functools
from typing import Any

import keras
import numpy as np

from tfeffi import derived
from tfeffi.compress.tfmot import translation
from tfeffi.compress.tfmot.library import is_clustering, tf_keras
from tfeffi.errors import BadInput
from tfeffi.export.convert import in_float32
from tfeffi.surgery import replace
from tfeffi.surgery.forward import Forward
from tfeffi.surgery.graph import Call, Graph, Layer, read

CLOSE = 1e-4  # of the largest output: most are equal to the bit, another function is far off
_OPEN_SIZE = 64  # of an image whose height and width are open


@dataclasses.dataclass(frozen=True, eq=False)
class Bridge:
    """A model on both sides.

    Attributes:
        graph: the Keras 3 model, read.
        model: its twin in tf_keras, flat.
        weights: for each path in the graph, where its variables are, in their order: pairs of a
            tf_keras layer's name and a variable's path in it.
    """

    graph: Graph
    model: Any
    weights: dict[str, tuple[tuple[str, str], ...]]

    def layers(self, path: str) -> set[str]:
        """The names of the tf_keras layers that hold the variables of a layer."""
        return {layer for layer, _ in self.weights.get(path, ())}


def to_tf_keras(model: keras.Model):
    """The same network in tf_keras, flat: with the layers of nested models in its own row.

    Args:
        model: a functional or built Sequential Keras 3 model; low precision becomes float32.

    Returns:
        A functional `tf_keras.Model` of the same inputs, weights and outputs. A layer "a/b" of a nested
        model is called "a_b"; a SeparableConv2D becomes a depthwise and a pointwise convolution.
        Batch normalization computes as in Keras 3, not by the fused kernel, which rounds otherwise:
        through fifty layers that is 1e-5 of an output. `layer.fused = True` brings it back.

    Raises:
        BadInput: a subclassed model, or a layer that tf_keras has no equal of; the message names it.
        MissingExtra: tf_keras is not installed.

    Example:
        twin = to_tf_keras(keras.applications.MobileNetV2(weights=None))
    """
    twin = build(model).model
    for layer in _fused(twin):
        layer.fused = False
    return twin


def from_tf_keras(trained, model: keras.Model) -> keras.Model:
    """A Keras 3 model with the weights of its trained twin.

    Args:
        trained: what `to_tf_keras(model)` gave, trained, perhaps inside wrappers of tfmot; those of
            its clustering hold the old weights, so call its `strip_clustering` first.
        model: where it came from; it is left as it is.

    Returns:
        A copy of `model` in float32 with the weights of `trained`.

    Raises:
        BadInput: `trained` lacks a layer or a weight of `model`, has one of another shape, or is
            wrapped for clustering.
    """
    return back(build(model), trained)


def build(model: keras.Model) -> Bridge:
    """As `to_tf_keras`, with what is needed to come back."""
    graph = read(_plain(model))
    layers = _Layers(graph)
    tensors = dict(zip(graph.inputs, layers.inputs(), strict=True))
    for call in graph.calls:
        if call.layer.kind == "InputLayer":
            if call.inputs:  # of a nested model: what it is called on
                tensors[call.outputs[0]] = tensors[call.inputs[0]]
            continue
        found = layers.call(call, [tensors[tensor] for tensor in call.inputs])
        tensors.update(zip(call.outputs, found, strict=False))
    twin = tf_keras().Model(
        [tensors[i] for i in graph.inputs], [tensors[i] for i in graph.outputs],
        name=graph.model.name,
    )  # fmt: skip
    layers.copy_weights()
    fused = _fused(twin)
    for layer in fused:
        layer.fused = False  # it rounds otherwise, which deep networks with odd weights amplify
    _check_same(graph, twin, tensors)
    for layer in fused:
        layer.fused = True
    return Bridge(graph, twin, layers.weights())


def back(bridge: Bridge, trained) -> keras.Model:
    """As `from_tf_keras`."""
    there = {}
    for layer in trained.layers:
        inner = getattr(layer, "layer", layer)  # a wrapper of tfmot
        if is_clustering(layer):
            raise BadInput(
                f'from_tf_keras: layer "{inner.name}" is being clustered; give what '
                "strip_clustering of tfmot makes of the trained model"
            )
        there[inner.name] = {
            translation.variable_path(v, inner.name): v for v in (*inner.weights, *layer.weights)
        }
    made = replace(bridge.graph.model, {})
    for path, layer in read(made).layers.items():
        if layer.live is None or not layer.live.weights:
            continue
        arrays = []
        for name, key in bridge.weights[path]:
            if key not in there.get(name, {}):
                raise BadInput(
                    f'from_tf_keras: the trained model has no "{name}/{key}"; give it the model that '
                    "to_tf_keras made of this one"
                )
            arrays.append(np.asarray(there[name][key]))
        _set_weights(layer, arrays)
    derived.renew(made)
    return made


def _set_weights(layer: Layer, arrays: list[np.ndarray]) -> None:
    wanted = [tuple(weight.shape) for weight in layer.live.weights]
    if layer.kind == "SeparableConv2D":  # two layers there, whose kernels have other axes
        arrays = [array.reshape(shape) for array, shape in zip(arrays, wanted, strict=True)]
    shapes = [array.shape for array in arrays]
    if shapes != wanted:
        raise BadInput(
            f'from_tf_keras: in the trained model the weights of "{layer.path}" have the shapes '
            f"{shapes}, in this one {wanted}; give it the model that to_tf_keras made of this one"
        )
    layer.live.set_weights(arrays)


def _plain(model: keras.Model) -> keras.Model:
    read(model)  # a subclassed model is refused in the words of surgery
    return in_float32(model)


class _Layers:
    """The tf_keras layers of a graph while it is rebuilt."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.made: dict[str, tuple] = {}
        self.names: set[str] = set()

    def inputs(self) -> list:
        """The inputs of the twin, in the order of the model."""
        inputs = {c.outputs[0]: c.layer for c in self.graph.calls if not c.inputs}
        return [
            tf_keras().Input(
                batch_shape=tuple(inputs[i].config["batch_shape"]),
                dtype=inputs[i].config["dtype"],
                name=self.fresh(inputs[i].path),
            )
            for i in self.graph.inputs
        ]

    def fresh(self, path: str) -> str:
        """A layer's name in the twin, which is flat."""
        name = stem = path.replace("/", "_")
        number = 1
        while name in self.names:
            number += 1
            name = f"{stem}_{number}"
        self.names.add(name)
        return name

    def call(self, call: Call, tensors: list) -> list:
        """Calls the twin of a layer; gives its outputs, flat."""
        if translation.is_a_layer(call):
            chain = self.made.get(call.layer.path)
            if chain is None:
                chain = translation.layers(call.layer, self.fresh)
                self.made[call.layer.path] = chain
            args, kwargs = translation.arguments(call, tensors)
            try:
                found = functools.reduce(
                    lambda x, one: one(x), chain[1:], chain[0](*args, **kwargs)
                )
            except (TypeError, ValueError) as error:
                raise translation.refusal(call.layer, _first_line(error)) from error
        else:
            found = translation.operation(call, self.fresh(call.layer.path))(tensors)
        return keras.tree.flatten(found)

    def weights(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """See `Bridge.weights`; a wrapper of tfmot takes variables away from its layer later."""
        return {
            path: tuple(
                (o.name, translation.variable_path(v, o.name)) for o in chain for v in o.weights
            )
            for path, chain in self.made.items()
        }

    def copy_weights(self) -> None:
        for path, chain in self.made.items():
            layer = self.graph.layers[path]
            arrays = [] if layer.live is None else layer.live.get_weights()
            for one in chain:
                count = len(one.weights)
                given, arrays = arrays[:count], arrays[count:]
                self._assign(layer, one, given)
            if arrays:
                raise translation.refusal(layer, "it has more variables than in tf_keras")

    @staticmethod
    def _assign(layer: Layer, one, arrays: list) -> None:
        shapes = [tuple(array.shape) for array in arrays]
        wanted = [tuple(weight.shape) for weight in one.weights]
        if len(shapes) == len(wanted) and layer.kind == "SeparableConv2D":
            arrays = [array.reshape(shape) for array, shape in zip(arrays, wanted, strict=True)]
        elif shapes != wanted:
            raise translation.refusal(
                layer, f"its variables have the shapes {shapes}, in tf_keras {wanted}"
            )
        one.set_weights(arrays)
        if layer.kind == "Normalization" and arrays:
            one.finalize_state()


def _fused(twin) -> list:
    """The batch normalizations that run through TensorFlow's fused kernel."""
    return [layer for layer in twin.layers if getattr(layer, "fused", False)]


def _check_same(graph: Graph, twin, tensors: dict) -> None:
    """Both models compute a random batch; the first layer that differs is refused."""
    random = np.random.default_rng(0)
    inputs = [_random(random, tensor) for tensor in graph.model.inputs]
    ours = Forward(graph, graph.outputs)(inputs)
    theirs = keras.tree.flatten(twin(inputs, training=False))
    if all(_close(a, b) for a, b in zip(ours, theirs, strict=True)):
        return
    calls = [call for call in graph.calls if call.layer.kind != "InputLayer"]
    places = [call.outputs[0] for call in calls]
    whole = tf_keras().Model(twin.inputs, [tensors[place] for place in places])
    ours = Forward(graph, places)(inputs)
    theirs = keras.tree.flatten(whole(inputs, training=False))
    for call, a, b in zip(calls, ours, theirs, strict=True):
        if not _close(a, b):
            raise translation.refusal(call.layer, "it computes something else in tf_keras")


def _random(random, tensor) -> np.ndarray:
    shape = [_OPEN_SIZE if size is None else size for size in tensor.shape[1:]]
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if "int" in dtype:
        return random.integers(0, 2, (1, *shape)).astype(dtype)
    return random.random((1, *shape)).astype(dtype)


def _close(ours, theirs) -> bool:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return ours.shape == theirs.shape and bool(
        np.max(np.abs(ours - theirs), initial=0)
        <= CLOSE * max(np.max(np.abs(ours), initial=0), 1e-30)
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
