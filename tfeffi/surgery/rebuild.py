"""From an edited config and arrays to a model: config out, config in, weights by variable."""

import copy
import tempfile
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras

from tfeffi import derived
from tfeffi.errors import BadInput
from tfeffi.surgery.coupling import Coupling, Plan
from tfeffi.surgery.graph import Graph, Layer, holds_layers, read, restore, tensors
from tfeffi.surgery.rules.base import Cut, Edit
from tfeffi.surgery.slices import Slices


def reindex(
    model: keras.Model, index_map: Mapping[str, Any], *, inexact: bool = False
) -> tuple[keras.Model, Slices]:
    """Keeps, drops, reorders or repeats channels; coupled channels and all readers follow.

    Dropping is pruning: the result computes what the model computes when the dropped channels are
    masked to zero where they are read. Repeating is Net2Wider: readers divide by how often a
    channel is repeated, and the result computes the same as the model.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        index_map: for each named layer, the channels of its output to keep: a list of positions,
            in the new order; repeats copy.
        inexact: whether channels may go that layer normalization, softmax or another statistic is
            taken over. The result is then not what the masked model computes; which layers are to
            blame says `Coupling.of(model, inexact=True).plan(index_map).inexact`.

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
    coupling = Coupling.of(model, inexact=inexact)
    return apply(coupling, coupling.plan(index_map))


def apply(coupling: Coupling, plan: Plan) -> tuple[keras.Model, Slices]:
    """Builds what a plan describes; see `reindex`."""
    graph = coupling.graph
    config = copy.deepcopy(graph.model.get_config())
    _edit(config, {path: edit for path, edit in plan.edits.items() if not edit.empty}, "")
    made = build(graph, config)
    slices = Slices.of(graph.model, _cuts(graph, plan))
    _fill(graph, read(made), plan)
    keep_frozen(graph, graph.model, made)
    derived.renew(made)
    return made, slices


def build(graph: Graph, config: dict[str, Any]) -> keras.Model:
    """A new model from the edited config of the graph's model; its weights are fresh."""
    cls = type(graph.model) if "input_layers" in config else keras.Sequential
    try:
        return cls.from_config(config, custom_objects=custom_objects(graph))
    except (ValueError, TypeError) as error:
        refuse(graph, error)
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        raise BadInput(f"surgery: Keras does not build the new model: {lines[0]:.200}") from error


def refuse(graph: Graph, error: Exception, but: Collection[str] = ()) -> None:
    """Names the layer that is why a model was not rebuilt, if there is one.

    Args:
        graph: the model whose config was used.
        error: what Keras said.
        but: paths of layers that are not in the new model.

    Raises:
        BadInput: Keras does not make this layer from its config; a Lambda layer holds code.
    """
    for path, layer in graph.layers.items():
        if layer.live is None or path in but:
            continue
        try:
            keras.saving.deserialize_keras_object(
                {
                    k: v
                    for k, v in layer.entry.items()
                    if k not in ("inbound_nodes", "build_config")
                },
                custom_objects=custom_objects(graph),
            )
        except (ValueError, TypeError) as fault:
            if layer.kind != "Lambda":
                first = str(fault.__cause__ or fault).strip().splitlines()[0]
                raise BadInput(
                    f"surgery: Keras does not rebuild {layer} from its own config: {first:.200}"
                ) from error
            raise BadInput(
                f'surgery: "{path}" is a Lambda layer, whose function Keras does not take from a '
                "config; replace it by keras.ops or a layer class of your own, or, if it is a lambda "
                "that you trust, call keras.config.enable_unsafe_deserialization() first"
            ) from error


def custom_objects(graph: Graph, more: Sequence[keras.Layer] = ()) -> dict[str, type]:
    """The layer classes of the model that Keras does not know by itself, by their names."""
    classes = {type(layer) for layer in [*derived.inside(graph.model), *more]}
    return {c.__name__: c for c in classes if not c.__module__.startswith("keras.")}


def _edit(config: dict[str, Any], edits: Mapping[str, Edit], prefix: str) -> None:
    """Writes what changed into the config of a model and of the models nested in it."""
    for entry in config["layers"]:
        name = entry.get("name") or entry["config"].get("name")
        if holds_layers(entry):
            _edit(entry["config"], edits, f"{prefix}{name}/")
            entry["config"].pop("build_input_shape", None)
        edit = edits.get(f"{prefix}{name}")
        if edit is not None:
            entry["config"].update(edit.config)
            if edit.arguments is not None:
                entry["inbound_nodes"] = [_called(node, edit) for node in entry["inbound_nodes"]]
        entry.pop("build_config", None)  # the old shapes; the calls build the layer anew


def _called(node: dict[str, Any], edit: Edit) -> dict[str, Any]:
    args, kwargs = restore(edit.arguments, tensors([node["args"], node["kwargs"]]))
    return {**node, "args": args, "kwargs": kwargs}


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
        twin = counterpart(layer, new)
        for source, target in zip(layer.live.variables, twin.variables, strict=True):
            value = keras.ops.convert_to_numpy(source)
            for cut in cuts.get(source.name, ()):
                value = cut.take(value)
            if tuple(value.shape) != tuple(target.shape):
                raise BadInput(
                    f"surgery: {layer} expects {source.name} of shape {tuple(target.shape)}, "
                    f"the cut gives {tuple(value.shape)}"
                )
            target.assign(value)
        carry_assets(layer.live, twin)


def counterpart(layer: Layer, new: Graph) -> keras.Layer:
    """The layer of a rebuilt model that was made from the config of this one.

    Raises:
        BadInput: the config does not tell the name, so that Keras gave it another one.
    """
    if layer.path not in new.layers:
        raise BadInput(
            f"surgery: {layer} does not tell its name in its config, so that it lost it; give it a "
            "get_config that begins with super().get_config()"
        )
    return new.layers[layer.path].live


def carry_assets(old: keras.Layer, new: keras.Layer) -> None:
    """Gives a rebuilt layer what is neither config nor variable, such as an adapted vocabulary."""
    for source, target in zip(derived.inside(old), derived.inside(new), strict=True):
        if not hasattr(source, "save_assets"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            source.save_assets(folder)
            target.load_assets(folder)


def keep_frozen(graph: Graph, old: keras.Model, new: keras.Model, prefix: str = "") -> None:
    """Freezes the models that were frozen: a Sequential one does not tell it in its config."""
    if new.trainable and not old.trainable:
        flags = [(layer, layer.trainable) for layer in derived.inside(new)]
        new.trainable = False
        for layer, flag in flags[1:]:  # outer ones first, as each takes along what it holds
            if layer.trainable != flag:
                layer.trainable = flag
    for layer in old.layers:
        inside = f"{prefix}{layer.name}/"
        if any(path.startswith(inside) for path in graph.layers):
            keep_frozen(graph, layer, new.get_layer(layer.name), inside)
