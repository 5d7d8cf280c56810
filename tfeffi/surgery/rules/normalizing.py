"""Normalization: over the batch it keeps channels apart; over channels it needs them all."""

import numpy as np

from tfeffi.errors import BadInput
from tfeffi.surgery.rules.base import Edit, Opaque, Rule, cut, cuts


class BatchNormalization(Rule):
    """Every weight has one value for each channel."""

    tied_calls = True

    def label(self, site, labels):
        axis = site.config.get("axis", -1)
        axis = (axis[0] if isinstance(axis, (list, tuple)) else axis) % site.rank
        return [labels.along(site.source, axis, f"{site.layer} normalizes another axis")]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]

    def edit(self, site, read, written):
        if written[0] is None:
            return Edit()
        return Edit(cuts=cuts(**{weight: cut(0, written[0]) for weight in site.layer.shapes}))


class LayerNormalization(Rule):
    """Layer, RMS and unit normalization: statistics over `axis`, and weights of its shape.

    Over other axes than the channels it passes them. Over the channels it pins them; in inexact
    surgery they go, and the statistics are those of the channels that stay.
    """

    tied_calls = True

    def axes(self, site) -> list[int]:
        axis = site.config.get("axis", -1)
        return [a % site.rank for a in (axis if isinstance(axis, (list, tuple)) else [axis])]

    def label(self, site, labels):
        channels = site.source.channels
        if channels is None:
            return [None]
        if channels.axis in self.axes(site):
            reason = f"{site.layer} takes statistics over channels"
            if not labels.mixes(site.layer.path, channels, reason):
                return [None]
        return [channels]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]

    def edit(self, site, read, written):
        axes = self.axes(site)
        if written[0] is None or site.source.channels.axis not in axes:
            return Edit()
        axis = axes.index(site.source.channels.axis)
        return Edit(cuts=cuts(**{weight: cut(axis, written[0]) for weight in site.layer.shapes}))


class RMSNormalization(LayerNormalization):
    """RMSNormalization; over other axes than the last Keras does not say where its weights lie."""

    def choose(self, site):
        if self.axes(site) == [site.rank - 1]:
            return self
        return Opaque("{layer} normalizes other axes than the last")


class GroupNormalization(Rule):
    """GroupNormalization: the channels of a group live or die together, so that it is exact.

    In inexact surgery every group keeps the same places, and as many groups stay. A group for each
    channel (instance normalization) constrains nothing, one group for all is as layer
    normalization.
    """

    tied_calls = True

    def groups(self, site) -> int:
        groups = site.config["groups"]
        return len(site.source.channels) if groups == -1 else groups

    def label(self, site, labels):
        axis = site.config.get("axis", -1) % site.rank
        channels = labels.along(site.source, axis, f"{site.layer} normalizes another axis")
        if channels is None:
            return [None]
        groups = self.groups(site)
        by_group = channels.labels.reshape(groups, -1)
        if by_group.shape[1] == 1:
            return [channels]
        reason = f"{site.layer} takes statistics over groups of {by_group.shape[1]} channels"
        if labels.inexact:
            labels.mixes(site.layer.path, channels, reason)
            labels.tie(by_group, by_group[:1])
        elif groups == 1:
            labels.pin(channels, f"{site.layer} takes statistics over channels")
        else:
            labels.tie(by_group, by_group[:, :1])
        return [channels]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]

    def edit(self, site, read, written):
        if written[0] is None:
            return Edit()
        weights = cuts(**{weight: cut(0, written[0]) for weight in site.layer.shapes})
        before, given = self.groups(site), site.config["groups"]
        groups = _grouped(written[0], len(site.source.channels), before)
        if groups is None:
            raise BadInput(
                f"reindex: {site.layer} has {before} groups, whose channels must stay together; "
                "keep them in ascending order"
            )
        return Edit({} if given in (-1, groups) else {"groups": groups}, weights)


class FixedNormalization(Rule):
    """Normalization: a mean and variance for each channel, learned before or given in the config."""

    tied_calls = True

    def axes(self, site) -> list[int]:
        axis = site.config.get("axis", -1)
        axis = () if axis is None else axis
        return [a % site.rank for a in (axis if isinstance(axis, (list, tuple)) else [axis])]

    def label(self, site, labels):
        channels = site.source.channels
        if channels is None:
            return [None]
        alone = self.axes(site) in ([], [channels.axis])
        if not alone and channels.axis in self.axes(site):
            labels.pin(channels, f"{site.layer} has a mean for each place along several axes")
            return [None]
        return [channels]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]

    def edit(self, site, read, written):
        if written[0] is None or site.source.channels.axis not in self.axes(site):
            return Edit()
        weights = {w: cut(0, read[0]) for w in ("mean", "variance") if w in site.layer.shapes}
        given = {key: np.asarray(site.config.get(key)) for key in ("mean", "variance")}
        size = len(site.source.channels)
        config = {k: v.ravel()[read[0]].tolist() for k, v in given.items() if v.size == size > 1}
        return Edit(config, cuts(**weights))


def _grouped(index: np.ndarray, size: int, groups: int) -> int | None:
    """How many groups a cut leaves; None if it tears the channels of a group apart."""
    width = size // groups
    for count in range(len(index), 0, -1):  # exact: whole groups, each member as often
        if len(index) % count == 0 and all(_whole(row, width) for row in index.reshape(count, -1)):
            return count
    if len(index) % groups == 0:  # inexact: every group keeps the same places
        rows = index.reshape(groups, -1)
        owners, places = rows // width, np.sort(rows % width, axis=1)
        alone = (owners == owners[:, :1]).all() and len(np.unique(owners[:, 0])) == groups
        if alone and (places == places[0]).all():
            return groups
    return None


def _whole(row: np.ndarray, width: int) -> bool:
    """Whether a row has all the channels of one old group, each as often."""
    often = np.bincount(row % width, minlength=width)
    return bool((row // width == row[0] // width).all() and often[0] and (often == often[0]).all())


RULES = {
    "BatchNormalization": BatchNormalization(),
    "LayerNormalization": LayerNormalization(),
    "UnitNormalization": LayerNormalization(),
    "ops.Normalize": LayerNormalization(),
    "RMSNormalization": RMSNormalization(),
    "GroupNormalization": GroupNormalization(),
    "Normalization": FixedNormalization(),
}
