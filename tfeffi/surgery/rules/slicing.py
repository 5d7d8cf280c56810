"""Parts of a tensor: slices, splits, padding, repeats. Along the channels the labels are cut alike."""

import itertools

import numpy as np

from tfeffi.errors import BadInput
from tfeffi.surgery.channels import Channels
from tfeffi.surgery.graph import is_reference
from tfeffi.surgery.rules.base import Edit, Rule, expand


class Slice(Rule):
    """tensor[...]: along the channels by a step of one, along other axes in any way."""

    parts = True

    def label(self, site, labels):
        channels = site.source.channels
        if channels is None:
            return [None]
        keys = self.keys(site)
        place = None if keys is None else _place(keys, channels.axis)
        key = None if place is None else keys[place]
        if not isinstance(key, dict) or _bounds(key) not in _STEPS:
            labels.pin(channels, f"{site.layer} slices them in a way that is not followed")
            return [None]
        axis = sum(not isinstance(one, int) for one in keys[:place])
        return [Channels(axis, channels.labels[_slice(key)])]

    def keys(self, site):
        """What is done to each axis: a slice's dict, an int, or None for a new axis; or None."""
        args, kwargs = site.call.arguments
        values = [v for v in [*args, *kwargs.values()] if not is_reference(v)]
        keys = _tuple(values[0]) if len(values) == 1 else [[]]
        known = all(
            key is None or isinstance(key, int) or _class(key) in ("__slice__", "__ellipsis__")
            for key in keys
        )
        if not known:
            return None
        used = sum(isinstance(key, int) or _class(key) == "__slice__" for key in keys)
        rest = [_WHOLE] * (site.rank - used)
        dots = [i for i, key in enumerate(keys) if _class(key) == "__ellipsis__"]
        place = dots[0] if dots else len(keys)
        return [*keys[:place], *rest, *keys[place + 1 :]]

    def route(self, site, read):
        if site.outputs[0].channels is None:
            return [None]
        chosen = self.chosen(site, read[0])
        old = np.arange(len(site.source.channels))[_slice(self.key(site))]
        where = {int(position): i for i, position in enumerate(old)}
        return [np.array([where[int(p)] for p in read[0][chosen]], np.int64)]

    def key(self, site):
        keys = self.keys(site)
        return keys[_place(keys, site.source.channels.axis)]

    def chosen(self, site, read):
        """Where in the new order the channels of the slice are, in the order of the slice."""
        key = _slice(self.key(site))
        old = np.arange(len(site.source.channels))[key]
        places = np.flatnonzero(np.isin(read, old))
        return places[::-1] if key.step == -1 else places

    def edit(self, site, read, written):
        if written[0] is None or self.key(site) == _WHOLE:
            return Edit()
        keys, step = self.keys(site), _slice(self.key(site)).step
        chosen = self.chosen(site, read[0])
        places = _run(site, chosen)
        stop = places[1] if step != -1 else places[0] - 1
        start = places[0] if step != -1 else places[1] - 1
        bounds = {"start": start, "stop": stop if stop >= 0 else None, "step": step}
        place = _place(keys, site.source.channels.axis)
        keys[place] = {"class_name": "__slice__", "config": bounds}
        args, _ = site.call.arguments
        return Edit(arguments=([args[0], keys], {}))


