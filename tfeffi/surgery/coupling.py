"""Which channels of a model live or die together, and what follows when some of them go.

`Coupling.of(model)` walks the graph once and lets every rule label its outputs. `plan` then walks
it again for a wish ("conv2 keeps 0, 2, 5") and says, for every layer, which weights are gathered
and what its config becomes. Nothing is built here, so a plan is cheap: a budget can try many.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfeffi.errors import BadInput
from tfeffi.surgery.channels import Channels, Classes, Labels, Tensor
from tfeffi.surgery.graph import Graph, Layer, read
from tfeffi.surgery.rules import Rule, Site, rule_for
from tfeffi.surgery.rules.base import Edit, Index
from tfeffi.surgery.wishes import Wish


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Channels that the same layers write: the unit in which widths are rounded.

    Where a layer slices them, the parts are groups of their own, so that each keeps a channel.

    Attributes:
        size: how many channels can be kept or dropped independently of each other.
        writers: the layers that make them.
        readers: the layers that sum over them.
        pinned: why they must stay, or None.
        classes: (size,) their numbers in `Coupling.classes`.
        multiple: a layer's width changes by at least this many channels when one is dropped.
    """

    size: int
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    pinned: str | None
    classes: np.ndarray = dataclasses.field(repr=False)
    multiple: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What a surgery does to each layer.

    Attributes:
        edits: by the layer's path, for the layers that change.
        routes: by tensor, the old positions kept along its labelled axis.
        inexact: (layer, reason) of each layer that mixes channels of which some go, so that the
            result is not what the masked model computes; empty unless asked for.
    """

    edits: Mapping[str, Edit]
    routes: Mapping[int, Index]
    inexact: tuple[tuple[str, str], ...] = ()

    def shape(self, path: str, weight: str, before: Sequence[int]) -> tuple[int, ...]:
        """The new shape of a weight."""
        shape = list(before)
        edit = self.edits.get(path)
        for cut in edit.cuts.get(weight, ()) if edit else ():
            shape[cut.axis] = len(cut.index)
        return tuple(shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Coupling:
    """A labelled model.

    Attributes:
        graph: the model.
        sites: every call with its rule, in order.
        channels: what each tensor carries.
        classes: which labels live or die together.
        inexact: (layer, reason) of each layer that takes statistics over channels that may go all
            the same; empty unless asked for.
    """

    graph: Graph
    sites: tuple[tuple[Site, Rule], ...]
    channels: tuple[Channels | None, ...]
    classes: Classes
    inexact: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, model: keras.Model, *, inexact: bool = False) -> "Coupling":
        """Labels a functional or Sequential model.

        Args:
            model: the model.
            inexact: whether channels may go that layer normalization, softmax or another statistic
                is taken over; by default they stay. The layers are then named in `inexact`.

        Raises:
            BadInput: the model is subclassed or not built.
        """
        graph, labels = read(model), Labels(inexact=inexact)
        channels: list[Channels | None] = [None] * len(graph.shapes)
        sites, first = [], {}
        for call in graph.calls:
            site = Site(call, tuple(Tensor(graph.shapes[t], channels[t]) for t in call.inputs))
            rule = rule_for(site)
            if rule.tied_calls:
                _tie_calls(first.setdefault(call.layer.path, site), site, labels)
            for tensor, made in zip(call.outputs, rule.label(site, labels), strict=True):
                channels[tensor] = made
            outputs = tuple(Tensor(graph.shapes[t], channels[t]) for t in call.outputs)
            sites.append((dataclasses.replace(site, outputs=outputs), rule))
        for tensor in graph.outputs:
            labels.pin(channels[tensor], "it is an output of the model")
        noted = tuple(labels.mixing.items())
        return cls(graph, tuple(sites), tuple(channels), labels.settle(), noted)

    def classes_of(self, channels: Channels | np.ndarray) -> np.ndarray:
        """The class of each position."""
        labels = channels.labels if isinstance(channels, Channels) else channels
        return self.classes.of_label[labels]

    @functools.cached_property
    def writers(self) -> dict[str, np.ndarray]:
        """The layers that make channels, and the class of each channel they make."""
        return {
            site.layer.path: self.classes_of(site.outputs[0].channels)
            for site, rule in self.sites
            if rule.mints
        }

    @functools.cached_property
    def written(self) -> dict[str, np.ndarray]:
        """The class of each channel of the first output of each layer, at its first call."""
        found = {}
        for site, _ in self.sites:
            channels = site.outputs[0].channels
            if channels is not None:
                found.setdefault(site.layer.path, self.classes_of(channels))
        return found

    @functools.cached_property
    def parts(self) -> list[tuple[str, np.ndarray]]:
        """The layers that give parts of their input's channels, and the classes of each part."""
        return [
            (site.layer.path, self.classes_of(tensor.channels))
            for site, rule in self.sites
            if rule.parts
            for tensor in site.outputs
            if tensor.channels is not None
        ]

    @functools.cached_property
    def reads(self) -> list[tuple[str, int, np.ndarray]]:
        """Where channels count: (layer, tensor, class of each channel), once for each tensor read."""
        return [
            (site.layer.path, site.call.inputs[0], self.classes_of(site.source.channels))
            for site, rule in self.sites
            if rule.reads and rule.incoming(site, [np.zeros(0)]) is not None
        ]

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in the order of the model."""
        reasons = sorted(set(self.classes.pinned.values()))
        sets = [*self.writers.values(), *(classes for _, classes in self.parts)]
        count = len(sets) + len(reasons)
        marks = np.random.default_rng(0).integers(1 << 62, size=count, dtype=np.uint64)
        signature = np.zeros(self.classes.count, np.uint64)
        for mark, classes in zip(marks, sets, strict=False):
            signature[np.unique(classes)] ^= mark
        for one, reason in self.classes.pinned.items():
            signature[one] ^= marks[len(sets) + reasons.index(reason)]
        order: dict[int, list[int]] = {}
        written = np.unique(np.concatenate([*self.writers.values(), np.zeros(0, np.int64)]))
        for one in written.astype(np.int64):
            order.setdefault(int(signature[one]), []).append(int(one))
        return tuple(self._group(np.array(classes)) for classes in order.values())

    def _group(self, classes: np.ndarray) -> Group:
        one = classes[0]
        writers = [path for path, of in self.writers.items() if one in of]
        readers = dict.fromkeys(path for path, _, of in self.reads if one in of)
        counts = [int((c == one).sum()) for c in self.writers.values() if one in c]
        counts += [int((c == one).sum()) for _, _, c in self.reads if one in c]
        pinned = self.classes.pinned.get(int(one))
        return Group(
            len(classes), tuple(writers), tuple(readers), pinned, classes, math.gcd(*counts)
        )

    def plan(self, index_map: Mapping[str, Sequence[int]]) -> Plan:
        """Follows a wish through the model.

        Args:
            index_map: for each named layer, the channels of its output to keep, in order; repeats
                copy. Coupled layers follow.

        Raises:
            BadInput: a layer or channel that is not there, nothing kept, a pinned channel changed,
                coupled channels that disagree.
        """
        wish = Wish.of(self, index_map)
        plan = self.follow(wish.index)
        first = {site.layer.path: site.call.outputs[0] for site, _ in reversed(self.sites)}
        for name, index in wish.wanted.items():
            if not np.array_equal(plan.routes[first[name]], index):
                raise BadInput(
                    f'reindex: "{name}" cannot take this order; give the order to the layers that '
                    "make its channels"
                )
        return plan

    def keep(self, kept: np.ndarray) -> Plan:
        """The plan that keeps the classes marked in `kept`, (classes,) bool, in ascending order."""
        return self.follow(lambda path: np.flatnonzero(kept[self.writers[path]]))

    def follow(self, index_of) -> Plan:
        """The plan for given positions of each writer: `index_of(path) -> positions`."""
        routes: dict[int, Index] = {}
        edits: dict[str, Edit] = {}
        mixing, changed = dict(self.inexact), {}
        for site, rule in self.sites:
            given = [routes[tensor] for tensor in site.call.inputs]
            made = [index_of(site.layer.path)] if rule.mints else rule.route(site, given)
            routes.update(zip(site.call.outputs, made, strict=True))
            same = all(map(_whole, site.inputs, given)) and all(map(_whole, site.outputs, made))
            edit = Edit() if same else rule.edit(site, given, made)
            if not same and site.layer.path in mixing:
                changed[site.layer.path] = mixing[site.layer.path]
            if not _agree(site.layer, edits.setdefault(site.layer.path, edit), edit):
                raise BadInput(
                    f"reindex: the calls of {site.layer} would need different weights; "
                    "keep channels in ascending order"
                )
        return Plan(edits, routes, tuple(changed.items()))


def groups(model: keras.Model, *, inexact: bool = False) -> tuple[Group, ...]:
    """The channels of a model that can be dropped, by the layers that share them.

    Args:
        model: a functional or Sequential model.
        inexact: whether channels may go that a layer takes statistics over; see `Coupling.of`.

    Returns:
        One group for each set of channels that the same layers make. `pinned` says why channels
        must stay; it is None for those that may go.

    Raises:
        BadInput: the model is subclassed or not built.

    Example:
        for group in groups(model):
            print(group.size, group.writers, group.pinned or "free")
    """
    return Coupling.of(model, inexact=inexact).groups


def _whole(tensor: Tensor, index: Index) -> bool:
    return index is None or (
        len(index) == len(tensor.channels) and bool((index == np.arange(len(index))).all())
    )


def _tie_calls(first: Site, again: Site, labels: Labels) -> None:
    """A shared layer has one set of weights, so its calls must take the same channels."""
    if first.call is again.call:
        return
    for one, other in zip(first.inputs, again.inputs, strict=False):
        a, b = one.channels, other.channels
        if a is not None and b is not None and len(a) == len(b):
            labels.tie(a.labels, b.labels)
        else:
            reason = f"{first.layer} is shared with a tensor whose channels cannot change"
            labels.pin(a, reason)
            labels.pin(b, reason)


def _agree(layer: Layer, one: Edit, other: Edit) -> bool:
    if dict(one.config) != dict(other.config) or one.arguments != other.arguments:
        return False
    return _gathered(layer, one) == _gathered(layer, other)


def _gathered(layer: Layer, edit: Edit) -> dict[tuple[str, int], list[int]]:
    """The positions that an edit gathers, by weight and axis, where they are not all in order."""
    found = {}
    for weight, cuts in edit.cuts.items():
        shape = layer.shapes.get(weight, ())
        for cut in cuts if shape else ():
            index = cut.index.tolist()
            if index != list(range(shape[cut.axis])):
                found[weight, cut.axis % len(shape)] = index
    return found
