"""Pruning in steps, each followed by fine-tuning: what goes later is judged by a tuned model."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from tfeffi.analysis.cost import Cost, cost
from tfeffi.compress import meters
from tfeffi.compress.budget import Budget
from tfeffi.compress.prune.pruning import prune
from tfeffi.compress.report import Change, Report
from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling

SCHEDULES = ("linear", "geometric")


def iteratively(
    model: keras.Model,
    budget: Budget,
    *,
    steps: int = 3,
    finetune: Callable[[keras.Model], Any] | None = None,
    schedule: str = "linear",
    data: Any = None,
    **arguments: Any,
) -> tuple[keras.Model, Report]:
    """Prunes to a budget in several steps and fine-tunes after each.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        budget: what the result may cost. The steps before the last have larger ones, all of them
            relative to the cost of this model.
        steps: how many.
        finetune: `(model) -> model`, called after each step; `tfeffi.train.fit` with its arguments
            bound will do, for what has a `model` is taken for that. It may not change the
            architecture. None: nothing is tuned.
        schedule: "linear" takes equally much of the original at each step, "geometric" the same
            share of what is left.
        data: for importances that are measured, at each step anew.
        arguments: further ones of `prune`.

    Returns:
        The pruned and tuned model, and a report from the first model to it; `settings["steps"]`
        has the costs after each.

    Raises:
        BadInput: what `prune` raises; an unknown schedule; a `finetune` that gives no model, or
            another one than it got.

    Example:
        tune = functools.partial(tfeffi.train.fit, train=images, settings=settings, verbose=False)
        small, report = iteratively(model, Budget(macs=0.3), finetune=tune, data=images)

    Source: Molchanov et al. 2017 (arXiv 1611.06440) and Hu et al. 2016 (arXiv 1607.03250) prune
    and fine-tune in turns.
    """
    _check(budget, steps, schedule, finetune, arguments)
    shape = arguments.get("input_shape")
    before, final = cost(model, shape), _share(budget, model, shape)
    current, rows, report = model, [], None
    for step in range(1, steps + 1):
        share = share_of(step, steps, final, schedule)
        wanted = budget if step == steps or final >= 1 else _fraction(budget, share)
        current, report = prune(current, wanted, data=data, original=model, **arguments)
        rows.append(_row(step, share, report))
        current = _tuned(current, finetune, report.after, shape)
    settings = {**report.settings, "schedule": schedule, "steps": rows}
    made = Report(
        "prune iteratively", before, report.after, _changes(model, current), report.skipped,
        settings, "\n".join(map(_line, rows)), report.measured,
    )  # fmt: skip
    return current, made


def share_of(step: int, steps: int, final: float, schedule: str) -> float:
    """The share of the original that may be left after a step; after the last one it is `final`.

    Example:
        [share_of(i, 2, 0.25, "geometric") for i in (1, 2)]     # [0.5, 0.25]
        [share_of(i, 3, 0.25, "linear") for i in (1, 2, 3)]     # [0.75, 0.5, 0.25]
    """
    final = min(1.0, final)
    if step == steps:
        return final
    if schedule == "geometric":
        return final ** (step / steps)
    return 1 - (1 - final) * step / steps


def _share(budget: Budget, model: keras.Model, shape) -> float:
    """The budget as a share of the model's own cost."""
    if budget.is_fraction:
        return float(budget.value)
    if budget.is_counted:
        return budget.limit(cost(model, shape)) / max(1, budget.of(cost(model, shape)))
    found = meters.meter(budget, model, shape)
    before = found.before if budget.kind == "bytes" else found.measure(model).before
    return budget.value / max(before, 1e-12)


def _fraction(budget: Budget, share: float) -> Budget:
    kind = "latency" if budget.is_latency else budget.kind
    return dataclasses.replace(budget, **{budget.kind: None, kind: share})


def _tuned(model: keras.Model, finetune, expected: Cost, shape) -> keras.Model:
    if finetune is None:
        return model
    made = finetune(model)
    made = made if isinstance(made, keras.Model) else getattr(made, "model", None)
    if not isinstance(made, keras.Model):
        raise BadInput("prune: finetune must give back a model, or what has one as .model")
    found = cost(made, shape)
    if (found.macs, found.params) != (expected.macs, expected.params):
        raise BadInput(
            f"prune: finetune got a model of {expected.macs:,} MACs and {expected.params:,} "
            f"parameters and gave back one of {found.macs:,} and {found.params:,}; it may only train"
        )
    return made


def _row(step: int, share: float, report: Report) -> dict[str, Any]:
    return {
        "step": step,
        "share": share,
        "macs": int(report.after.macs),
        "params": int(report.after.params),
        **report.measured,
    }


def _line(row: dict[str, Any]) -> str:
    more = ""
    if "file_bytes_after" in row:
        more = f", {row['file_bytes_after']:,} bytes"
    if "ratio" in row:
        more = f", {row['latency_ms_after']:.4g} ms, {row['ratio']:.3f} of the original's"
    return (
        f"step {row['step']}, to {row['share']:.3f}: {row['macs']:,} MACs, "
        f"{row['params']:,} parameters{more}"
    )


def _changes(model: keras.Model, small: keras.Model) -> tuple[Change, ...]:
    old, new = (
        {path: len(classes) for path, classes in Coupling.of(one).writers.items()}
        for one in (model, small)
    )
    return tuple(Change(p, old[p], new[p]) for p in old if p in new and new[p] != old[p])


def _check(budget, steps, schedule, finetune, arguments) -> None:
    if not isinstance(budget, Budget):
        raise BadInput(f"prune: budget={budget!r}; give tfeffi.Budget(macs=0.5) or the like")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise BadInput(f"prune: {steps!r} steps; give a whole number from 1 on")
    if schedule not in SCHEDULES:
        raise BadInput(f'prune: no schedule "{schedule}"; {near(str(schedule), SCHEDULES)}')
    if finetune is not None and not callable(finetune):
        raise BadInput(f"prune: finetune={finetune!r} is not a function of a model")
    for key in ("threshold", "original"):
        if key in arguments:
            raise BadInput(f"prune: pruning in steps takes no {key}; it has a budget for each step")
