"""Which points are worth having: the Pareto front in any number of dimensions.

A point dominates another if it is at least as good in every objective and better in one. Equal
points do not dominate each other, so both stay. Deb et al., "A fast and elitist multiobjective
genetic algorithm: NSGA-II", 2002, section III.A.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from tfeffi.errors import BadInput

Point = Mapping[Hashable, Any] | Sequence[float]


def front(
    points: Sequence[Point],
    *,
    minimize: Sequence[Hashable] = (),
    maximize: Sequence[Hashable] = (),
) -> list[int]:
    """The points that no other point dominates.

    Args:
        points: n mappings (rows of a result) or n sequences of numbers.
        minimize: keys of the objectives of which less is better; positions if points are sequences.
        maximize: keys of those of which more is better.

    Returns:
        Indices into `points`, in order of the first objective, best first. A point where an
        objective is absent or NaN is never among them.

    Raises:
        BadInput: there is no objective, or a value is no number.

    Example:
        front([(1.0, 0.9), (2.0, 0.8), (3.0, 0.95)], minimize=[0], maximize=[1])  # [0, 2]
    """
    values = _values(points, minimize, maximize)
    best = ~np.isnan(values).any(axis=1) & ~_beats(values).any(axis=0)
    return sorted(np.flatnonzero(best).tolist(), key=lambda index: tuple(values[index]))


def dominators(
    points: Sequence[Point],
    *,
    minimize: Sequence[Hashable] = (),
    maximize: Sequence[Hashable] = (),
) -> list[list[int]]:
    """For each point the indices of those that dominate it; empty on the front and where unknown."""
    beats = _beats(_values(points, minimize, maximize))
    return [np.flatnonzero(column).tolist() for column in beats.T]


def _values(points, minimize, maximize) -> np.ndarray:
    """The objectives as (n, d), all to be minimized; NaN where a point has none."""
    if not (minimize or maximize):
        raise BadInput("pareto: name at least one objective in minimize= or maximize=")
    signed = [(key, 1.0) for key in minimize] + [(key, -1.0) for key in maximize]
    rows = [[sign * _number(point, key) for key, sign in signed] for point in points]
    return np.array(rows, dtype=np.float64).reshape(len(points), len(signed))


def _number(point: Point, key: Hashable) -> float:
    value = point.get(key) if isinstance(point, Mapping) else point[key]
    if value is None:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BadInput(f'pareto: objective "{key}" is {value!r}, not a number') from None


def _beats(values: np.ndarray) -> np.ndarray:
    """(n, n): whether the point of the row dominates that of the column; NaN compares false."""
    mine, theirs = values[:, None, :], values[None, :, :]
    return (mine <= theirs).all(-1) & (mine < theirs).any(-1)
