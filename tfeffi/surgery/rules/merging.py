"""Layers where tensors meet: elementwise ones tie their channels, concatenation joins them."""

import itertools

import numpy as np

from tfeffi.surgery.channels import Channels
from tfeffi.surgery.graph import is_reference
from tfeffi.surgery.rules.base import Opaque, Rule, same


class Elementwise(Rule):
    """Add, Multiply, Maximum, ...: channels are tied position by position.

    Tensors are aligned at their last axis. One that is 1 wide where the channels are is broadcast
    and constrains nothing; a fixed one that is as wide as the channels pins them.
    """

    def choose(self, site):
        if any(not _harmless(leaf) for leaf in _leaves(site.call.arguments)):
            return Opaque("{layer} takes a constant that may count channels")
        return self

    def label(self, site, labels):
        rank = max((t.rank or 0) for t in site.inputs)
        wide = self.wide(site)
        if wide is None:
            for tensor in site.inputs:
                labels.pin(tensor.channels, f"{site.layer} mixes different axes")
            return [None]
        from_end, count = wide
        first = None
        for tensor in site.inputs:
            channels = tensor.channels
            if channels is not None and len(channels) == count:
                first = channels.labels if first is None else first
                labels.tie(first, channels.labels)
            elif channels is not None:
                labels.pin(channels, f"{site.layer} broadcasts them")
        if any(self.opposes(t, from_end) for t in site.inputs):
            labels.pin(first, f"{site.layer} adds or multiplies a tensor that cannot change")
            return [None]
        return [Channels(rank + from_end, first)]

    def wide(self, site):
        """(axis from the end, size) where the channels of the widest inputs are."""
        found = {
            (t.channels.axis - t.rank, len(t.channels))
            for t in site.inputs
            if t.channels is not None
        }
        axes = {axis for axis, size in found if size > 1} or {axis for axis, _ in found}
        if len(axes) != 1:
            return None
        return axes.pop(), max(size for _, size in found)

    def opposes(self, tensor, from_end) -> bool:
        """Whether a fixed tensor is as wide as the channels, or may be."""
        if tensor.channels is not None:
            return False
        if tensor.shape is None:
            return True
        return len(tensor.shape) >= -from_end and tensor.shape[from_end] != 1

    def route(self, site, read):
        if site.outputs[0].channels is None:
            return [None]
        count = len(site.outputs[0].channels)
        sizes = [0 if t.channels is None else len(t.channels) for t in site.inputs]
        return [same(site, [r for r, n in zip(read, sizes, strict=True) if n == count])]


class Concatenate(Rule):
    """Along the channels it joins their lists; along another axis it ties them."""

    def label(self, site, labels):
        axis = site.config.get("axis", -1) % site.rank
        present = [t.channels for t in site.inputs if t.channels is not None]
        if not present:
            return [None]
        if any(channels.axis != present[0].axis for channels in present):
            for channels in present:
                labels.pin(channels, f"{site.layer} joins tensors along different axes")
            return [None]
        if present[0].axis != axis:
            return [self.stack(site, labels, present)]
        parts = []
        for i, tensor in enumerate(site.inputs):
            if tensor.channels is not None:
                parts.append(tensor.channels.labels)
            else:  # a part that cannot change keeps its place: labels of its own, pinned
                made = labels.mint((site.layer.path, site.call.index, i), tensor.shape[axis])
                labels.pin(made, f"{site.layer} joins them from a tensor that cannot change")
                parts.append(made)
        return [Channels(axis, np.concatenate(parts))]

    def stack(self, site, labels, present):
        for channels in present:
            labels.tie(present[0].labels, channels.labels)
        if len(present) < len(site.inputs):
            labels.pin(present[0], f"{site.layer} joins a tensor that cannot change")
            return None
        return present[0]

    def route(self, site, read):
        made = site.outputs[0].channels
        if made is None:
            return [None]
        axis = site.config.get("axis", -1) % site.rank
        if made.axis != axis:
            return [same(site, read)]
        sizes = [t.shape[axis] for t in site.inputs]
        starts = itertools.accumulate(sizes[:-1], initial=0)
        parts = [
            (np.arange(size) if index is None else index) + start
            for index, size, start in zip(read, sizes, starts, strict=True)
        ]
        return [np.concatenate(parts)]


def _leaves(arguments):
    if isinstance(arguments, dict) and arguments.get("class_name") == "__tuple__":
        arguments = arguments["config"]["value"]
    if isinstance(arguments, dict) and "class_name" not in arguments:
        return [leaf for value in arguments.values() for leaf in _leaves(value)]
    if isinstance(arguments, (list, tuple)):
        return [leaf for value in arguments for leaf in _leaves(value)]
    return [arguments]


def _harmless(leaf) -> bool:
    return leaf is None or isinstance(leaf, (bool, int, float)) or is_reference(leaf)


_LAYERS = "Add Subtract Multiply Average Maximum Minimum"
_OPS = (
    "Add Arctan2 BitwiseAnd BitwiseOr BitwiseXor Divide DivideNoNan Equal FloorDivide Fmax Fmin Fmod "
    "Greater GreaterEqual Heaviside Hypot Isclose Less LessEqual Logaddexp Logaddexp2 LogicalAnd "
    "LogicalOr LogicalXor Maximum Minimum Mod Multiply Nextafter NotEqual Power Subtract TrueDivide "
    "Where"
)

RULES = {
    **{name: Elementwise() for name in _LAYERS.split()},
    **{f"ops.{name}": Elementwise() for name in _OPS.split()},
    "Concatenate": Concatenate(),
    "ops.Concatenate": Concatenate(),
}
