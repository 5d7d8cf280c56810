"""A model read from its config: layers by path, calls in order, tensors by number.

Only `model.get_config()` is read, and of the live layers only their variables. Nested models are
opened: a layer of theirs has the path "nested/layer", and their calls stand in line with the rest.
"""

import dataclasses
from typing import Any

import keras

from tfeffi.errors import BadInput

_FUNCTIONAL = ("layers", "input_layers", "output_layers")
_REFERENCE = "tfeffi:tensor:"  # stands for a tensor in the arguments of a call


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A layer or operation of the model.

    Attributes:
        path: its name, after the names of the nested models it is in: "encoder/conv1".
        kind: "Conv2D" for a Keras layer, "ops.Add" for a Keras operation, else "package>Class".
        config: its own config.
        entry: its whole entry in the config of the model.
        live: the layer itself, or None for an operation.
    """

    path: str
    kind: str
    config: dict[str, Any]
    entry: dict[str, Any]
    live: keras.Layer | None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its variables, by name."""
        if self.live is None:
            return {}
        return {variable.name: tuple(variable.shape) for variable in self.live.variables}

    def __str__(self) -> str:
        return f'"{self.path}" ({self.kind})'


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer: tensors in, tensors out, and the arguments as they were serialized."""

    layer: Layer
    index: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arguments: tuple[Any, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A functional or Sequential model, opened.

    Attributes:
        model: the model it was read from.
        layers: every layer by its path, nested ones included.
        calls: every call, each after the calls whose tensors it takes.
        shapes: the shape of each tensor, batch first, None where it is open or not recorded.
        inputs, outputs: the tensors that enter and leave the model.
    """

    model: keras.Model
    layers: dict[str, Layer]
    calls: tuple[Call, ...]
    shapes: tuple[tuple[int | None, ...] | None, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read(model: keras.Model) -> Graph:
    """Reads a functional or Sequential model.

    Raises:
        BadInput: the model is subclassed or not built.
    """
    reader = _Reader()
    inputs, outputs = reader.open(model, "", None)
    calls = tuple(call.finish(reader) for call in reader.calls)
    return Graph(model, reader.layers, calls, tuple(reader.shapes), inputs, outputs)


def config_of(model: keras.Model) -> dict[str, Any]:
    """The functional config of a model; of a Sequential one, that of its functional view.

    Raises:
        BadInput: the model is subclassed, not built, or not a Keras model.
    """
    if not isinstance(model, keras.Model):
        raise BadInput(f"surgery: expected a keras.Model, got {type(model).__name__}")
    if isinstance(model, keras.Sequential):
        try:
            view = keras.Model(model.inputs, model.outputs, name=model.name)
        except (AttributeError, ValueError, TypeError):
            view = None
        if not model.built or view is None:
            raise BadInput(
                f'surgery: model "{model.name}" is not built; give it a keras.Input or call it once'
            )
        return {**view.get_config(), "trainable": model.trainable}
    try:
        config = model.get_config()
    except NotImplementedError:
        config = {}
        for layer in getattr(model, "operations", model.layers):
            _check_config(layer)
    if not all(key in config for key in _FUNCTIONAL):
        raise BadInput(
            f'surgery: model "{model.name}" is subclassed ({type(model).__name__}); '
            "build it as keras.Model(inputs, outputs) or keras.Sequential"
        )
    return config


def _check_config(layer: keras.Operation) -> None:
    """Raises BadInput if a layer or operation does not tell its config."""
    if isinstance(layer, keras.Model):
        return
    try:
        layer.get_config()
    except NotImplementedError:
        if not isinstance(layer, keras.Layer):
            raise BadInput(
                f'surgery: operation "{layer.name}" ({type(layer).__name__}) holds an array that '
                "its config cannot tell; give it numbers, or make it a layer of your own"
            ) from None
        raise BadInput(
            f'surgery: layer "{layer.name}" ({type(layer).__name__}) does not tell its config; give '
            "it a get_config with the arguments of its __init__"
        ) from None


def references(structure) -> list[list]:
    """The [layer, node, tensor] triples of `input_layers` or `output_layers`, in Keras' order."""
    if isinstance(structure, dict):
        return [r for key in sorted(structure) for r in references(structure[key])]
    if len(structure) == 3 and isinstance(structure[0], str):
        return [list(structure)]
    return [r for item in structure for r in references(item)]


def is_functional(entry: dict[str, Any]) -> bool:
    """Whether the entry of a layer is a nested model whose outputs count their nodes from one."""
    return all(key in entry["config"] for key in _FUNCTIONAL)


def holds_layers(entry: dict[str, Any]) -> bool:
    """Whether the entry of a layer is a nested model, functional or Sequential."""
    inside = entry["config"].get("layers")
    return isinstance(inside, list) and all(isinstance(one, dict) for one in inside)


@dataclasses.dataclass
class _OpenCall:
    """A call whose number of outputs shows only when they have all been used."""

    layer: Layer
    index: int
    inputs: tuple[int, ...]
    arguments: tuple[Any, Any]
    outputs: dict[int, int] = dataclasses.field(default_factory=dict)

    def finish(self, reader: "_Reader") -> Call:
        count = max(self.outputs, default=0) + 1
        outputs = tuple(self.output(i, reader) for i in range(count))
        return Call(self.layer, self.index, self.inputs, outputs, self.arguments)

    def output(self, index: int, reader: "_Reader") -> int:
        if index not in self.outputs:
            self.outputs[index] = reader.tensor(None)
        return self.outputs[index]


class _Reader:
    def __init__(self):
        self.layers: dict[str, Layer] = {}
        self.calls: list[_OpenCall] = []
        self.shapes: list[tuple | None] = []
        self.called: dict[str, int] = {}
        self.owners: dict[int, str] = {}  # the path of each live layer, by its identity

    def tensor(self, shape) -> int:
        self.shapes.append(None if shape is None else tuple(shape))
        return len(self.shapes) - 1

    def learn(self, tensor: int, shape) -> None:
        """Completes a shape: a nested model leaves open what the model around it knows."""
        known = self.shapes[tensor]
        if shape is not None:
            known = known or (None,) * len(shape)
            self.shapes[tensor] = tuple(
                new if old is None else old for old, new in zip(known, shape, strict=True)
            )

    def open(self, model, prefix: str, given: tuple[int, ...] | None):
        """Reads one model; `given` are the tensors that a nested model is called on."""
        scope = _Scope(self, model, prefix)
        if given is None:
            given = tuple(self.tensor(tensor.shape) for tensor in model.inputs)
            inputs = scope.start(given, nested=False)
        else:
            inputs = scope.start(given, nested=True)
        scope.run()
        outputs = scope.finish([tuple(tensor.shape) for tensor in model.outputs])
        return inputs, outputs

    def add(self, layer: Layer, inputs: tuple[int, ...], arguments) -> _OpenCall:
        self.layers.setdefault(layer.path, layer)
        first = self.owners.setdefault(id(layer.live), layer.path)
        if first != layer.path and layer.live is not None and layer.live.weights:
            raise BadInput(
                f'surgery: "{first}" and "{layer.path}" are one layer, of which Keras makes two from '
                "the config; share it within one model, or nest one model that holds it"
            )
        index = self.called.get(layer.path, 0)
        self.called[layer.path] = index + 1
        call = _OpenCall(self.layers[layer.path], index, inputs, arguments)
        self.calls.append(call)
        return call


class _Scope:
    """The layers of one model while it is read."""

    def __init__(self, reader: _Reader, model: keras.Model, prefix: str):
        self.reader, self.prefix = reader, prefix
        self.config = config_of(model)
        live = {layer.name: layer for layer in model.layers}
        self.live = live
        self.entries = {entry["name"]: entry for entry in self.config["layers"]}
        self.made: dict[tuple[str, int], Any] = {}  # (layer, node) -> _OpenCall or tensors

    def start(self, given: tuple[int, ...], *, nested: bool) -> tuple[int, ...]:
        names = [reference[0] for reference in references(self.config["input_layers"])]
        if len(names) != len(given):
            raise BadInput(
                f'surgery: model "{self.config["name"]}" is called with {len(given)} tensors '
                f"but has {len(names)} inputs"
            )
        for name, tensor in zip(names, given, strict=True):
            layer = self.layer(self.entries[name])
            call = self.reader.add(layer, (tensor,) if nested else (), ([], {}))
            if not nested:
                call.outputs[0] = tensor
            self.made[name, 0] = call
        return given

    def layer(self, entry: dict[str, Any]) -> Layer:
        name = entry["name"]
        return Layer(
            self.prefix + name, kind_of(entry), entry["config"], entry, self.live.get(name)
        )

    def run(self) -> None:
        """Keras' own order: pass over the layers until every call has found its tensors."""
        waiting = {
            name: list(enumerate(entry["inbound_nodes"])) for name, entry in self.entries.items()
        }
        waiting = {name: nodes for name, nodes in waiting.items() if nodes}
        while waiting:
            before = sum(map(len, waiting.values()))
            for name in list(waiting):
                nodes = waiting[name]
                while nodes and self.ready(nodes[0][1]):
                    self.call(name, *nodes.pop(0))
                if not nodes:
                    del waiting[name]
            if sum(map(len, waiting.values())) == before:
                raise BadInput(f"surgery: the calls of {sorted(waiting)} cannot be ordered")

    def ready(self, node) -> bool:
        return all(tuple(_history(tensor)[:2]) in self.made for tensor in tensors(_parts(node)))

    def call(self, name: str, index: int, node) -> None:
        entry = self.entries[name]
        inputs: list[int] = []

        def reference(tensor) -> str:
            inputs.append(self.find(_history(tensor), tensor["config"].get("shape")))
            return f"{_REFERENCE}{len(inputs) - 1}"

        arguments = map_tensors(_parts(node), reference)
        live = self.live.get(name)
        if isinstance(live, keras.Sequential) or is_functional(entry):
            path = f"{self.prefix}{name}/"
            self.made[name, index] = self.reader.open(live, path, tuple(inputs))[1]
        else:
            layer = self.layer(entry)
            self.made[name, index] = self.reader.add(layer, tuple(inputs), tuple(arguments))

    def find(self, history, shape) -> int:
        name, node, index = history
        made = self.made[name, node]
        found = made[index] if isinstance(made, tuple) else made.output(index, self.reader)
        self.reader.learn(found, shape)
        return found

    def finish(self, shapes: list[tuple]) -> tuple[int, ...]:
        found = []
        outputs = references(self.config["output_layers"])
        for (name, node, index), shape in zip(outputs, shapes, strict=True):
            # Keras counts the nodes of a nested functional model from one here, from zero elsewhere
            node -= is_functional(self.entries[name])
            found.append(self.find((name, node, index), shape))
        return tuple(found)


def kind_of(entry: dict[str, Any]) -> str:
    """What a layer is, by its entry in a config; see `Layer.kind`."""
    module, name = entry.get("module") or "", entry["class_name"]
    if module.startswith("keras.src.ops"):
        return f"ops.{name}"
    if module == "keras.layers" or (module.startswith("keras.") and not entry["registered_name"]):
        return name
    registered = entry.get("registered_name") or ""
    return registered if ">" in registered else f"{module or 'unregistered'}>{name}"


def _parts(node):
    return [node["args"], node["kwargs"]]


def map_tensors(structure, change):
    """A copy of serialized arguments with `change(tensor)` in place of each tensor, in order."""
    if isinstance(structure, dict):
        if structure.get("class_name") == "__keras_tensor__":
            return change(structure)
        return {key: map_tensors(value, change) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [map_tensors(value, change) for value in structure]
    return structure


def tensors(structure) -> list[dict[str, Any]]:
    """Every serialized tensor in serialized arguments, in order."""
    found: list[dict[str, Any]] = []
    map_tensors(structure, found.append)
    return found


def _history(tensor) -> list:
    return tensor["config"]["keras_history"]


def is_reference(value) -> bool:
    """Whether a leaf of a call's arguments stands for one of its input tensors."""
    return isinstance(value, str) and value.startswith(_REFERENCE)


def restore(arguments, tensors):
    """The arguments of a call as they are serialized, with `tensors` where references stood."""
    if isinstance(arguments, dict):
        return {key: restore(value, tensors) for key, value in arguments.items()}
    if isinstance(arguments, (list, tuple)):
        return [restore(value, tensors) for value in arguments]
    return (
        tensors[int(arguments.removeprefix(_REFERENCE))] if is_reference(arguments) else arguments
    )


def fill(arguments, tensors):
    """The arguments of a call, ready to use, with `tensors` where the references stood."""
    arguments = keras.saving.deserialize_keras_object(arguments)

    def value(leaf):
        return tensors[int(leaf.removeprefix(_REFERENCE))] if is_reference(leaf) else leaf

    return keras.tree.map_structure(value, arguments)
