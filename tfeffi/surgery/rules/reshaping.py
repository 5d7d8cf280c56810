"""Layers that lay the same numbers out anew: Flatten, Reshape, Permute, axes that come, go or move.

Reshaping is followed on the volume of old positions: an axis of the result can carry labels if
every channel of the source lands on whole slices of it. Keras flattens (h, w, c) to
(h·W + w)·C + c, so after Flatten the labels repeat, once for each position.
"""

import math

import numpy as np

from tfeffi.errors import BadInput
from tfeffi.surgery.channels import Channels
from tfeffi.surgery.rules.base import Edit, Rule


class Reshape(Rule):
    """Reshape to a shape that is known."""

    tied_calls = True

    def target(self, site) -> tuple[int, ...] | None:
        """The shape of the result without the batch, or None if it cannot be followed."""
        shape = site.source.shape
        if shape is None or any(d is None for d in shape[1:]):
            return None
        target = list(self.given(site))
        size = math.prod(shape[1:])
        if -1 in target:
            target[target.index(-1)] = size // max(1, math.prod(d for d in target if d != -1))
        return tuple(target) if math.prod(target) == size else None

    def given(self, site):
        return site.config["target_shape"]

    def label(self, site, labels):
        channels, target = site.source.channels, self.target(site)
        if channels is None:
            return [None]
        if not target:
            labels.pin(channels, f"{site.layer} reshapes them in a way that is not followed")
            return [None]
        volume = _spread(channels.labels, channels.axis - 1, site.source.shape[1:])
        volume = volume.reshape(target)
        for axis in reversed(range(len(target))):
            if _constant(volume, axis):
                break
        else:  # channels come apart into several axes: tied along all but the last
            axis = len(target) - 1
        lines = np.moveaxis(volume, axis, -1).reshape(-1, target[axis])
        labels.tie(lines, lines[:1])
        return [Channels(axis + 1, lines[0])]

    def route(self, site, read):
        made, target = site.outputs[0].channels, self.target(site)
        if made is None:
            return [None]
        positions = np.arange(math.prod(target)).reshape(site.source.shape[1:])
        kept = positions.take(read[0], axis=site.source.channels.axis - 1)
        line = _coordinates(kept.ravel(), target, made.axis - 1)
        if line is None:
            raise BadInput(f"reindex: {site.layer} cannot follow this order; keep it ascending")
        return [line]

    def edit(self, site, read, written):
        if written[0] is None:
            return Edit()
        target = list(self.given(site))
        axis = site.outputs[0].channels.axis - 1
        if target[axis] != -1:
            target[axis] = len(written[0])
        return Edit({"target_shape": target})


class Flatten(Reshape):
    """Flatten; with channels first Keras moves the channels last before."""

    def given(self, site):
        return (-1,)

    def target(self, site):
        if site.config.get("data_format") == "channels_first" and site.rank > 2:
            return None
        return super().target(site)

    def edit(self, site, read, written):
        return Edit()


class Permute(Rule):
    """Permute and ops.Transpose: the axis moves."""

    def label(self, site, labels):
        channels, axes = site.source.channels, self.axes(site)
        if channels is None:
            return [None]
        return [Channels(axes.index(channels.axis), channels.labels)]

    def axes(self, site) -> list[int]:
        """For each axis of the result, the axis it comes from."""
        if "dims" in site.config:
            return [0, *site.config["dims"]]
        axes = site.config.get("axes")
        return [a % site.rank for a in axes] if axes else list(range(site.rank))[::-1]


class Moved(Permute):
    """ops.swapaxes and ops.moveaxis."""

    def axes(self, site):
        order = np.arange(site.rank)
        if "axis1" in site.config:
            one, two = site.config["axis1"], site.config["axis2"]
            order[[one, two]] = order[[two, one]]
            return order.tolist()
        source, target = (
            [a % site.rank for a in (axis if isinstance(axis, (list, tuple)) else [axis])]
            for axis in (site.config["source"], site.config["destination"])
        )
        rest = iter(a for a in order.tolist() if a not in source)
        from_source = dict(zip(target, source, strict=True))
        return [from_source[a] if a in from_source else next(rest) for a in order.tolist()]


