"""How long a plan would take: the times of its layers, from a table, added up.

A layer with a kernel is measured on a grid of widths going in and coming out, a quarter of its
own apart and rounded to multiples, and only where the search goes; between them its time is
interpolated, which for a convolution is nearly exact, for its work is the product of both. Other
layers have one width. What cannot be measured at a width of its own is measured as it stands.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from tfeffi.bench import one_layer
from tfeffi.bench.one_layer import memory_of, shape_of
from tfeffi.bench.table import LatencyTable
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling, Edit, Plan, Rule, Site
from tfeffi.surgery.rebuild import custom_objects

PARTS = 4  # a grid has so many widths, and 1
MULTIPLE = 8  # grid widths are multiples of it, where the layer is that wide

Widths = tuple[int | None, ...]  # of each input, and of the output of a layer that makes channels


class PlanLatency:
    """Latencies of plans for one model.

    Args:
        coupling: the labelled model.
        table: where layers are measured.

    Example:
        latency = PlanLatency(Coupling.of(model), LatencyTable())
        latency.of(plan)      # ms
    """

    def __init__(self, coupling: Coupling, table: LatencyTable):
        self.coupling, self.table = coupling, table
        self._custom = custom_objects(coupling.graph)
        self._memory = memory_of(coupling.graph, table.quantize)  # near enough for smaller ones
        folded = one_layer.folded(coupling.graph)
        self._timed = [pair for i, pair in enumerate(coupling.sites) if i not in folded]
        self._found: dict[tuple[int, Widths], float] = {}

    def of(self, plan: Plan) -> float:
        """The sum over the layers, in ms."""
        return sum(
            self._site(number, site, rule, plan) for number, (site, rule) in enumerate(self._timed)
        )

    def _site(self, number: int, site: Site, rule: Rule, plan: Plan) -> float:
        widths = tuple(_size(plan.routes[tensor]) for tensor in site.call.inputs)
        if rule.mints:
            widths += (_size(plan.routes[site.call.outputs[0]]),)
        if (number, widths) not in self._found:
            self._found[number, widths] = self._time(number, site, rule, widths, plan)
        return self._found[number, widths]

    def _time(self, number, site: Site, rule: Rule, widths: Widths, plan: Plan) -> float:
        whole = _whole(site, rule)
        try:
            total = 0.0
            for weight, corner in corners(whole, widths, rule.mints):
                key = (number, corner)
                if key not in self._found:
                    self._found[key] = self._measure(site, *_change(site, rule, corner))
                total += weight * self._found[key]
            return total
        except (BadInput, ValueError, TypeError, IndexError):  # a group kept by halves, for one
            given = [plan.routes[tensor] for tensor in site.call.inputs]
            return self._measure(site, given, plan.edits.get(site.layer.path, Edit()))

    def _measure(self, site: Site, given, edit: Edit) -> float:
        layer = site.layer
        entry = {**layer.entry, "config": {**layer.config, **edit.config}}
        shapes = []
        for tensor, index in zip(site.call.inputs, given, strict=True):
            shape = list(shape_of(self.coupling.graph, tensor))
            if index is not None:
                shape[self.coupling.channels[tensor].axis - 1] = len(index)
            shapes.append(tuple(shape))
        return self.table.layer_ms(
            entry, *shapes, arguments=site.call.arguments, custom_objects=self._custom,
            memory=self._memory,
        )  # fmt: skip


def _size(index) -> int | None:
    return None if index is None else len(index)


def _whole(site: Site, rule: Rule) -> Widths:
    tensors = [*site.inputs, *([site.outputs[0]] if rule.mints else [])]
    return tuple(None if t.channels is None else len(t.channels) for t in tensors)


def _change(site: Site, rule: Rule, widths: Widths):
    """What goes in and what changes, if the first so many channels of each stay."""
    given = [None if n is None else np.arange(n) for n in widths[: len(site.inputs)]]
    if widths == _whole(site, rule):
        return given, Edit()
    made = [np.arange(widths[-1])] if rule.mints else rule.route(site, given)
    return given, rule.edit(site, given, made)


def corners(whole: Widths, widths: Widths, mints: bool) -> Iterator[tuple[float, Widths]]:
    """The widths on the grid around these, with the weight of each; the weights add up to 1.

    Args:
        whole: the widths of the layer as it is: of its inputs, then, if it makes channels, of its
            output.
        widths: those asked for.
        mints: whether the last one is of the output: then inputs and output vary by themselves.

    Example:
        list(corners((32, 64), (32, 40), True))     # [(0.5, (32, 32)), (0.5, (32, 48))]
    """
    given = len(whole) - mints
    ends = list(_scaled(whole[:given], widths[:given]))
    outs = list(_around(whole[-1], widths[-1])) if mints else [(1.0, None)]
    for weight, one in ends:
        for other_weight, out in outs:
            yield weight * other_weight, (*one, out) if mints else one


def _scaled(whole: Widths, widths: Widths) -> Iterator[tuple[float, Widths]]:
    """Inputs change together: all by the share of the widest one."""
    sizes = [size for size in whole if size is not None]
    if not sizes or widths == whole:
        yield 1.0, widths
        return
    place = whole.index(max(sizes))
    for weight, size in _around(whole[place], widths[place]):
        shares = (None if n is None else max(1, -(-size * n // whole[place])) for n in whole)
        yield weight, tuple(shares)


def _around(whole: int | None, width: int | None) -> Sequence[tuple[float, int | None]]:
    """The two widths of the grid next to this one, with their weights."""
    if whole is None or width is None:
        return [(1.0, width)]
    multiple = MULTIPLE if whole >= MULTIPLE else 1
    steps = {
        min(whole, math.ceil(whole * k / PARTS / multiple) * multiple) for k in range(1, PARTS)
    }
    grid = sorted({1, whole, *steps})
    if width in grid:
        return [(1.0, width)]
    above = next(i for i, size in enumerate(grid) if size > width)
    low, high = grid[above - 1], grid[above]
    share = (width - low) / (high - low)
    return [(1 - share, low), (share, high)]
