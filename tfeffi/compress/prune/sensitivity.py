"""Pruning by sensitivity: how much worse does the model get when one group of layers shrinks?

Every group of coupled layers is shrunk alone, to several widths, and the model is scored each time.
Then one threshold decides for all: each group goes to its least width whose score is not below it,
and the highest threshold that meets the budget is taken.

Nothing is built to be scored: channels that are gone are zero where they are read.
"""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfeffi import files
from tfeffi.compress.budget import Budget
from tfeffi.compress.prune import pruning
from tfeffi.compress.prune.goals import Goal
from tfeffi.compress.prune.masked import SCORES, Masked
from tfeffi.compress.prune.search import Choice, allowed_size
from tfeffi.compress.report import Report
from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling, Group, apply

RATIOS = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """What shrinking one group alone does.

    Attributes:
        layers: that make its channels.
        channels: how many there are.
        kept: the widths that were tried, falling.
        scores: of the model with each.
    """

    layers: tuple[str, ...]
    channels: int
    kept: tuple[int, ...]
    scores: tuple[float, ...]

    def least(self, threshold: float) -> int:
        """The least width whose score is at least the threshold."""
        pairs = zip(self.kept, self.scores, strict=True)
        return min((n for n, score in pairs if score >= threshold), default=self.channels)


def by_sensitivity(
    model: keras.Model,
    budget: Budget,
    *,
    data: Any = None,
    evaluate: str | Callable[[keras.Model], float] = "fidelity",
    ratios: Sequence[float] = RATIOS,
    importance: str | Callable = "activations",
    reduction: str | None = None,
    loss: str | Callable | None = None,
    seed: int = 0,
    inexact: bool = False,
    multiple_of: int = 8,
    ignore: Sequence[str] = (),
    input_shape: Sequence[int] | None = None,
    original: keras.Model | None = None,
    cache: str | os.PathLike | None = None,
) -> tuple[keras.Model, Report]:
    """Prunes to a budget, the least sensitive layers the most.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        budget: what the result may cost.
        data: what is scored on, and what importances are measured on; see `prune`.
        evaluate: the score of a model, the higher the better: "fidelity", how much of the original
            outputs' variance the new ones explain, and "agreement", how often the class is the
            same, need no labels; "accuracy" does. Or a function of a model: it is called with a
            model that was built for each entry of the table, which takes longer.
        ratios: the shares of the channels that are tried for each group, in (0, 1).
        importance: which channels of a group go first.
        reduction, loss, seed, inexact, multiple_of, ignore, input_shape, original: as for `prune`.
        cache: a JSON file where the table is kept: a killed run goes on there.

    Returns:
        The pruned model and the report; `settings["sensitivity"]` has the table.

    Raises:
        BadInput: what `prune` raises; no data; a budget below what the least of `ratios` gives.

    Example:
        small, report = by_sensitivity(model, Budget(macs=0.5), data=images, evaluate="accuracy")

    Source: the greedy selection of compression ratios in AIMET (Siddegowda et al. 2022,
    arXiv 2201.08442), with coupled layers as one.
    """
    _check(budget, evaluate, ratios, data)
    ranked = pruning.rank(
        model, importance=importance, data=data, threshold=None, reduction=reduction,
        normalization=None, scope="global", per=None, loss=loss, seed=seed, inexact=inexact,
        multiple_of=multiple_of, ignore=ignore, input_shape=input_shape,
    )  # fmt: skip
    score = _scorer(ranked.coupling, data, evaluate)
    rows = table(ranked.coupling, ranked.choice, score, ratios, cache)
    steps = Thresholds(ranked.choice, rows)
    goal = Goal(budget, ranked.coupling, original=original, input_shape=input_shape)
    kept = goal.meet(steps)
    name = evaluate if isinstance(evaluate, str) else getattr(evaluate, "__name__", "evaluate")
    more = {
        "evaluate": name,
        "ratios": list(map(float, ratios)),
        "sensitivity": [
            {
                "layers": list(r.layers),
                "channels": r.channels,
                "kept": list(r.kept),
                "scores": list(r.scores),
            }
            for r in rows
        ],
    }
    return pruning.build(ranked, kept, goal, "prune by sensitivity", more)


def table(
    coupling: Coupling,
    choice: Choice,
    score: Callable[[np.ndarray], float],
    ratios: Sequence[float],
    cache: str | os.PathLike | None = None,
) -> list[Sensitivity]:
    """The score of the model with each of the free groups at each of its widths, alone.

    Args:
        coupling: the labelled model.
        choice: which channels of a group go first.
        score: of what is kept, (classes,) bool.
        ratios: the widths as shares.
        cache: a JSON file; what it holds of the same model is not scored again.
    """
    whole = np.ones(coupling.classes.count, bool)
    keep = _Kept(cache, _identity(coupling, choice, score(whole)))
    rows = []
    for group in choice.free:
        sizes = widths(group, choice, ratios)
        name = f"{' '.join(group.writers)}: {group.size}"
        scores = [
            keep.once(
                f"{name} to {size}", lambda g=group, s=size: score(shrunk(whole, choice, g, s))
            )
            for size in sizes
        ]
        rows.append(Sensitivity(group.writers, group.size, tuple(sizes), tuple(scores)))
    return rows


