"""`widen`: more channels that compute the same; training then finds a use for them."""

import math
import numbers
from collections.abc import Mapping

import keras
import numpy as np

from tfeffi.errors import BadInput, near
from tfeffi.surgery import kernels
from tfeffi.surgery.coupling import Coupling, Plan
from tfeffi.surgery.graph import Graph, read
from tfeffi.surgery.rebuild import apply
from tfeffi.surgery.slices import Slices
from tfeffi.surgery.wishes import Wish

LARGEST_FACTOR = 16.0
_KERNELS = ("kernel", "pointwise_kernel")  # what a layer makes its channels with


def widen(
    model: keras.Model,
    widths: Mapping[str, int | float] | float,
    *,
    seed: int = 0,
    noise: float = 0.0,
) -> tuple[keras.Model, Slices]:
    """Widens layers by copies of their channels, so that the model still computes the same.

    Which channels are copied is drawn at random, among those that anything is left of: not where every
    kernel that makes or reads one is zero there. Coupled layers follow with the same copies, and
    whatever reads a copied channel divides its weights by the number of copies. Copies stand at the
    end, or, where another layer cannot follow that (a concatenation, groups), beside their source.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        widths: `{layer: width}`, a whole number of channels or, as a float, a factor: 128 or 1.5; or
            one factor for all channels that are free to change. A grouped layer widens by as many
            channels in each group.
        seed: of the draw and of the noise.
        noise: how far copies are moved, as a share of the standard deviation of their kernel. At 0
            the model computes exactly the same, and copies stay alike in training unless dropout
            tells them apart; 1e-2 breaks the tie and changes the outputs a little.

    Returns:
        The new model, and the `Slices` with which an optimizer follows.

    Raises:
        BadInput: an unknown layer, a width below the present one, channels that must stay (the
            message says why), a width that coupled channels cannot take.

    Note:
        A step of plain SGD moves what makes a channel with c copies 1/c as far as in the narrow
        model, and what reads it c times as far; Adam moves both by as much as before, in each copy.
        Training usually goes on at a tenth of the learning rate it began with.

    Example:
        wider, slices = widen(model, {"conv2": 128}, noise=1e-2)
        optimizer = slices.apply_to(optimizer, wider)

    Source: Net2Wider (Chen et al. 2015, arXiv 1511.05641, section 2.3).
    """
    if not isinstance(noise, numbers.Real) or isinstance(noise, bool) or not 0 <= noise < math.inf:
        raise BadInput(f"widen: noise={noise!r} must be a number from 0, such as 0.01")
    if not isinstance(seed, numbers.Integral) or seed < 0:
        raise BadInput(f"widen: seed={seed!r} must be a whole number from 0")
    random, coupling = np.random.default_rng(seed), Coupling.of(model)
    if isinstance(widths, Mapping):
        copies = _for_layers(coupling, widths, random)
    else:
        copies = _for_all(coupling, _factor(widths, "widths"), random)
    plan = _plan(coupling, copies)
    made, slices = apply(coupling, plan)
    if noise:
        _disturb(coupling.graph, read(made), plan, noise, random)
    return made, slices


def _for_layers(coupling: Coupling, widths: Mapping[str, int | float], random) -> np.ndarray:
    """The classes to copy, in order, so that each named layer gets its width."""
    counts, copies, sealed = np.ones(coupling.classes.count, np.int64), [], set()
    live = _live(coupling)
    wanted = {name: _width(coupling, name, width) for name, width in widths.items()}
    for name, width in wanted.items():
        classes = coupling.written[name]
        missing = width - int(counts[classes].sum())
        free = [c for c in dict.fromkeys(classes.tolist()) if c not in coupling.classes.pinned]
        if missing and not free:
            why = coupling.classes.pinned[int(classes[0])]
            raise BadInput(f'widen: the channels of "{name}" must stay: {why}')
        free = [c for c in free if c not in sealed]
        drawn = _draw(name, classes, [c for c in free if live[c]] or free, missing, random)
        np.add.at(counts, drawn, 1)
        copies.append(drawn)
        sealed.update(classes.tolist())
    for name, width in wanted.items():
        _check_width(name, width, int(counts[coupling.written[name]].sum()))
    return np.concatenate([*copies, np.zeros(0, np.int64)])


