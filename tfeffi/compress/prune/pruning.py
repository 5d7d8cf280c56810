"""Prune: score the channels, choose what goes, and build the model without it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfeffi.analysis.cost import Cost, cost
from tfeffi.compress.budget import Budget
from tfeffi.compress.prune import importance as importances
from tfeffi.compress.prune.goals import Goal
from tfeffi.compress.prune.notes import note
from tfeffi.compress.prune.scores import Scores, by_layer
from tfeffi.compress.prune.search import Choice, Costing
from tfeffi.compress.report import Change, Report, Skipped
from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling, Group, apply

SCOPES = ("global", "layer")
PER = ("macs", "params")


def prune(
    model: keras.Model,
    budget: Budget | None = None,
    *,
    importance: str | Callable = "activations",
    data: Any = None,
    threshold: float | None = None,
    reduction: str | None = None,
    normalization: str | None = None,
    scope: str = "global",
    per: str | None = None,
    loss: str | Callable | None = None,
    seed: int = 0,
    inexact: bool = False,
    multiple_of: int = 8,
    ignore: Sequence[str] = (),
    input_shape: Sequence[int] | None = None,
    original: keras.Model | None = None,
) -> tuple[keras.Model, Report]:
    """Removes whole channels, so that the model is smaller and faster as it stands.

    Channels that are coupled (by additions, multiplications, shared layers, groups) are scored as
    one and go together. Model outputs stay. Nothing is trained: fine-tune the result.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        budget: what the result may cost; the least important channels go until it is met. If the
            last of them saved much more than was needed (widths are coarse), layers get channels
            back as far as they fit, but for scope="layer". For file bytes and latency, candidates
            are exported and measured.
        importance: measured on inputs: "activations" (how often a channel is not zero), "apoz",
            "mean_activation", "outliers"; on inputs and labels: "taylor", "taylor_abs", "fisher";
            read off the weights: "l1", "l2", "geometric_median", "group_lasso", "bn_scale";
            "random"; or a function `(coupling, data) -> Scores`.
        data: for importances that are measured: a tf.data.Dataset of batches, an array, a tuple
            (inputs, labels) or `tfeffi.data.Images`. Training data: what is never active there may
            be elsewhere.
        threshold: channels scored at most this go. For "activations" it is a count; 0 removes
            channels that are zero on all of `data`, which changes no output there.
        reduction: how what several layers say of coupled channels becomes one score: "mean", "sum",
            "max", "prod", "first"; default: what suits the importance. See `scores.reduce`.
        normalization: how layers are made comparable: "none", "mean", "max", "sum", "l2",
            "standardization", "gaussian", "lamp"; default: what suits the importance. See
            `scores.normalize`.
        scope: "global" ranks the channels of all layers together; "layer" takes the same share
            from every group of coupled layers.
        per: "macs" or "params": divides the score of a channel by what it costs.
        loss: of "taylor" and "fisher": "cross_entropy" (default), "self" for data without labels,
            "reconstruction", or a function; see `losses.Loss.of`.
        seed: of "random" and of sampled labels.
        inexact: whether channels may go that layer normalization, softmax or another statistic is
            taken over; the report names those layers.
        multiple_of: widths are rounded up to multiples of it, narrow ones to its halves; odd
            widths can be twice as slow on a phone. 1 removes exactly what is chosen.
        ignore: names of layers whose channels all stay.
        input_shape: the shape of one example, if the model leaves it open.
        original: the model that a budget's fraction is of, if it is not `model`: pruning in steps.

    Returns:
        The pruned model and the report of what changed, what could not and why.

    Raises:
        BadInput: neither budget nor threshold; a budget that cannot be met (with the smallest
            cost that can); missing, empty or misshapen data; missing labels; weights that are not
            finite; no channel that may go; an unknown importance, option or layer.

    Example:
        small, report = prune(model, Budget(macs=0.5), data=images)
        small, report = prune(model, Budget(macs=0.5), importance="taylor", data=images, per="macs")
        print(report.table())

    Source: Network Trimming (Hu et al. 2016, arXiv 1607.03250); Çallı 2017.
    """
    if budget is None and threshold is None:
        threshold = importances.THRESHOLDS.get(importances.name_of(importance))
    _check(budget, threshold)
    ranked = rank(
        model, importance=importance, data=data, threshold=threshold, reduction=reduction,
        normalization=normalization, scope=scope, per=per, loss=loss, seed=seed, inexact=inexact,
        multiple_of=multiple_of, ignore=ignore, input_shape=input_shape,
    )  # fmt: skip
    coupling, choice = ranked.coupling, ranked.choice
    goal = None
    if budget is None:
        kept = choice.keep(choice.sure)
    else:
        goal = Goal(budget, coupling, original=original, input_shape=input_shape)
        kept = goal.meet(choice)
    return build(ranked, kept, goal, "prune", {"threshold": threshold})


@dataclasses.dataclass(frozen=True, eq=False)
class Ranked:
    """A model whose channels have their scores.

    Attributes:
        coupling: the labelled model.
        scores: the importance of its channels, as it was measured.
        choice: which channels go first.
        before: its cost.
        input_shape: of one example, where the model leaves it open.
        skipped: the layers that will be left alone.
        settings: the arguments, as a report tells them.
    """

    coupling: Coupling
    scores: Scores
    choice: Choice
    before: Cost
    input_shape: Sequence[int] | None
    skipped: tuple[Skipped, ...]
    settings: dict[str, Any]


def rank(
    model: keras.Model, *, importance, data, threshold, reduction, normalization, scope, per, loss,
    seed, inexact, multiple_of, ignore, input_shape,
) -> Ranked:  # fmt: skip
    """The first half of `prune`, whose arguments these are: the order in which channels may go."""
    chosen = importances.options(
        importance, reduction=reduction, normalization=normalization, loss=loss, seed=seed
    )
    _check_rank(threshold, multiple_of, scope, per)
    coupling = Coupling.of(model, inexact=inexact)
    ignored = _ignored(coupling, ignore)
    free = [group for group in coupling.groups if not group.pinned and not _touches(group, ignored)]
    skipped = _skipped(coupling, ignored)
    _check_weights(coupling)
    _check_free(free, skipped)
    before = cost(model, input_shape)
    scores = importances.score(importance, coupling, data, **chosen)
    _check_finite(scores, free)
    skipped += _without_score(scores, free, importances.name_of(importance))
    order = scores
    if per is not None:
        order = _per(per, coupling, scores, free, Costing(coupling, before))
    if scope == "layer":
        order = by_layer(coupling, order)
    settings = {
        "importance": importances.name_of(importance),
        **{key: _said(value) for key, value in chosen.items()},
        "scope": scope,
        "per": per,
        "inexact": inexact,
        "multiple_of": multiple_of,
        "ignore": list(ignore),
    }
    choice = Choice(coupling, order, free, multiple_of, threshold, scope == "layer")
    return Ranked(coupling, scores, choice, before, input_shape, skipped, settings)


def build(
    ranked: Ranked, kept: np.ndarray, goal: Goal | None, method: str, more: dict[str, Any]
) -> tuple[keras.Model, Report]:
    """The second half: the model of what is kept, and the report."""
    plan = ranked.coupling.keep(kept)
    small, _ = apply(ranked.coupling, plan)
    after = cost(small, ranked.input_shape)
    if goal is not None:
        goal.check(after)
    settings = {
        **ranked.settings,
        "budget": None if goal is None else goal.budget.to_json(),
        "inexact": dict(plan.inexact) if ranked.settings["inexact"] else False,
        **more,
    }
    report = Report(
        method, ranked.before, after, _changes(ranked.coupling, kept), ranked.skipped, settings,
        note=note(ranked.scores, ranked.choice.free, kept, plan),
        measured={} if goal is None else goal.measured,
    )  # fmt: skip
    return small, report


def _said(value):
    """An option as JSON has it: a function by its name."""
    return importances.name_of(value) if callable(value) else value


def _check(budget, threshold) -> None:
    if budget is None and threshold is None:
        raise BadInput("prune: give a budget=Budget(...) or a threshold=..., or both")
    if budget is not None and not isinstance(budget, Budget):
        raise BadInput(f"prune: budget={budget!r}; give tfeffi.Budget(macs=0.5) or the like")


def _check_rank(threshold, multiple_of, scope, per) -> None:
    if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
        raise BadInput(f"prune: multiple_of={multiple_of!r}; give a whole number from 1 on")
    if threshold is not None and not np.isfinite(threshold):
        raise BadInput(f"prune: threshold={threshold!r} is not a number")
    if scope not in SCOPES:
        raise BadInput(f'prune: no scope "{scope}"; {near(scope, SCOPES)}')
    if per is not None and per not in PER:
        raise BadInput(f'prune: per="{per}" is no cost; {near(per, PER)}')


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


def _check_weights(coupling: Coupling) -> None:
    for path, layer in coupling.graph.layers.items():
        for weight in layer.live.weights if layer.live is not None else ():
            values = keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32"))
            if not np.isfinite(values).all():
                raise BadInput(
                    f'prune: the {weight.name} of layer "{path}" holds values that are not finite; '
                    "a model that diverged cannot be pruned"
                )


def _check_free(free: list[Group], skipped: tuple[Skipped, ...]) -> None:
    if not free:
        why = [f'"{one.layer}": {one.why}' for one in skipped] or ["no layer makes channels"]
        more = f" (and {len(why) - 3} more)" if len(why) > 3 else ""
        raise BadInput(f"prune: no channel of the model may go; {'; '.join(why[:3])}{more}")


def _check_finite(scores: Scores, free: list[Group]) -> None:
    for group in free:
        if np.isnan(scores.rank[group.classes]).any() or np.isnan(scores.ties[group.classes]).any():
            raise BadInput(
                f'prune: the importance of channels of "{group.writers[0]}" is not a number'
            )


def _without_score(scores: Scores, free: list[Group], name: str) -> tuple[Skipped, ...]:
    """The layers whose channels the importance says nothing of."""
    return tuple(
        Skipped(path, f'importance "{name}" says nothing of its channels')
        for group in free
        if np.isinf(scores.rank[group.classes]).all()
        for path in group.writers
    )


def _per(
    kind: str, coupling: Coupling, scores: Scores, free: list[Group], costing: Costing
) -> Scores:
    """Scores over what one channel of the group costs: it, its writers' and its readers' share.

    Source: the cost-aware criterion of Theis et al. 2018 (arXiv 1801.05787).
    """
    rank, whole = scores.rank.astype(np.float64), np.ones(coupling.classes.count, bool)
    before = getattr(costing.of(coupling.keep(whole)), kind)
    for group in free:
        if (rank[group.classes] < 0).any():
            raise BadInput(
                f'prune: per="{kind}" divides importances, and some are negative; choose '
                "a normalization other than gaussian"
            )
        if group.size > 1:
            kept = whole.copy()
            kept[group.classes[0]] = False
            rank[group.classes] /= max(1, before - getattr(costing.of(coupling.keep(kept)), kind))
    return Scores(scores.values, rank, scores.ties)


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
