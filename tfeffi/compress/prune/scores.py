"""From what is measured at each place to one number a channel.

Coupled channels are made and read at several places. `reduce` joins what the places say into one
value for each class of channels; `normalize` makes the values of layers of different scale
comparable. The order of the channels is then the order of one array.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Importance of each class of channels.

    Attributes:
        values: (classes,) what a threshold is compared with.
        rank: (classes,) what channels of all layers are ranked by; infinite: never goes.
        ties: (classes,) decides between equal ranks.
    """

    values: np.ndarray
    rank: np.ndarray
    ties: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """What one layer says of the channels that it makes or reads.

    Attributes:
        path: the layer.
        classes: (n,) the classes it says something of, each once.
        values: (n,) how important they are to it.
    """

    path: str
    classes: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, path: str, classes: np.ndarray, values: np.ndarray) -> "Place":
        """From one value a position: positions of the same class (groups) are averaged."""
        unique, inverse = np.unique(classes, return_inverse=True)
        return cls(path, unique, np.bincount(inverse, values) / np.bincount(inverse))


def reduce(count: int, places: Sequence[Place], reduction: str = "mean") -> np.ndarray:
    """One value for each class from what the places say.

    Args:
        count: how many classes there are.
        places: in the order of the model.
        reduction: "mean", "sum", "max", "prod" over the places of a class, or "first" of them.

    Returns:
        (count,) float64; infinite where no place says anything.

    Raises:
        BadInput: an unknown reduction.

    Example:
        reduce(2, [Place("a", np.array([0, 1]), np.array([3.0, 1.0])),
                   Place("b", np.array([0]), np.array([5.0]))], "max")    # [5, 1]
    """
    if reduction not in REDUCTIONS:
        raise BadInput(f'prune: no reduction "{reduction}"; {near(reduction, REDUCTIONS)}')
    found, times = np.zeros(count), np.zeros(count)
    for place in places:
        again = times[place.classes] > 0
        joined = REDUCTIONS[reduction](found[place.classes], place.values)
        found[place.classes] = np.where(again, joined, place.values)
        times[place.classes] += 1
    found = found / np.maximum(times, 1) if reduction == "mean" else found
    return np.where(times > 0, found, np.inf)


def normalize(coupling: Coupling, values: np.ndarray, normalization: str = "mean") -> np.ndarray:
    """Values made comparable between groups of channels.

    Within each group of n channels, x becomes

        none             x
        mean             x / mean(x)
        max              x / max(x)
        sum              x / Σx
        l2               x / √Σx²                  (Molchanov et al. 2017, arXiv 1611.06440)
        standardization  (x − min(x)) / (max(x) − min(x))
        gaussian         (x − mean(x)) / std(x), population std
        lamp             x / Σ of the x that are not smaller, each counted once
                         (Lee et al. 2021, arXiv 2010.07611, on importances in place of w²)

    and zero where the denominator is zero. The names are those of Torch-Pruning.

    Args:
        coupling: the labelled model; its groups are what is normalized over.
        values: (classes,) importances; infinite ones stay so and are not counted.
        normalization: one of the names.

    Returns:
        (classes,) float64.

    Raises:
        BadInput: an unknown normalization.
    """
    if normalization not in NORMALIZATIONS:
        hint = near(normalization, NORMALIZATIONS)
        raise BadInput(f'prune: no normalization "{normalization}"; {hint}')
    found = values.astype(np.float64)
    for group in coupling.groups:
        finite = group.classes[~np.isinf(values[group.classes])]
        if len(finite):
            found[finite] = NORMALIZATIONS[normalization](found[finite])
    return found


def finish(
    coupling: Coupling, places: Sequence[Place], reduction: str, normalization: str
) -> Scores:
    """The scores of an importance whose values are also what channels are ranked by."""
    values = reduce(coupling.classes.count, places, reduction)
    rank = normalize(coupling, values, normalization)
    return Scores(values, rank, rank)


def by_layer(coupling: Coupling, scores: Scores) -> Scores:
    """Scores by which every group loses the same share: ranks are places within the group.

    The i-th least important of the n channels of a group, from 1, gets the rank i / n.
    """
    rank = scores.rank.astype(np.float64)
    for group in coupling.groups:
        one = group.classes
        order = np.lexsort((one, scores.ties[one], scores.rank[one]))
        share = (np.argsort(order) + 1) / len(one)
        rank[one] = np.where(np.isfinite(scores.rank[one]), share, scores.rank[one])
    return Scores(scores.values, rank, np.zeros_like(rank))


def _over(x: np.ndarray, by) -> np.ndarray:
    return np.divide(x, by, out=np.zeros_like(x), where=np.asarray(by) != 0)


def _lamp(x: np.ndarray) -> np.ndarray:
    order = np.argsort(x, kind="stable")
    found = np.empty_like(x)
    found[order] = _over(x[order], np.cumsum(x[order][::-1])[::-1])
    return found


REDUCTIONS = {
    "mean": np.add,
    "sum": np.add,
    "max": np.maximum,
    "prod": np.multiply,
    "first": lambda first, _: first,
}

NORMALIZATIONS = {
    "none": lambda x: x,
    "mean": lambda x: _over(x, x.mean()),
    "max": lambda x: _over(x, x.max()),
    "sum": lambda x: _over(x, x.sum()),
    "l2": lambda x: _over(x, np.sqrt(np.square(x).sum())),
    "standardization": lambda x: _over(x - x.min(), x.max() - x.min()),
    "gaussian": lambda x: _over(x - x.mean(), x.std()),
    "lamp": _lamp,
}
