"""How much each channel matters: plain functions of a labelled model and data.

Each takes `(coupling, data)` and gives a `Scores`: one number for each class of coupled channels,
the larger the more important. Pass a function of your own as `prune(..., importance=function)`.
"""

import dataclasses

import keras
import numpy as np

from tfeffi.compress.prune.activity import measure
from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Importance of each class of channels.

    Attributes:
        values: (classes,) what a threshold is compared with.
        rank: (classes,) what channels of all layers are ranked by.
        ties: (classes,) decides between equal ranks.
    """

    values: np.ndarray
    rank: np.ndarray
    ties: np.ndarray


def activations(coupling: Coupling, data) -> Scores:
    """How often a channel is active; ranked by share, ties by mean absolute activation.

    Source: Network Trimming (Hu et al. 2016, arXiv 1607.03250); Çallı 2017 counts the same.
    """
    found = measure(coupling, _given(data, "activations"))
    values = np.where(found.total > 0, found.active, np.inf)
    return Scores(values, found.share, _relative(coupling, found.mean))


def apoz(coupling: Coupling, data) -> Scores:
    """The share of activations that are not zero, 1 - APoZ (Hu et al. 2016, equation 1)."""
    found = measure(coupling, _given(data, "apoz"))
    return Scores(found.share, found.share, _relative(coupling, found.mean))


def mean_activation(coupling: Coupling, data) -> Scores:
    """The mean absolute activation, ranked relative to the mean of the channel's group."""
    found = measure(coupling, _given(data, "mean_activation")).mean
    rank = _relative(coupling, found)
    return Scores(found, rank, rank)


def l1(coupling: Coupling, data=None) -> Scores:
    """The L1 norm of the weights that make a channel (Li et al. 2016, arXiv 1608.08710)."""
    return _norm(coupling, lambda kernel, axes: np.abs(kernel).sum(axes))


def l2(coupling: Coupling, data=None) -> Scores:
    """The L2 norm of the weights that make a channel."""
    return _norm(coupling, lambda kernel, axes: np.sqrt(np.square(kernel).sum(axes)))


def bn_scale(coupling: Coupling, data=None) -> Scores:
    """|gamma| of batch normalization; channels without one are kept.

    Raises:
        BadInput: the model has no batch normalization with a scale.

    Source: Network Slimming (Liu et al. 2017, arXiv 1708.06519).
    """
    collected = []
    for site, _ in coupling.sites:
        channels = site.outputs[0].channels
        if channels is not None and "gamma" in site.layer.shapes:
            gamma = next(v for v in site.layer.live.variables if v.name == "gamma")
            collected.append((coupling.classes_of(channels), _numpy(gamma)))
    if not collected:
        raise BadInput(
            'prune: importance "bn_scale" needs batch normalization with a scale, and the model has '
            'none; "l2" needs nothing'
        )
    values = _mean_by_class(coupling.classes.count, collected, np.abs)
    return Scores(values, values, values)


FUNCTIONS = {
    "activations": activations,
    "apoz": apoz,
    "mean_activation": mean_activation,
    "l1": l1,
    "l2": l2,
    "bn_scale": bn_scale,
}


def find(importance):
    """The function of a name, or the function that was given.

    Raises:
        BadInput: no importance of that name.
    """
    if callable(importance):
        return importance
    if importance not in FUNCTIONS:
        raise BadInput(f'prune: no importance "{importance}"; {near(importance, FUNCTIONS)}')
    return FUNCTIONS[importance]


def _given(data, name: str):
    if data is None:
        raise BadInput(f'prune: importance "{name}" is measured on data; give data=...')
    return data


def _norm(coupling: Coupling, norm) -> Scores:
    collected = []
    for site, rule in coupling.sites:
        if not rule.mints or site.call.index:
            continue
        channels = site.outputs[0].channels
        written = np.arange(len(channels))
        read = [None if t.channels is None else np.arange(len(t.channels)) for t in site.inputs]
        edit = rule.edit(site, read, [written])
        for weight, several in edit.cuts.items():
            shape = site.layer.shapes.get(weight, ())
            axes = [cut.axis % len(shape) for cut in several if cut.index is written and shape]
            if axes and len(shape) > 1:
                kernel = next(v for v in site.layer.live.variables if v.name == weight)
                others = tuple(a for a in range(len(shape)) if a != axes[0])
                collected.append((coupling.classes_of(channels), norm(_numpy(kernel), others)))
    values = _mean_by_class(coupling.classes.count, collected, np.abs)
    rank = _relative(coupling, values)
    return Scores(values, rank, rank)


def _numpy(variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))


def _mean_by_class(count: int, collected, transform) -> np.ndarray:
    """The mean over all that belongs to a class; infinite where nothing does."""
    total, times = np.zeros(count), np.zeros(count)
    for classes, values in collected:
        np.add.at(total, classes, transform(values))
        np.add.at(times, classes, 1)
    return np.where(times > 0, total / np.maximum(times, 1), np.inf)


def _relative(coupling: Coupling, values: np.ndarray) -> np.ndarray:
    """Values over the mean of their group, so that layers of different scale can be compared."""
    relative = values.astype(np.float64)
    for group in coupling.groups:
        mean = values[group.classes].mean()
        if np.isfinite(mean) and mean > 0:
            relative[group.classes] = values[group.classes] / mean
    return relative
