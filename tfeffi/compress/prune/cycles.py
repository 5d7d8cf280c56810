"""Train, count, remove, again: activation-based pruning in cycles, and its four variants.

    cycle = train some epochs, count how often each unit is active, remove those that hardly are

until a cycle removes nothing. What differs between the variants is what happens around it:

    vanilla       nothing
    distorted     noise is added to the kernels after each cycle, so that units do not share a feature
    regularized   λ₁Σ|W| over kernels and biases is added to the loss
    outliers      units far less active than their layer goes on average are removed too
    combined      all three

"Active" means not zero where the unit is read. A ReLU unit can be dead, and removing a dead one
changes no output on the data by anything: 0.0. A sigmoid, tanh or linear unit is never exactly zero,
nor is one behind a normalization that shifts it: its count is full, and it stays. Rank such units
by what they do instead: `prune(importance="l2")`, `prune_to_tolerance`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfeffi.analysis.cost import cost
from tfeffi.compress.prune.activity import measure
from tfeffi.compress.prune.importance import Scores
from tfeffi.compress.prune.pruning import prune
from tfeffi.compress.report import Change, Report
from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling, Plan, apply
from tfeffi.surgery.rules.base import Edit
from tfeffi.train import Settings, fit

VARIANTS = {
    "vanilla": (),
    "distorted": ("distort",),
    "regularized": ("regularize",),
    "outliers": ("outliers",),
    "combined": ("distort", "regularize", "outliers"),
}
DISTORTIONS = ("additive", "multiplicative")
Trainer = Callable[[keras.Model, int], "keras.Model | None"]


def prune_cycle(
    model: keras.Model,
    data: Any,
    train: Trainer | Settings,
    *,
    variant: str = "vanilla",
    threshold: float = 0,
    max_cycles: int = 10,
    min_cycles: int = 1,
    min_units: int = 1,
    l1: float = 1e-4,
    alpha: float = 1.0,
    distortion: str = "additive",
    deviations: float = 2.0,
    ignore: Sequence[str] = (),
    seed: int = 0,
) -> tuple[keras.Model, Report]:
    """Trains and removes what is never active, until nothing is.

    The optimizer starts afresh in each cycle, with whatever schedule `train` has: its slots are not
    carried over. (`reindex` and `Slices.apply_to` are for who wants that.)

    Args:
        model: a functional or built Sequential model; it is left as it is.
        data: the training data, on which activations are counted: a tf.data.Dataset of batches, an
            array, or `tfeffi.data.Images`.
        train: what one cycle trains: `train(model, cycle)`, cycle = 1, 2, …, trains in place or
            returns the trained model; it must add `model.losses` to its loss for the regularized
            variants, as Keras does. Or the `Settings` of `tfeffi.train.fit`, if data is Images.
        variant: "vanilla", "distorted", "regularized", "outliers" or "combined".
        threshold: units active at most so often go; 0 for those that never are.
        max_cycles: at most so many removals; if the last still removed something, one more training
            ends it.
        min_cycles: at least so many are run, even if one before removes nothing; from 2 on the
            distortion always has its say.
        min_units: each layer keeps at least so many, the most active ones.
        l1: λ₁, of "regularized" and "combined".
        alpha, distortion: of "distorted" and "combined"; see `distorted`.
        deviations: of "outliers" and "combined"; see `doomed`.
        ignore: names of layers whose units all stay.
        seed: of the distortion.

    Returns:
        The pruned model, trained, and the report; `report.settings["cycles"]` says for each cycle
        how many units each layer lost and which widths are left.

    Raises:
        BadInput: an unknown variant, a number out of range, Settings without Images.

    Example:
        small, report = prune_cycle(model, images, Settings(epochs=3, loss="reconstruction"))
        small, report = prune_cycle(model, x, lambda m, cycle: m.fit(x, y) and None)

    Source: Çallı 2017, sections 2.2.2 and 2.2.3, after Network Trimming (Hu et al. 2016,
    arXiv 1607.03250, section 3.2: prune, retrain, again).
    """
    parts = _check(variant, distortion)
    _check_numbers(max_cycles, min_cycles, min_units, l1, alpha, deviations)
    train = _trainer(train, data)
    small = regularized(model, l1) if "regularize" in parts else _copy(model)

    def importance(coupling, data):
        return _scores(
            coupling, data, threshold, deviations if "outliers" in parts else None, min_units
        )

    records = []
    for cycle in range(1, max_cycles + 1):
        small = train(small, cycle) or small
        small, step = prune(
            small, importance=importance, data=data, threshold=0.5, multiple_of=1, ignore=ignore
        )
        records.append(_record(cycle, step, small))
        if not step.changed and cycle >= min_cycles:
            break
        if "distort" in parts:
            small = distorted(small, alpha=alpha, kind=distortion, seed=seed + cycle)
    else:  # the last cycle still removed something, or distorted
        small = train(small, max_cycles + 1) or small
    if "regularize" in parts:
        small = regularized(small, 0)
    settings = {"variant": variant, "threshold": threshold, "min_units": min_units, "seed": seed}
    settings |= {"l1": l1} if "regularize" in parts else {}
    settings |= {"alpha": alpha, "distortion": distortion} if "distort" in parts else {}
    settings |= {"deviations": deviations} if "outliers" in parts else {}
    settings["cycles"] = records
    changed = _changes(model, small)
    return small, Report("prune_cycle", cost(model), cost(small), changed, step.skipped, settings)


def doomed(counts: np.ndarray, threshold: float = 0, deviations: float | None = None) -> np.ndarray:
    """Which units of one layer go.

    Args:
        counts: (units,) how often each was active; infinite for one that nothing reads, which stays.
        threshold: units active at most so often go.
        deviations: if given, so do those of the others whose count is less than the mean of the
            others minus so many (population) standard deviations; where all are equally active the
            deviation is 0 and nobody is an outlier.

    Returns:
        (units,) bool.

    Example:
        doomed(np.array([0, 50, 50, 50, 50, 50, 1]), deviations=2)     # the first and the last
    """
    counts = np.asarray(counts, np.float64)
    gone = counts <= threshold
    others = counts[~gone & np.isfinite(counts)]
    if deviations is not None and len(others) and others.std() > 0:
        gone |= counts < others.mean() - deviations * others.std()
    return gone


def distorted(
    model: keras.Model, *, alpha: float = 1.0, kind: str = "additive", seed: int = 0
) -> keras.Model:
    """A copy of a model with noise on its kernels, the more the less they vary.

    "additive": W + α·max(0, 1 − var W)·U(−1, 1); "multiplicative": W·(1 + α·max(0, 1 − var W)·U(−1, 1)).
    The variance is that of each kernel by itself; biases and normalization stay.

    Example:
        noisy = distorted(model, alpha=0.1, seed=1)

    Source: Çallı 2017, section 2.2.2 ("rand(weights.shape) * (1 - var(weights))"), which leaves open
    what becomes of variances above 1 (here: no noise), and whether it is added.
    """
    if kind not in DISTORTIONS:
        raise BadInput(f'prune_cycle: distortion="{kind}"; {near(str(kind), DISTORTIONS)}')
    made, random = _copy(model), np.random.default_rng(seed)
    for variable in made.trainable_variables:
        if len(variable.shape) < 2:
            continue
        value = keras.ops.convert_to_numpy(variable).astype(np.float64)
        noise = random.uniform(-1, 1, value.shape) * max(0.0, 1 - value.var()) * alpha
        variable.assign(value + noise if kind == "additive" else value * (1 + noise))
    return made


def regularized(model: keras.Model, l1: float) -> keras.Model:
    """A copy of a model whose layers add λ₁Σ|W| over kernels and biases to `model.losses`.

    Args:
        model: its layers have no regularizers but those of this function.
        l1: λ₁; 0 takes the penalty away.

    Raises:
        BadInput: a layer has a regularizer of its own, which would be lost.
    """
    coupling, edits = Coupling.of(model), {}
    penalty = keras.saving.serialize_keras_object(keras.regularizers.L1(l1)) if l1 else None
    for path, layer in coupling.graph.layers.items():
        keys = [f"{w}_regularizer" for w in ("kernel", "bias", "depthwise", "pointwise")]
        keys = [key for key in keys if key in layer.config]
        for key in keys:
            if layer.config[key] and layer.config[key].get("class_name") != "L1":
                raise BadInput(
                    f'prune_cycle: layer "{path}" has a {key} of its own; take it away, or use a '
                    "variant without regularization"
                )
        if keys:
            edits[path] = Edit(config=dict.fromkeys(keys, penalty))
    return apply(coupling, Plan(edits, {}))[0]


def _copy(model: keras.Model) -> keras.Model:
    return apply(Coupling.of(model), Plan({}, {}))[0]


def _scores(coupling: Coupling, data, threshold, deviations, min_units: int) -> Scores:
    """0 for what goes and 1 for what stays, layer by layer."""
    found = measure(coupling, data)
    counts = np.where(found.total > 0, found.active, np.inf)
    stays = np.ones(len(counts))
    for group in coupling.groups:
        gone = doomed(counts[group.classes], threshold, deviations)
        order = np.lexsort((found.magnitude[group.classes], counts[group.classes]))
        gone[order[-min_units:]] = False
        stays[group.classes[gone]] = 0
    return Scores(stays, found.share, found.mean)


def _trainer(train: Trainer | Settings, data) -> Trainer:
    if not isinstance(train, Settings):
        if not callable(train):
            raise BadInput(
                f"prune_cycle: train={train!r}; give a function or tfeffi.train.Settings"
            )
        return train
    if not hasattr(data, "images"):
        raise BadInput(
            "prune_cycle: Settings train on tfeffi.data.Images; for other data give a function "
            "train(model, cycle)"
        )

    def fitted(model, cycle):
        seeded = dataclasses.replace(train, seed=train.seed + cycle - 1)
        return fit(model, data, settings=seeded, verbose=False).model

    return fitted


def _record(cycle: int, step: Report, model: keras.Model) -> dict[str, Any]:
    return {
        "cycle": cycle,
        "removed": {change.layer: change.before - change.after for change in step.changed},
        "widths": widths(model),
    }


def widths(model: keras.Model) -> dict[str, int]:
    """How many channels each layer makes that surgery may change."""
    coupling = Coupling.of(model)
    free = {path for group in coupling.groups if not group.pinned for path in group.writers}
    return {path: len(classes) for path, classes in coupling.writers.items() if path in free}


def _changes(before: keras.Model, after: keras.Model) -> tuple[Change, ...]:
    old, new = widths(before), widths(after)
    return tuple(Change(path, old[path], new[path]) for path in old if old[path] != new[path])


def _check(variant: str, distortion: str) -> tuple[str, ...]:
    if variant not in VARIANTS:
        raise BadInput(f'prune_cycle: variant="{variant}"; {near(str(variant), VARIANTS)}')
    if distortion not in DISTORTIONS:
        raise BadInput(
            f'prune_cycle: distortion="{distortion}"; {near(str(distortion), DISTORTIONS)}'
        )
    return VARIANTS[variant]


def _check_numbers(max_cycles, min_cycles, min_units, l1, alpha, deviations) -> None:
    whole = {"max_cycles": max_cycles, "min_cycles": min_cycles, "min_units": min_units}
    for name, value in whole.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadInput(f"prune_cycle: {name}={value!r}; give a whole number from 1 on")
    for name, value in (("l1", l1), ("alpha", alpha), ("deviations", deviations)):
        if not (np.isfinite(value) and value >= 0):
            raise BadInput(f"prune_cycle: {name}={value!r}; give a number from 0 on")
