"""From an edited config and arrays to a model: config out, config in, weights by variable."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras

from tfeffi.errors import BadInput
from tfeffi.surgery.coupling import Coupling, Plan
from tfeffi.surgery.graph import Graph, read
from tfeffi.surgery.rules.base import Cut
from tfeffi.surgery.slices import Slices


def reindex(model: keras.Model, index_map: Mapping[str, Any]) -> tuple[keras.Model, Slices]:
    """Keeps, drops, reorders or repeats channels; coupled channels and all readers follow.

    Dropping is pruning: the result computes what the model computes when the dropped channels are
    masked to zero where they are read. Repeating is Net2Wider: readers divide by how often a
    channel is repeated, and the result computes the same as the model.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        index_map: for each named layer, the channels of its output to keep: a list of positions,
            in the new order; repeats copy.

    Returns:
        The new model, of the same class, names, dtypes and trainable flags, and the `Slices` with
        which an optimizer follows.

    Raises:
        BadInput: an unknown layer, a channel that is not there, nothing kept, a channel that must
            stay (the message says why), coupled layers that disagree, a subclassed model.

    Example:
        small, slices = reindex(model, {"conv2": [0, 2, 5]})
        optimizer = slices.apply_to(optimizer, small)

    Source: PruneTrain (Lym et al. 2019, arXiv 1901.09290) for dropping; Net2Wider (Chen et al.
    2015, arXiv 1511.05641, section 2.3) for repeating.
    """
    coupling = Coupling.of(model)
    return apply(coupling, coupling.plan(index_map))


def apply(coupling: Coupling, plan: Plan) -> tuple[keras.Model, Slices]:
    """Builds what a plan describes; see `reindex`."""
    graph = coupling.graph
    config = copy.deepcopy(graph.model.get_config())
    changes = {path: e.config for path, e in plan.edits.items() if e.config or e.cuts}
    _edit(config, changes, "")
    made = build(graph, config)
    slices = Slices.of(graph.model, _cuts(graph, plan))
    _fill(graph, read(made), plan)
    return made, slices


def build(graph: Graph, config: dict[str, Any]) -> keras.Model:
    """A new model from the edited config of the graph's model; its weights are fresh."""
    cls = keras.Sequential if isinstance(graph.model, keras.Sequential) else keras.Model
    cls = cls if "input_layers" not in config else keras.Model
    try:
        return cls.from_config(config, custom_objects=custom_objects(graph))
    except (ValueError, TypeError) as error:
        refuse_lambdas(graph, error)
        raise


def refuse_lambdas(graph: Graph, error: Exception, but: Collection[str] = ()) -> None:
    """Names the Lambda layer that is why a model was not rebuilt, if there is one.

    Args:
        graph: the model whose config was used.
        error: what Keras said.
        but: paths of layers that are not in the new model.

    Raises:
        BadInput: Keras does not make this Lambda layer from its config: it holds code.
    """
    for path, layer in graph.layers.items():
        if layer.kind != "Lambda" or path in but:
            continue
        try:
            keras.saving.deserialize_keras_object(
                {key: value for key, value in layer.entry.items() if key != "inbound_nodes"}
            )
        except (ValueError, TypeError):
            raise BadInput(
                f'surgery: "{path}" is a Lambda layer, whose function Keras does not take from a '
                "config; replace it by keras.ops or a layer class of your own, or, if it is a lambda "
                "that you trust, call keras.config.enable_unsafe_deserialization() first"
            ) from error


def custom_objects(graph: Graph, more: Sequence[keras.Layer] = ()) -> dict[str, type]:
    """The layer classes of the model that Keras does not know by itself, by their names."""
    live = [layer.live for layer in graph.layers.values() if layer.live is not None]
    classes = {type(layer) for layer in [*live, *more]}
    return {c.__name__: c for c in classes if not c.__module__.startswith("keras.")}


def _edit(config: dict[str, Any], changes: Mapping[str, Mapping[str, Any]], prefix: str) -> None:
    """Writes the changed keys into the config of a model and of the models nested in it."""
    for entry in config["layers"]:
        name = entry.get("name") or entry["config"]["name"]
        if "layers" in entry["config"]:
            _edit(entry["config"], changes, f"{prefix}{name}/")
            entry["config"].pop("build_input_shape", None)
        for key, value in changes.get(prefix + name, {}).items():
            entry["config"][key] = value
        if prefix + name in changes or (entry.get("module") or "").startswith("keras"):
            entry.pop("build_config", None)  # the old shapes; the calls build the layer anew


def _cuts(graph: Graph, plan: Plan) -> dict[int, tuple[Cut, ...]]:
    """The cuts of each variable, by the identity of the old variable."""
    found = {}
    for path, edit in plan.edits.items():
        live = graph.layers[path].live
        unknown = set(edit.cuts) - set(graph.layers[path].shapes)
        missing = unknown - {"bias"}  # `use_bias=False` is no surprise
        if missing:
            raise BadInput(f"surgery: {graph.layers[path]} has no weight {sorted(missing)[0]!r}")
        for variable in live.variables if live is not None else ():
            if edit.cuts.get(variable.name):
                found[id(variable)] = edit.cuts[variable.name]
    return found


def _fill(old: Graph, new: Graph, plan: Plan) -> None:
    """Gives the new variables the old values, cut where the plan cuts."""
    for path, layer in old.layers.items():
        if layer.live is None:
            continue
        cuts = plan.edits[path].cuts if path in plan.edits else {}
        targets = new.layers[path].live.variables
        for source, target in zip(layer.live.variables, targets, strict=True):
            value = keras.ops.convert_to_numpy(source)
            for cut in cuts.get(source.name, ()):
                value = cut.take(value)
            if tuple(value.shape) != tuple(target.shape):
                raise BadInput(
                    f"surgery: {layer} expects {source.name} of shape {tuple(target.shape)}, "
                    f"the cut gives {tuple(value.shape)}"
                )
            target.assign(value)
