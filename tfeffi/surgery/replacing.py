"""Put a chain of layers in the place of one: factor pairs, separable pairs, an inserted identity."""

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfeffi import derived
from tfeffi.errors import BadInput
from tfeffi.surgery.graph import (
    Graph,
    Layer,
    config_of,
    holds_layers,
    is_functional,
    map_tensors,
    read,
    tensors,
)
from tfeffi.surgery.rebuild import carry_assets, counterpart, custom_objects, keep_frozen, refuse
from tfeffi.surgery.wishes import check_names


@dataclasses.dataclass(frozen=True, eq=False)
class New:
    """A layer of the chain.

    Attributes:
        layer: an unbuilt layer; its config is used, the layer itself stays as it is.
        weights: its weights as `layer.get_weights()` will list them; None: freshly initialized.
    """

    layer: keras.Layer
    weights: Sequence[np.ndarray] | None = None


def replace(model: keras.Model, chains: Mapping[str, Sequence[New]]) -> keras.Model:
    """Puts a chain of layers in the place of each named layer; every other weight stays.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        chains: for each named layer, the layers that take its place, first to last. An empty chain
            removes the layer. A layer of a nested model is named "nested/layer".

    Returns:
        A functional model with the same inputs and outputs. A layer that was called several times
        is replaced in all its calls, by one chain with shared weights.

    Raises:
        BadInput: an unknown layer, one with several inputs or outputs, a name that is taken,
            a chain whose result has another shape, weights that do not fit, a subclassed model.

    Example:
        replace(model, {"fc": [New(Dense(9, use_bias=False, name="fc_o"), [o]),
                               New(Dense(100, name="fc"), [p, bias])]})
    """
    graph = read(model)
    if not isinstance(chains, Mapping):
        raise BadInput(f"replace: expected {{layer: [New(...), ...]}}, got {chains!r:.60}")
    for name, chain in chains.items():
        if not isinstance(chain, Iterable):
            raise BadInput(f'replace: "{name}": expected a list of New(...), got {chain!r:.60}')
    chains = {name: list(chain) for name, chain in chains.items()}
    check_names(graph.layers, chains)
    for name, chain in chains.items():
        _check(graph, name, chain)
    config = copy.deepcopy(config_of(model))
    _splice(config, chains, "")
    made = _build(config, graph, chains)
    _check_outputs(model, made)
    _fill(graph, read(made), chains)
    keep_frozen(graph, model, made)
    derived.renew(made)
    return made


def _check(graph: Graph, name: str, chain: list[New]) -> None:
    for new in chain:
        if not isinstance(new, New) or not isinstance(new.layer, keras.Layer):
            raise BadInput(f'replace: "{name}": expected New(layer, weights), got {new!r:.60}')
    for call in graph.calls:
        if call.layer.path == name and (len(call.inputs) != 1 or len(call.outputs) != 1):
            raise BadInput(
                f"replace: {call.layer} has {len(call.inputs)} inputs and {len(call.outputs)} "
                "outputs; only a layer with one of each can be replaced"
            )


def _splice(config: dict[str, Any], chains: Mapping[str, list[New]], prefix: str) -> None:
    """Rewrites the entries of one model, and of those nested in it."""
    for entry in config["layers"]:
        if is_functional(entry):
            _splice(entry["config"], chains, f"{prefix}{entry['name']}/")
        elif holds_layers(entry):
            _refuse_sequential(f"{prefix}{entry['name']}/", chains)
    here = {n.removeprefix(prefix): c for n, c in chains.items() if n.startswith(prefix)}
    for entry in list(config["layers"]):
        if entry["name"] in here:
            _splice_one(config, entry, here[entry["name"]])
    names = [entry["name"] for entry in config["layers"]]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f'replace: the name "{name}" is taken; give the new layer another')


def _refuse_sequential(path: str, chains: Mapping[str, list[New]]) -> None:
    if any(name.startswith(path) for name in chains):
        raise BadInput(
            f'replace: "{path[:-1]}" is a nested Sequential model; build it as '
            "keras.Model(inputs, outputs) to replace its layers"
        )


