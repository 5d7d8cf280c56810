"""Takes out branches that add the same to every image: a residual block that has died."""

import copy
import dataclasses
from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from tfeffi import derived
from tfeffi.surgery.graph import Call, Graph, read, references, tensors
from tfeffi.surgery.rebuild import build, carry_assets
from tfeffi.surgery.rules.activations import LAYERS, is_elementwise

_PASSING = ("BatchNormalization", "Identity", *LAYERS)  # make a constant of a constant
_KERNELS = ("Conv1D", "Conv2D", "Conv3D", "Dense")


@dataclasses.dataclass(frozen=True, eq=False)
class Branch:
    """A branch that gives a constant.

    Attributes:
        add: the layer that adds it.
        stays: the tensor that it is added to, as it is serialized.
        constant: (channels,) what it adds at inference.
    """

    add: str
    stays: dict[str, Any]
    constant: np.ndarray


def drop_constant_branches(
    model: keras.Model, dead: Collection[str]
) -> tuple[keras.Model, tuple[str, ...]]:
    """Takes out every branch that ends in a dead layer; what it still adds is kept as a constant.

    A convolution whose kernel is zero gives its bias everywhere, at the border too. Batch
    normalization and activations make another constant c of it, and Add(x, branch) becomes x + c:
    `keras.layers.Rescaling` with an offset for each channel. At inference the result computes what
    the model computes; c is no longer trained.

    Args:
        model: functional; it is left as it is. Nested models are left alone.
        dead: paths of convolutions and dense layers whose kernels are taken for zero.

    Returns:
        The new model and the names of the Add layers that have become a Rescaling; the model itself
        and none if there is no such branch.

    Example:
        smaller, gone = drop_constant_branches(model, {"stage2_block3_conv2"})

    Source: PruneTrain (Lym et al. 2019, arXiv 1901.09290, section 4.2), which takes such a block for
    the identity; c is what that leaves out.
    """
    graph = read(model)
    branches = [] if any("/" in path for path in graph.layers) else _find(graph, set(dead))
    if not branches:
        return model, ()
    config = copy.deepcopy(model.get_config())
    entries = {entry["name"]: entry for entry in config["layers"]}
    for branch in branches:
        _replace(entries[branch.add], branch)
    _drop_unreached(config)
    made = build(graph, config)
    new = read(made)
    for path, layer in new.layers.items():
        if layer.live is not None and layer.kind == graph.layers[path].kind:
            for source, target in zip(
                graph.layers[path].live.variables, layer.live.variables, strict=True
            ):
                target.assign(source)
            carry_assets(graph.layers[path].live, layer.live)
    derived.renew(made)
    return made, tuple(branch.add for branch in branches)


def _find(graph: Graph, dead: set[str]) -> list[Branch]:
    makers = {tensor: call for call in graph.calls for tensor in call.outputs}
    readers: dict[int, int] = {}
    for tensor in [t for call in graph.calls for t in call.inputs] + list(graph.outputs):
        readers[tensor] = readers.get(tensor, 0) + 1
    calls = [call.layer.path for call in graph.calls]
    found = []
    for call in graph.calls:
        if call.layer.kind != "Add" or len(call.inputs) != 2 or calls.count(call.layer.path) > 1:
            continue
        first, second = call.inputs
        if graph.shapes[first] != graph.shapes[second]:
            continue
        for place, tensor in enumerate(call.inputs):
            chain = _chain(tensor, makers, readers, dead)
            if chain and not any(calls.count(one.layer.path) > 1 for one in chain):
                stays = tensors(call.layer.entry["inbound_nodes"][0]["args"])[1 - place]
                rank = len(graph.shapes[chain[0].outputs[0]])
                found.append(Branch(call.layer.path, stays, _constant(chain, rank)))
                break
    return found


def _chain(tensor: int, makers, readers, dead: set[str]) -> list[Call] | None:
    """The calls from a dead layer to a tensor, if nothing else looks at what they make."""
    chain: list[Call] = []
    while readers[tensor] == 1 and tensor in makers:
        call = makers[tensor]
        chain.insert(0, call)
        layer = call.layer
        if layer.path in dead:
            return chain if _gives_its_bias(layer) else None
        passes = layer.kind in _PASSING or (
            layer.kind == "Activation" and is_elementwise(layer.config["activation"])
        )
        if not passes or layer.live is None or len(call.inputs) != 1:
            return None
        [tensor] = call.inputs
    return None


def _gives_its_bias(layer) -> bool:
    last = layer.config.get("data_format", "channels_last") == "channels_last"
    return layer.kind in _KERNELS and last and is_elementwise(layer.config.get("activation"))


def _constant(chain: list[Call], rank: int) -> np.ndarray:
    """What the end of a chain is, for each channel, when its first layer gives its bias."""
    layer = chain[0].layer.live
    width = layer.kernel.shape[-1]
    bias = layer.bias if layer.use_bias else keras.ops.zeros(width)
    value = keras.ops.reshape(bias, (1,) * (rank - 1) + (width,))
    value = layer.activation(keras.ops.cast(value, layer.compute_dtype))
    for call in chain[1:]:
        batch = call.layer.kind == "BatchNormalization"
        value = call.layer.live(value, **({"training": False} if batch else {}))
    return keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")).ravel()


def _replace(entry: dict[str, Any], branch: Branch) -> None:
    """Makes the entry of the Add one of a Rescaling that is called on what stays."""
    offset = [float(one) for one in branch.constant]
    layer = keras.layers.Rescaling(1.0, offset, name=entry["name"])
    made = keras.saving.serialize_keras_object(layer)
    made["config"]["dtype"] = entry["config"]["dtype"]
    made.pop("build_config", None)
    node = {"args": [branch.stays], "kwargs": {}}
    entry.clear()
    entry.update({**made, "name": made["config"]["name"], "inbound_nodes": [node]})


def _drop_unreached(config: dict[str, Any]) -> None:
    """Leaves out the layers that no output depends on any more."""
    entries = {entry["name"]: entry for entry in config["layers"]}
    waiting = [reference[0] for reference in references(config["output_layers"])]
    reached = {reference[0] for reference in references(config["input_layers"])}
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            for tensor in tensors([list(node.values()) for node in entries[name]["inbound_nodes"]]):
                waiting.append(tensor["config"]["keras_history"][0])
    config["layers"] = [entry for entry in config["layers"] if entry["name"] in reached]