class ReshapeOperation(Reshape):
    """ops.reshape that leaves the batch in front."""

    def given(self, site):
        return tuple(site.config["newshape"])[1:]

    def target(self, site):
        shape, batch = site.source.shape, tuple(site.config["newshape"])[:1]
        leaves = batch in ((-1,), (None,)) or (shape is not None and batch == shape[:1])
        return super().target(site) if leaves and None not in self.given(site) else None

    def edit(self, site, read, written):
        edit = super().edit(site, read, written)
        if edit.empty:
            return edit
        return Edit({"newshape": (site.config["newshape"][0], *edit.config["target_shape"])})


class ExpandDims(Rule):
    """ops.expand_dims: new axes of one."""

    def label(self, site, labels):
        channels, axes = site.source.channels, site.config["axis"]
        if channels is None:
            return [None]
        axes = axes if isinstance(axes, (list, tuple)) else [axes]
        rank = site.rank + len(axes)
        new = {a % rank for a in axes}
        return [Channels([a for a in range(rank) if a not in new][channels.axis], channels.labels)]


class Squeeze(Rule):
    """ops.squeeze: axes of one go; which ones is written down, as the channels may become one."""

    def gone(self, site) -> list[int]:
        axes = site.config.get("axis")
        if axes is None:
            return [a for a, size in enumerate(site.source.shape) if size == 1]
        return [a % site.rank for a in (axes if isinstance(axes, (list, tuple)) else [axes])]

    def label(self, site, labels):
        channels, gone = site.source.channels, self.gone(site)
        if channels is None or channels.axis in gone:
            labels.pin(channels, f"{site.layer} takes their axis away")
            return [None]
        return [Channels(channels.axis - sum(a < channels.axis for a in gone), channels.labels)]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]

    def edit(self, site, read, written):
        return Edit({"axis": tuple(self.gone(site))}) if site.config.get("axis") is None else Edit()


class RepeatVector(Rule):
    """RepeatVector: (batch, channels) to (batch, n, channels)."""

    def label(self, site, labels):
        channels = site.source.channels
        return [None if channels is None else Channels(2, channels.labels)]


def _spread(values: np.ndarray, axis: int, shape) -> np.ndarray:
    """The values along `axis`, the same everywhere else, as a whole volume."""
    line = [1] * len(shape)
    line[axis] = -1
    return np.broadcast_to(values.reshape(line), shape)


def _constant(volume: np.ndarray, axis: int) -> bool:
    """Whether all lines along `axis` are the same."""
    lines = np.moveaxis(volume, axis, -1).reshape(-1, volume.shape[axis])
    return bool((lines == lines[:1]).all())


def _coordinates(kept: np.ndarray, target: tuple[int, ...], axis: int) -> np.ndarray | None:
    """The positions along `axis` that flat positions lie at, if they fill whole slices, else None."""
    shape = list(target)
    shape[axis] = kept.size * target[axis] // math.prod(target)
    if math.prod(shape) != kept.size:
        return None
    found = None
    for other, coordinate in enumerate(np.unravel_index(kept.reshape(shape), target)):
        lines = np.moveaxis(coordinate, other, -1).reshape(-1, shape[other])
        expected = lines[0] if other == axis else np.arange(target[other])
        if not (lines == expected).all():
            return None
        found = expected if other == axis else found
    return found


RULES = {
    "Reshape": Reshape(),
    "Flatten": Flatten(),
    "Permute": Permute(),
    "ops.Transpose": Permute(),
    "ops.Reshape": ReshapeOperation(),
    "ops.Swapaxes": Moved(),
    "ops.Moveaxis": Moved(),
    "ops.ExpandDims": ExpandDims(),
    "ops.Squeeze": Squeeze(),
    "RepeatVector": RepeatVector(),
}
