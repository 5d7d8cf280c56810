"""One layer of Keras 3 in tf_keras: what it is called there, its config, its calls."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from tfeffi.compress.tfmot.library import tf_keras
from tfeffi.errors import BadInput
from tfeffi.surgery.graph import Call, Layer, fill, is_reference

# Activations of one name and one formula in both; the others run as Keras 3's functions.
_SAME_ACTIVATIONS = frozenset(
    [
        "elu",
        "exponential",
        "gelu",
        "linear",
        "relu",
        "selu",
        "sigmoid",
        "softmax",
        "softplus",
        "softsign",
        "tanh",
    ]
)
_RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}  # (class, key in Keras 3): key in tf_keras
_PENALTIES = ("_regularizer", "_constraint")
_SPLIT = "SeparableConv2D"  # tfmot splits it under names of its own; here they are known


def refusal(layer: Layer, why: str) -> BadInput:
    """The error for a layer that cannot cross."""
    return BadInput(f"tfmot: layer {layer} cannot be rebuilt in tf_keras: {why:.200}; replace it")


def variable_name(variable) -> str:
    """ "kernel" of a tf_keras variable "quant_conv/conv/kernel:0"."""
    return variable.name.split(":")[0].split("/")[-1]


def variable_path(variable, layer: str) -> str:
    """Where it is in the layer of that name: "query/kernel" of "wrap_mine/mine/query/kernel:0"."""
    parts = variable.name.split(":")[0].split("/")
    if layer in parts:
        return "/".join(parts[parts.index(layer) + 1 :])
    return parts[-1]  # a wrapper of tfmot made it


def is_a_layer(call: Call) -> bool:
    """Whether tf_keras has a layer for this call; else it runs as an operation of Keras 3."""
    layer = call.layer
    if layer.kind in ("ops.Add", "ops.Multiply"):
        return _elementwise(call)
    if layer.kind.startswith("ops."):
        return False
    if layer.live is not None and layer.live.variables:
        return True  # or it is refused
    return hasattr(tf_keras().layers, layer.kind)


def layers(layer: Layer, fresh: Callable[[str], str]) -> tuple:
    """The tf_keras layers, in a chain, that do what a layer of Keras 3 does; without its weights.

    Args:
        layer: of the graph.
        fresh: gives a name that is free.

    Raises:
        BadInput: there are none.
    """
    name = fresh(layer.path)
    if layer.kind in ("ops.Add", "ops.Multiply"):
        return (getattr(tf_keras().layers, layer.kind[4:])(name=name),)
    if layer.kind == _SPLIT:
        return _separable(layer, name, fresh)
    return (_made(layer, layer.kind, {**layer.config, "name": name}),)


def arguments(call: Call, tensors: list) -> tuple[tuple, dict]:
    """The arguments of a call, with tf_keras tensors; those that are None are left out."""
    args, kwargs = fill(call.arguments, tensors)
    if call.layer.kind in ("ops.Add", "ops.Multiply"):
        return (list(tensors),), {}
    return tuple(args), {key: value for key, value in kwargs.items() if value is not None}


def operation(call: Call, name: str):
    """A tf_keras layer without variables that runs an operation or layer of Keras 3 on its inputs."""
    layer = call.layer
    entry = {key: value for key, value in layer.entry.items() if key != "inbound_nodes"}
    try:
        inner = layer.live or keras.saving.deserialize_keras_object(entry)
    except (TypeError, ValueError) as error:
        raise refusal(layer, str(error)) from error
    takes_training = "training" in inspect.signature(inner.call).parameters

    def run(inputs, training):
        args, kwargs = fill(call.arguments, list(inputs))
        if takes_training:
            kwargs["training"] = training
        return inner.call(*args, **kwargs)

    return kept(run, name, layer.config.get("trainable", True))


def kept(run: Callable, name: str, trainable: bool = True):
    """A tf_keras layer that calls a function of its inputs, a list, and of `training`."""
    return _operation_class()(run, name=name, trainable=trainable)


@functools.cache
def _operation_class():
    class KerasOperation(tf_keras().layers.Layer):
        """Runs what has no variables; its config holds the function itself, for clones alone."""

        def __init__(self, run, **arguments):
            super().__init__(**arguments)
            self.run = run

        def call(self, inputs, training=None):
            return self.run(inputs, bool(training))

        def get_config(self):
            return {**super().get_config(), "run": self.run}

    return KerasOperation


def custom_objects() -> dict[str, Any]:
    """What tf_keras must know by name to clone a twin."""
    names = set(vars(keras.activations)) - _SAME_ACTIVATIONS
    functions = {name: getattr(keras.activations, name) for name in names}
    found = {k: v for k, v in functions.items() if inspect.isfunction(v) and k[0] != "_"}
    return {**found, "KerasOperation": _operation_class()}


def _elementwise(call: Call) -> bool:
    """Whether an operation is of two tensors of one rank: then a layer of tf_keras does it."""
    args, kwargs = call.arguments
    both = [*args, *kwargs.values()]
    return len(both) == 2 == len(call.inputs) and all(map(is_reference, both))


def _made(layer: Layer, kind: str, config: dict[str, Any]):
    """A tf_keras layer of a class from the config of one of Keras 3."""
    made = getattr(tf_keras().layers, kind, None)
    if made is None:
        raise refusal(layer, f"tf_keras has no {kind} layer")
    arguments = _config(layer, kind, config)
    try:
        return made(**arguments)
    except (TypeError, ValueError) as error:
        raise refusal(layer, str(error).strip().splitlines()[0]) from error


def _config(layer: Layer, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """The config as tf_keras knows it: initializers dropped, and what is at its default."""
    known = _parameters(getattr(tf_keras().layers, kind))
    defaults = _parameters(type(layer.live)) if layer.live is not None else {}
    found = {}
    for key, value in config.items():
        name = _RENAMED.get((kind, key), key)
        if key.endswith("initializer"):
            continue
        if key == "dtype":
            value = _policy(value)
        elif key.endswith("activation"):
            value = _activation(layer, value)
        elif key.endswith(_PENALTIES):
            value = _penalty(value)
        elif isinstance(value, dict) and "class_name" in value:
            raise refusal(layer, f"its {key} is a {value['class_name']}")
        if name in known or key in ("name", "trainable", "dtype"):
            found[name] = tuple(value) if isinstance(value, list) else value
        elif value not in (None, False) and value != defaults.get(key):
            raise refusal(layer, f"tf_keras knows no {key}={value!r}")
    return found


def _parameters(made: type) -> dict[str, Any]:
    """The arguments of a class and of those it is made from, with their defaults."""
    found = {}
    for base in reversed(made.__mro__):
        if "__init__" in vars(base):
            found.update(
                {p.name: p.default for p in inspect.signature(base.__init__).parameters.values()}
            )
    return found


def _policy(value) -> str:
    return value["config"]["name"] if isinstance(value, dict) else value


def _penalty(value):
    if not isinstance(value, dict):
        return value
    config = {k: v for k, v in value["config"].items()}
    return {"class_name": value["class_name"], "config": config}


def _activation(layer: Layer, value):
    """A name that means the same to tf_keras, or Keras 3's own function."""
    if value is None or value in _SAME_ACTIVATIONS:
        return value
    try:
        return keras.activations.get(value)
    except (TypeError, ValueError) as error:
        raise refusal(layer, f"its activation is {value!r}") from error


def _separable(layer: Layer, name: str, fresh) -> tuple:
    config = layer.config
    shared = {key: config[key] for key in ("trainable", "dtype", "data_format")}
    depthwise = {
        **shared, "name": fresh(f"{layer.path}_depthwise"), "use_bias": False, "activation": "linear",
        **{k: config[k] for k in (
            "kernel_size", "strides", "padding", "depth_multiplier", "dilation_rate",
            "depthwise_regularizer", "depthwise_constraint",
        )},
    }  # fmt: skip
    pointwise = {
        **shared, "name": name, "kernel_size": (1, 1), "filters": config["filters"],
        "activation": config["activation"], "use_bias": config["use_bias"],
        "kernel_regularizer": config["pointwise_regularizer"],
        "kernel_constraint": config["pointwise_constraint"],
        "bias_regularizer": config["bias_regularizer"],
        "bias_constraint": config["bias_constraint"],
    }  # fmt: skip
    return _made(layer, "DepthwiseConv2D", depthwise), _made(layer, "Conv2D", pointwise)