def widths(group: Group, choice: Choice, ratios: Sequence[float]) -> list[int]:
    """The widths of a group that are tried, falling; none that does not save anything."""
    stays = group.size - int(np.isin(group.classes, choice.order).sum())
    found = {
        max(
            stays,
            allowed_size(
                math.ceil(ratio * group.size), group.size, choice.multiple_of, group.multiple
            ),
        )
        for ratio in ratios
    }
    return sorted((size for size in found if 0 < size < group.size), reverse=True)


def shrunk(kept: np.ndarray, choice: Choice, group: Group, size: int) -> np.ndarray:
    """What is kept if only the `size` most important channels of a group are."""
    first = np.argsort(choice.place[group.classes])  # the first to go first
    kept = kept.copy()
    kept[group.classes[first[: group.size - size]]] = False
    return kept


class Thresholds:
    """Plans in a row: at each step the threshold is one score lower.

    Args:
        choice: which channels of a group go first.
        rows: the table, a row for each of `choice.free`.
    """

    def __init__(self, choice: Choice, rows: Sequence[Sensitivity]):
        self._choice, self._rows, self.free = choice, rows, choice.free
        self.scores = sorted({score for row in rows for score in row.scores}, reverse=True)
        self.sure, self.last = 0, len(self.scores)

    def keep(self, step: int) -> np.ndarray:
        """What is kept with the threshold of a step; everything at step 0."""
        kept = np.ones(len(self._choice.place), bool)
        if step:
            for group, row in zip(self._choice.free, self._rows, strict=True):
                kept = shrunk(kept, self._choice, group, row.least(self.scores[step - 1]))
        return kept

    def back(self, kept: np.ndarray, group: Group) -> tuple[float, np.ndarray] | None:
        """What is kept at the next width of a group, the most sensitive one first."""
        row = self._rows[self.free.index(group)]
        sizes, size = (row.channels, *row.kept), int(kept[group.classes].sum())
        at, kept = sizes.index(size), kept.copy()
        if at == 0 or (at > 1 and row.scores[at - 2] <= row.scores[at - 1]):  # nothing to gain
            return None
        kept[group.classes] = True
        return -row.scores[at - 1], shrunk(kept, self._choice, group, sizes[at - 1])


def _scorer(coupling: Coupling, data, evaluate) -> Callable[[np.ndarray], float]:
    if isinstance(evaluate, str):
        return Masked(coupling, data, evaluate)

    def score(kept: np.ndarray) -> float:
        model = coupling.graph.model
        small = model if kept.all() else apply(coupling, coupling.keep(kept))[0]
        found = float(evaluate(small))
        if not math.isfinite(found):
            raise BadInput(f"prune: evaluate gives {found}; it must give a finite score")
        return found

    return score


def _identity(coupling: Coupling, choice: Choice, own: float) -> str:
    """Of the weights, of the order of the channels, and of the model's score on the data."""
    digest = hashlib.sha256(repr((own, choice.place.tolist())).encode())
    for weight in coupling.graph.model.weights:
        digest.update(keras.ops.convert_to_numpy(weight).tobytes())
    return digest.hexdigest()


class _Kept:
    """Scores by name, in a file if there is a path; those of another model are forgotten."""

    def __init__(self, path, identity: str):
        self.path, self.identity, self.scores = path, identity, {}
        if path is not None and pathlib.Path(path).exists():
            try:
                content = json.loads(pathlib.Path(path).read_text())
                if content["identity"] == identity:
                    self.scores = {name: float(score) for name, score in content["scores"].items()}
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise BadInput(
                    f'prune: "{path}" holds no table of sensitivities; remove it or name another'
                ) from error

    def once(self, name: str, function: Callable[[], float]) -> float:
        if name not in self.scores:
            self.scores[name] = function()
            if self.path is not None:
                files.write_json(self.path, {"identity": self.identity, "scores": self.scores})
        return self.scores[name]


def _check(budget, evaluate, ratios, data) -> None:
    if not isinstance(budget, Budget):
        raise BadInput(f"prune: budget={budget!r}; give tfeffi.Budget(macs=0.5) or the like")
    if not callable(evaluate) and evaluate not in SCORES:
        raise BadInput(f'prune: no score "{evaluate}"; {near(str(evaluate), SCORES)}')
    if isinstance(evaluate, str) and data is None:
        raise BadInput(f'prune: "{evaluate}" is measured on data; give data=...')
    if not len(ratios) or not all(
        isinstance(r, (int, float)) and not isinstance(r, bool) and 0 < r < 1 for r in ratios
    ):
        raise BadInput(f"prune: ratios={ratios!r}; give shares of the channels between 0 and 1")
