"""Prune to given widths: of each named layer the most important channels stay."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfeffi.compress.prune import importance as importances
from tfeffi.compress.prune.importance import Scores
from tfeffi.compress.prune.pruning import prune
from tfeffi.compress.report import Report
from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling


def prune_to_widths(
    model: keras.Model,
    widths: Mapping[str, int],
    *,
    importance: str | Callable = "mean_activation",
    data: Any = None,
    input_shape: Sequence[int] | None = None,
) -> tuple[keras.Model, Report]:
    """Leaves each named layer as many channels as are asked for, its most important ones.

    Layers that are coupled to a named one follow. Nothing is trained: fine-tune the result.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        widths: how many channels stay, by the name of the layer that makes them; a layer that has
            no more stays as it is.
        importance, data, input_shape: as for `tfeffi.prune`.

    Returns:
        The pruned model and the report of what changed.

    Raises:
        BadInput: a layer that is not there or whose channels must stay, a width that is no whole
            number from 1 on, or what `tfeffi.prune` raises.

    Example:
        small, report = prune_to_widths(model, {"conv1": 8, "conv2": 32}, data=images)
    """
    score = importances.find(importance)

    def stays(coupling: Coupling, data) -> Scores:
        scores = score(coupling, data)
        values = np.ones(len(scores.values))
        for name, width in widths.items():
            classes = _classes(coupling, name, width)
            order = classes[np.lexsort((scores.ties[classes], scores.rank[classes]))]
            values[order[: max(0, len(order) - width)]] = 0
        return Scores(values, scores.rank, scores.ties)

    small, report = prune(
        model, importance=stays, data=data, threshold=0.5, multiple_of=1, input_shape=input_shape
    )
    name = importance if isinstance(importance, str) else importance.__name__
    settings = {"importance": name, "widths": dict(widths)}
    return small, Report("prune", report.before, report.after, report.changed, (), settings)


def _classes(coupling: Coupling, name: str, width: int) -> np.ndarray:
    """The channels that a layer makes, if they may go."""
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise BadInput(f'prune: widths["{name}"]={width!r}; give a whole number from 1 on')
    if name not in coupling.writers:
        raise BadInput(
            f'prune: layer "{name}" makes no channels in this model; {near(name, coupling.writers)}'
        )
    classes = np.unique(coupling.writers[name])
    for group in coupling.groups:
        if group.pinned and np.isin(classes, group.classes).any():
            raise BadInput(f'prune: the channels of "{name}" must stay: {group.pinned}')
    return classes
