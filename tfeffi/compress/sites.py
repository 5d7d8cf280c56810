"""Where a model can be factorized: its dense layers and convolutions, and why others cannot."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from tfeffi.analysis.cost import layer_macs
from tfeffi.compress.report import Skipped
from tfeffi.errors import BadInput, near
from tfeffi.surgery.graph import Call, Graph

Shape = tuple[int | None, ...]

_OTHER_KERNELS = (
    "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "EinsumDense",
    "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """A layer that could be written as a chain of cheaper ones.

    Attributes:
        path: its name, after those of the nested models it is in.
        layer: a built Conv1D, Conv2D, Conv3D or Dense.
        calls: where it is used; a shared layer has several.
        shapes: (input shape, output shape) of each call, batch first.
        kernel: its kernel, float32.
        macs: its multiply-adds over all calls.
        taken: the layer names beside it that a new layer must not have.
    """

    path: str
    layer: keras.Layer
    calls: tuple[Call, ...]
    shapes: tuple[tuple[Shape, Shape], ...]
    kernel: np.ndarray
    macs: int
    taken: frozenset[str]

    @property
    def params(self) -> int:
        """The size of its kernel; the bias costs the same before and after."""
        return self.kernel.size

    @property
    def is_dense(self) -> bool:
        return isinstance(self.layer, keras.layers.Dense)

    @property
    def is_pointwise(self) -> bool:
        """Whether it mixes channels alone: a Dense layer or a 1×1 convolution."""
        return all(size == 1 for size in self.kernel.shape[:-2])

    @property
    def bias(self) -> np.ndarray | None:
        """Its bias, float32, or None."""
        return keras.ops.convert_to_numpy(self.layer.bias) if self.layer.use_bias else None

    def name(self, suffix: str) -> str:
        """A free name for a new layer: that of this one and a suffix."""
        name, number = f"{self.layer.name}_{suffix}", 1
        while name in self.taken:
            number += 1
            name = f"{self.layer.name}_{suffix}_{number}"
        return name

    def describe(self) -> str:
        """The layer in a few words: "3×3, 64 → 128"."""
        return describe(self.layer, self.kernel.shape)


def describe(layer: keras.Layer, shape: Sequence[int]) -> str:
    """A kernel in a few words, with the stride where there is one."""
    if len(shape) == 2:
        return f"{shape[0]} → {shape[1]}"
    text = f"{times(shape[:-2])}, {shape[-2]} → {shape[-1]}"
    strides = tuple(layer.strides)
    return text if set(strides) == {1} else f"{text}, stride {times(strides)}"


def times(sizes: Sequence[int]) -> str:
    """The sizes of a window: "3×3"."""
    return "×".join(map(str, sizes))


def find(
    graph: Graph, ignore: Sequence[str] | str, who: str, kinds: Sequence[str]
) -> tuple[list[Site], list[Skipped]]:
    """The layers that can be met, and those with kernels that cannot, with the reason.

    Args:
        graph: the model, read.
        ignore: names of layers to leave alone; of a nested model: all of its layers.
        who: the name of the function, for its messages.
        kinds: the classes of layers that can be met: some of "Conv1D", "Conv2D", "Conv3D", "Dense".

    Raises:
        BadInput: `ignore` names a layer that is not in the model, or weights are not finite.
    """
    ignored = _ignored(graph, ignore, who)
    _check_inputs(graph, who)
    calls: dict[str, list[Call]] = {}
    for call in graph.calls:
        calls.setdefault(call.layer.path, []).append(call)
    sites, skipped = [], []
    for path, layer in graph.layers.items():
        if layer.kind not in kinds and layer.kind not in _OTHER_KERNELS:
            continue
        shapes = tuple((_shape(graph, c.inputs), _shape(graph, c.outputs)) for c in calls[path])
        why = "is in ignore" if path in ignored else _obstacle(graph, layer, shapes, kinds)
        if why:
            skipped.append(Skipped(path, why))
        else:
            sites.append(_site(graph, path, calls[path], shapes, who))
    return sites, skipped


def in_order(graph: Graph, skipped: Sequence[Skipped]) -> tuple[Skipped, ...]:
    """The layers left alone, in the order of the model."""
    order = {path: position for position, path in enumerate(graph.layers)}
    return tuple(sorted(skipped, key=lambda one: order[one.layer]))


def _ignored(graph: Graph, ignore: Sequence[str] | str, who: str) -> set[str]:
    names = [ignore] if isinstance(ignore, str) else list(ignore)
    found: set[str] = set()
    for name in names:
        here = {path for path in graph.layers if path == name or path.startswith(f"{name}/")}
        if not here:
            raise BadInput(
                f'{who}: ignore: layer "{name}" is not in the model; {near(name, graph.layers)}'
            )
        found |= here
    return found


def _check_inputs(graph: Graph, who: str) -> None:
    for tensor in graph.model.inputs:
        if None in tensor.shape[1:]:
            raise BadInput(
                f'{who}: input "{tensor.name}" has the open shape {tuple(tensor.shape[1:])}, and what '
                "a layer costs depends on it; build the model for a fixed one"
            )


def _shape(graph: Graph, tensors: Sequence[int]) -> Shape:
    shape = graph.shapes[tensors[0]] if tensors else None
    return (None,) if shape is None else (1, *shape[1:])


def _obstacle(graph: Graph, layer, shapes, kinds: Sequence[str]) -> str | None:
    """Why this layer cannot be written as others, or None."""
    live = layer.live
    if layer.kind not in kinds:
        cheap = "Depthwise" in layer.kind or "Separable" in layer.kind
        met = " and ".join([", ".join(kinds[:-1]), kinds[-1]]) if len(kinds) > 1 else kinds[0]
        return "is separable already" if cheap else f"is a {layer.kind}; only {met} are met"
    if getattr(live, "groups", 1) > 1:
        return f"is grouped ({live.groups} groups); only full kernels are met"
    if getattr(live, "lora_enabled", False) or getattr(live, "quantization_mode", None):
        return "is quantized or carries LoRA weights; its kernel is not one array"
    if any(None in shape for pair in shapes for shape in pair):
        return "works on an open size; give the model a fixed input shape"
    if isinstance(_parent(graph, layer.path), keras.Sequential) and "/" in layer.path:
        return "is in a nested Sequential model; build that as keras.Model(inputs, outputs)"
    return None


def _parent(graph: Graph, path: str) -> keras.Model:
    model = graph.model
    for name in path.split("/")[:-1]:
        model = model.get_layer(name)
    return model


def _site(graph: Graph, path: str, calls, shapes, who: str) -> Site:
    layer = graph.layers[path].live
    kernel = keras.ops.convert_to_numpy(keras.ops.cast(layer.kernel, "float32"))
    if not np.isfinite(kernel).all():
        raise BadInput(f'{who}: layer "{path}" has weights that are NaN or infinite; train it anew')
    prefix = path[: path.rfind("/") + 1]
    beside = {p.removeprefix(prefix).split("/")[0] for p in graph.layers if p.startswith(prefix)}
    macs = sum(layer_macs(layer, *pair) for pair in shapes)
    return Site(path, layer, tuple(calls), shapes, kernel, macs, frozenset(beside))
