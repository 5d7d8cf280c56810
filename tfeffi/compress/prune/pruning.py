"""Prune: score the channels, choose what goes, and build the model without it."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfeffi.analysis.cost import Cost, cost
from tfeffi.compress.budget import Budget
from tfeffi.compress.prune import importance as importances
from tfeffi.compress.prune.search import Choice, Costing, Estimate, fewest
from tfeffi.compress.report import Change, Report, Skipped
from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling, Group, apply


def prune(
    model: keras.Model,
    budget: Budget | None = None,
    *,
    importance: str | Callable = "activations",
    data: Any = None,
    threshold: float | None = None,
    multiple_of: int = 8,
    ignore: Sequence[str] = (),
    input_shape: Sequence[int] | None = None,
) -> tuple[keras.Model, Report]:
    """Removes whole channels, so that the model is smaller and faster as it stands.

    Channels that are coupled (by additions, multiplications, shared layers, groups) are scored as
    one and go together. Model outputs stay. Nothing is trained: fine-tune the result.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        budget: what the result may cost; the least important channels of all layers go until it
            is met, and no more.
        importance: "activations" (how often a channel is not zero), "apoz", "mean_activation",
            "l1", "l2", "bn_scale", or a function `(coupling, data) -> Scores`.
        data: for importances that are measured: a tf.data.Dataset of batches, an array, or
            `tfeffi.data.Images`. Training data: what is never active there may be elsewhere.
        threshold: channels scored at most this go. For "activations" it is a count; 0 removes
            channels that are zero on all of `data`, which changes no output there.
        multiple_of: widths are rounded up to multiples of it, narrow ones to its halves; odd
            widths can be twice as slow on a phone. 1 removes exactly what is chosen.
        ignore: names of layers whose channels all stay.
        input_shape: the shape of one example, if the model leaves it open.

    Returns:
        The pruned model and the report of what changed, what could not and why.

    Raises:
        BadInput: neither budget nor threshold; a budget that cannot be met (with the smallest
            cost that can); missing, empty or misshapen data; an unknown importance or layer.

    Example:
        small, report = prune(model, Budget(macs=0.5), data=images)
        print(report.table())

    Source: Network Trimming (Hu et al. 2016, arXiv 1607.03250); Çallı 2017.
    """
    _check(budget, threshold, multiple_of)
    score = importances.find(importance)
    coupling = Coupling.of(model)
    ignored = _ignored(coupling, ignore)
    before = cost(model, input_shape)
    scores = score(coupling, data)
    free = [group for group in coupling.groups if not group.pinned and not _touches(group, ignored)]
    _check_finite(scores, free)
    choice = Choice(coupling, scores, free, multiple_of, threshold)
    kept = choice.keep(choice.sure) if budget is None else _within(budget, before, choice, coupling)
    small, _ = apply(coupling, coupling.keep(kept))
    settings = {
        "importance": importance if isinstance(importance, str) else importance.__name__,
        "budget": None if budget is None else {budget.kind: budget.value},
        "threshold": threshold,
        "multiple_of": multiple_of,
        "ignore": list(ignore),
    }
    after = cost(small, input_shape)
    if budget is not None:
        budget.require("prune", after, before)
    report = Report(
        "prune", before, after, _changes(coupling, kept), _skipped(coupling, ignored), settings
    )
    return small, report


def _within(budget: Budget, before: Cost, choice: Choice, coupling: Coupling) -> np.ndarray:
    """What is kept so that the budget is met."""
    costing = Costing(coupling, before)

    def fits(estimate: Estimate) -> bool:
        return budget.allows(estimate, before)

    kept = fewest(choice, coupling, costing, fits)
    if kept is None:
        least = costing.of(coupling.keep(choice.keep(len(choice.order))))
        raise BadInput(
            f"prune: {budget} cannot be met: with one channel left wherever channels may go, the "
            f"model still has {budget.of(least):,} {budget.kind} of {budget.of(before):,}"
        )
    return kept


def _check(budget, threshold, multiple_of) -> None:
    if budget is None and threshold is None:
        raise BadInput("prune: give a budget=Budget(...) or a threshold=..., or both")
    if budget is not None and not isinstance(budget, Budget):
        raise BadInput(f"prune: budget={budget!r}; give tfeffi.Budget(macs=0.5) or the like")
    if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
        raise BadInput(f"prune: multiple_of={multiple_of!r}; give a whole number from 1 on")
    if threshold is not None and not np.isfinite(threshold):
        raise BadInput(f"prune: threshold={threshold!r} is not a number")


def _ignored(coupling: Coupling, ignore: Sequence[str]) -> dict[int, str]:
    """The classes that the ignored layers carry, with the layer."""
    if isinstance(ignore, str):
        raise BadInput(f'prune: ignore="{ignore}"; give a list of layer names')
    found: dict[int, str] = {}
    for name in ignore:
        if name not in coupling.graph.layers:
            known = coupling.graph.layers
            raise BadInput(f'prune: layer "{name}" is not in the model; {near(name, known)}')
        for one in coupling.written.get(name, ()):
            found[int(one)] = name
    return found


def _touches(group: Group, ignored: dict[int, str]) -> bool:
    return any(int(one) in ignored for one in group.classes)


def _check_finite(scores, free: list[Group]) -> None:
    for group in free:
        if np.isnan(scores.rank[group.classes]).any() or np.isnan(scores.ties[group.classes]).any():
            raise BadInput(
                f'prune: the importance of channels of "{group.writers[0]}" is not a number; the '
                "model has NaN weights or activations"
            )


def _changes(coupling: Coupling, kept: np.ndarray) -> tuple[Change, ...]:
    widths = {path: (len(c), int(kept[c].sum())) for path, c in coupling.writers.items()}
    return tuple(Change(path, old, new) for path, (old, new) in widths.items() if new != old)


def _skipped(coupling: Coupling, ignored: dict[int, str]) -> tuple[Skipped, ...]:
    found: dict[str, str] = {}
    for group in coupling.groups:
        kept = [ignored[int(one)] for one in group.classes if int(one) in ignored]
        for path in group.writers:
            if group.pinned:
                found.setdefault(path, group.pinned)
            elif path in ignored.values():
                found.setdefault(path, "ignored")
            elif kept:
                found.setdefault(path, f'coupled to "{kept[0]}", which is ignored')
    return tuple(Skipped(path, why) for path, why in found.items())