def _draw(name: str, classes: np.ndarray, free: list[int], missing: int, random) -> np.ndarray:
    """Classes at random, as many as give a layer its missing channels."""
    if missing <= 0:
        return np.zeros(0, np.int64)
    if not free:
        raise BadInput(
            f'widen: "{name}" is coupled to layers that are given other widths; give them the same'
        )
    each = np.unique([int((classes == one).sum()) for one in free])
    if len(each) > 1:
        raise BadInput(
            f'widen: some channels of "{name}" come as {each[0]}, some as {each[-1]}; name the '
            "layers that make them"
        )
    if missing % each[0]:
        width = len(classes)
        raise BadInput(
            f'widen: the channels of "{name}" come in sets of {each[0]}; give it {width} and a '
            f"multiple of {each[0]} more, not {missing}"
        )
    return random.choice(np.array(free), missing // each[0])


def _for_all(coupling: Coupling, factor: float, random) -> np.ndarray:
    """The classes to copy so that every group that is free gets wider by the factor."""
    live, copies = _live(coupling), []
    for group in (one for one in coupling.groups if one.pinned is None):
        some = group.classes[live[group.classes]]
        chosen = some if len(some) else group.classes
        copies.append(random.choice(chosen, round(factor * group.size) - group.size))
    if not copies:
        raise BadInput("widen: no channel of this model is free to change")
    return np.concatenate(copies)


def _live(coupling: Coupling) -> np.ndarray:
    """(classes,) whether a kernel that makes or reads the class has a weight there, or none does both."""
    live, dead = np.zeros((2, coupling.classes.count), bool)
    for side in (*kernels.made(coupling), *kernels.read(coupling)):
        has_weights = side.rows().any(axis=1)
        live[side.classes[has_weights]] = True
        dead[side.classes[~has_weights]] = True
    return live | ~dead


def _plan(coupling: Coupling, copies: np.ndarray) -> Plan:
    """Each layer as it was, then its copies in the order drawn; or, if need be, beside their source."""
    counts = np.bincount(copies, minlength=coupling.classes.count)
    wished = {p: c for p, c in coupling.writers.items() if counts[c].any()}
    if not wished:
        return coupling.plan({})
    last = {}
    for path, classes in wished.items():
        places: dict[int, list[int]] = {}
        for place, one in enumerate(classes.tolist()):
            places.setdefault(one, []).append(place)
        added = [place for one in copies.tolist() for place in places.get(one, ())]
        last[path] = np.array([*range(len(classes)), *added])
    try:
        return coupling.plan(last)
    except BadInput:  # a layer cannot follow this order; it can follow the ascending one
        return coupling.follow(Wish(coupling, counts + 1, {}, {}).index)


def _disturb(old: Graph, new: Graph, plan: Plan, noise: float, random) -> None:
    """Moves the copies among the channels that each layer makes, and not their sources."""
    for path, edit in plan.edits.items():
        for name in set(edit.cuts) & set(_KERNELS):
            [source] = [v for v in old.layers[path].live.variables if v.name == name]
            [target] = [v for v in new.layers[path].live.variables if v.name == name]
            before, value = (np.array(keras.ops.convert_to_numpy(v)) for v in (source, target))
            for cut in edit.cuts[name]:
                again = np.ones(len(cut.index), bool)
                again[np.unique(cut.index, return_index=True)[1]] = False
                if cut.shared or not again.any():
                    continue
                moved = np.moveaxis(value, cut.axis, 0)  # a view
                moved[again] += random.normal(0, noise * before.std(), moved[again].shape)
            target.assign(value)


def _width(coupling: Coupling, name: str, width) -> int:
    """The width asked for, as a number of channels."""
    if name not in coupling.graph.layers:
        raise BadInput(
            f'widen: layer "{name}" is not in the model; {near(name, coupling.graph.layers)}'
        )
    if name not in coupling.written:
        raise BadInput(
            f'widen: the channels of "{name}" cannot change; name a layer that makes some'
        )
    before = len(coupling.written[name])
    if isinstance(width, numbers.Integral) and not isinstance(width, bool):
        after = int(width)
    else:
        after = round(_factor(width, f'the width of "{name}"') * before)
    if after < before:
        raise BadInput(
            f'widen: "{name}" has {before} channels, and {after} are fewer; prune makes it narrower'
        )
    return after


def _factor(value, what: str) -> float:
    if not isinstance(value, float) or not 1 <= value <= LARGEST_FACTOR:
        raise BadInput(
            f"widen: {what} is {value!r}; give a whole number of channels for each layer, or a "
            f"factor from 1.0 to {LARGEST_FACTOR}"
        )
    return value


def _check_width(name: str, wanted: int, found: int) -> None:
    if found != wanted:
        raise BadInput(
            f'widen: "{name}" would have {found} channels, not {wanted}: layers that are coupled to '
            "it are given other widths; give them the same"
        )