def _splice_one(config: dict[str, Any], old: dict[str, Any], chain: list[New]) -> None:
    """Takes one layer out, and links its chain in, call by call."""
    name, layers = old["name"], config["layers"]
    calls = range(len(old["inbound_nodes"]))
    made = [_entry(new) for new in chain]
    if made:
        ends = [[made[-1]["name"], index, 0] for index in calls]
    else:
        sources = [tensors([n["args"], n["kwargs"]])[0] for n in old["inbound_nodes"]]
        ends = [source["config"]["keras_history"] for source in sources]

    def moved(tensor):
        history = tensor["config"]["keras_history"]
        return _tensor(tensor, ends[history[1]] if history[0] == name else history)

    for entry in layers:
        entry["inbound_nodes"] = map_tensors(entry["inbound_nodes"], moved)
    for node in old["inbound_nodes"]:
        [source] = tensors([node["args"], node["kwargs"]])
        for entry in made:
            parts = [[source], {}]
            if entry["class_name"] == old["class_name"]:  # called alike: `training=False` stays
                parts = map_tensors([node["args"], node["kwargs"]], lambda _, s=source: s)
            entry["inbound_nodes"].append(dict(zip(("args", "kwargs"), parts, strict=True)))
            source = _tensor(source, [entry["name"], len(entry["inbound_nodes"]) - 1, 0])
    place = layers.index(old)
    layers[place : place + 1] = made
    nested = {entry["name"] for entry in layers if is_functional(entry)}
    config["output_layers"] = _outputs(config["output_layers"], name, ends, nested)


def _entry(new: New) -> dict[str, Any]:
    entry = keras.saving.serialize_keras_object(new.layer)
    entry.pop("build_config", None)
    return {**entry, "name": new.layer.name, "inbound_nodes": []}


def _tensor(like: dict[str, Any], history) -> dict[str, Any]:
    return {**like, "config": {**like["config"], "keras_history": list(history)}}


def _outputs(structure, name: str, ends: list[list], nested: set[str]):
    """`output_layers` with every use of the replaced layer moved to the end of its chain."""
    if isinstance(structure, dict):
        return {key: _outputs(value, name, ends, nested) for key, value in structure.items()}
    if len(structure) == 3 and isinstance(structure[0], str):
        if structure[0] != name:
            return structure
        layer, node, index = ends[structure[1]]
        return [layer, node + (layer in nested), index]  # Keras counts these from one here
    return [_outputs(value, name, ends, nested) for value in structure]


def _build(config: dict[str, Any], graph: Graph, chains) -> keras.Model:
    layers = [new.layer for chain in chains.values() for new in chain]
    known = custom_objects(graph, layers)
    try:
        return keras.Model.from_config(config, custom_objects=known)
    except (ValueError, TypeError) as error:
        refuse(graph, error, but=chains)
        first = str(error).strip().splitlines()[0]
        raise BadInput(f"replace: {sorted(chains)}: the chain does not fit: {first}") from error


def _check_outputs(before: keras.Model, after: keras.Model) -> None:
    for old, new in zip(before.outputs, after.outputs, strict=True):
        if tuple(old.shape) != tuple(new.shape):
            raise BadInput(
                f"replace: an output of the model would have shape {tuple(new.shape)} instead of "
                f"{tuple(old.shape)}; the chains must give what their layers gave"
            )


def _fill(old: Graph, new: Graph, chains: Mapping[str, list[New]]) -> None:
    given: dict[str, Sequence[np.ndarray] | None] = {}
    for name, chain in chains.items():
        prefix = name[: name.rfind("/") + 1]
        given.update({prefix + link.layer.name: link.weights for link in chain})
    for path, layer in old.layers.items():
        if layer.live is not None and path not in chains:
            _copy(layer, counterpart(layer, new))
    for path, weights in given.items():
        if weights is not None:
            _set(new.layers[path], weights)


def _copy(layer: Layer, twin: keras.Layer) -> None:
    """Gives a layer that stays its values."""
    for source, target in zip(layer.live.variables, twin.variables, strict=True):
        if tuple(source.shape) != tuple(target.shape):
            raise BadInput(
                f"replace: {layer} would need {source.name} of shape {tuple(target.shape)} instead "
                f"of {tuple(source.shape)}; the chain before it must give what its layer gave"
            )
        target.assign(source)
    carry_assets(layer.live, twin)


def _set(layer, weights: Sequence[np.ndarray]) -> None:
    if not isinstance(weights, Sequence):
        raise BadInput(
            f"replace: the weights of {layer} are {weights!r:.60}; give a list of arrays"
        )
    expected = [tuple(weight.shape) for weight in layer.live.weights]
    shapes = [tuple(np.shape(weight)) for weight in weights]
    if shapes != expected:
        raise BadInput(f"replace: {layer} has weights of shapes {expected}, given were {shapes}")
    layer.live.set_weights(list(weights))