class Split(Rule):
    """ops.split: along the channels each part takes its labels, along other axes all of them."""

    parts = True

    def edges(self, site) -> list[int]:
        """The ends of all parts, the first start included."""
        given, size = site.config["indices_or_sections"], site.source.shape[self.axis(site)]
        if isinstance(given, int):
            return [size * i // given for i in range(given + 1)]
        return [0, *_tuple(given), size]

    def axis(self, site) -> int:
        return site.config.get("axis", 0) % site.rank

    def label(self, site, labels):
        channels, count = site.source.channels, len(site.call.outputs)
        if channels is None or channels.axis != self.axis(site):
            return [channels] * count
        edges = self.edges(site)
        return [
            Channels(channels.axis, channels.labels[edges[i] : edges[i + 1]]) for i in range(count)
        ]

    def route(self, site, read):
        channels, count = site.source.channels, len(site.call.outputs)
        if read[0] is None or channels.axis != self.axis(site):
            return [read[0]] * count
        edges = self.edges(site)
        inside = [read[0][(read[0] >= a) & (read[0] < b)] - a for a, b in _pairs(edges)]
        return inside[:count]

    def edit(self, site, read, written):
        channels = site.source.channels
        if read[0] is None or channels.axis != self.axis(site):
            return Edit()
        ends = [0]
        for start, stop in _pairs(self.edges(site)):
            places = np.flatnonzero((read[0] >= start) & (read[0] < stop))
            ends.append(ends[-1] + len(places))
            if _run(site, places) != (ends[-2], ends[-1]):
                raise _scattered(site)
        return Edit({"indices_or_sections": ends[1:-1]})


class Pad(Rule):
    """ops.pad: along the channels it makes new ones of a constant, which can go again."""

    def choose(self, site):
        channels = site.source.channels
        if channels is None or not any(self.widths(site)[channels.axis]):
            return Rule()
        return self if site.config.get("mode", "constant") == "constant" else _NEIGHBOURS

    mints = True

    def widths(self, site) -> list[list[int]]:
        """How many are added before and after, for each axis."""
        width = site.config["pad_width"]
        pairs = np.broadcast_to(np.array(width), (site.rank, 2))
        return pairs.tolist()

    def label(self, site, labels):
        channels = site.source.channels
        before, after = self.widths(site)[channels.axis]
        made = labels.mint((site.layer.path, site.call.index), before + after)
        parts = [made[:before], channels.labels, made[before:]]
        return [Channels(channels.axis, np.concatenate(parts))]

    def edit(self, site, read, written):
        axis, size = site.source.channels.axis, len(site.source.channels)
        widths = self.widths(site)
        before = widths[axis][0]
        inside = (written[0] >= before) & (written[0] < before + size)
        places = np.flatnonzero(inside)
        if not len(places) or not np.array_equal(written[0][places] - before, read[0]):
            raise _scattered(site)
        start, stop = _run(site, places)
        widths[axis] = [start, len(written[0]) - stop]
        return Edit({"pad_width": widths})


class _Neighbours(Rule):
    """Padding by copies of other channels."""

    def label(self, site, labels):
        labels.pin(site.source.channels, f"{site.layer} pads them with their neighbours")
        return [None]

    def route(self, site, read):
        return [None]


class Repeat(Rule):
    """ops.repeat by one number: along the channels each is followed by its copies."""

    def label(self, site, labels):
        channels, axis, count = site.source.channels, *self.how(site)
        if channels is None:
            return [None]
        if axis is None or not isinstance(count, int):
            labels.pin(channels, f"{site.layer} repeats them in a way that is not followed")
            return [None]
        if axis != channels.axis:
            return [channels]
        return [Channels(axis, np.repeat(channels.labels, count))]

    def how(self, site):
        axis = site.config.get("axis")
        return None if axis is None else axis % site.rank, site.config.get("repeats")

    def route(self, site, read):
        if site.outputs[0].channels is None:
            return [None]
        axis, count = self.how(site)
        return [expand(read[0], count) if axis == site.source.channels.axis else read[0]]


class AlongOthers(Rule):
    """Works along `axis`, each line alone: flip, roll, cumulative sums, sorting."""

    def label(self, site, labels):
        channels, axis = site.source.channels, site.config.get("axis")
        if channels is None:
            return [None]
        axes = [a % site.rank for a in _tuple(axis)] if axis is not None else [channels.axis]
        if channels.axis in axes:
            labels.pin(channels, f"{site.layer} works along their axis")
            return [None]
        return [channels]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]


_WHOLE = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}
_STEPS = (None, 1, -1)
_NEIGHBOURS = _Neighbours()


def _class(key) -> str | None:
    return key.get("class_name") if isinstance(key, dict) else None


def _tuple(value) -> list:
    """A serialized key, index or axis as a list."""
    if _class(value) == "__tuple__":
        value = value["config"]["value"]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _bounds(key):
    """The step of a slice; something that is no step if its bounds are no numbers."""
    values = key["config"].values()
    return key["config"]["step"] if all(v is None or isinstance(v, int) for v in values) else "?"


def _slice(key) -> slice:
    return slice(*(key["config"][name] for name in ("start", "stop", "step")))


def _place(keys, axis: int) -> int:
    """Where among the keys the one for an axis of the source is."""
    return [i for i, key in enumerate(keys) if key is not None][axis]


def _pairs(edges):
    return list(itertools.pairwise(edges))


def _run(site, places: np.ndarray) -> tuple[int, int]:
    """The start and end of places that follow each other."""
    if not len(places):
        raise BadInput(f"reindex: no channel would be left of what {site.layer} takes")
    start, stop = int(places.min()), int(places.max()) + 1
    if stop - start != len(places):
        raise _scattered(site)
    return start, stop


def _scattered(site) -> BadInput:
    return BadInput(
        f"reindex: {site.layer} takes channels that stand beside each other; keep them in "
        "ascending order"
    )


_LINES = "Argsort Cumprod Cumsum Diff Flip Nancumprod Nancumsum Roll Sort"

RULES = {
    "ops.GetItem": Slice(),
    "ops.Split": Split(),
    "ops.Pad": Pad(),
    "ops.Repeat": Repeat(),
    **{f"ops.{name}": AlongOthers() for name in _LINES.split()},
}
