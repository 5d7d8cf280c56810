"""y = x₁ + x₂ by 1000 ReLU units: how many die, what cycles of pruning leave, and the optimum.

The problem of Çallı 2017, section 2.2.2, whose best network is known: one unit. Counting activations
finds the dead; `prune_to_tolerance` goes on from what is left.
"""

import functools
import pathlib
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfeffi import files, models
from tfeffi.compress.prune.cycles import prune_cycle, regularized
from tfeffi.compress.prune.minimal import prune_to_tolerance
from tfeffi.errors import BadInput
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.study.results import Result
from tfeffi.surgery import reindex

HIDDEN = "hidden"
TRUNCATED = 0.87962566  # what cutting at two deviations leaves of a normal deviation
BAND = (900, 990)  # dead units of 1000 after the first cycle; the source says "approximately 950"


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """For each range of inputs: the first training, every variant, and the way to the optimum.

    Args:
        config: of configs/activation_toy.py.
        cells: where trained networks are kept.
    """
    for name in config["ranges"]:
        yield {"name": f"{name} first cycle", **_first_row(config, cells, name)}
        yield _variant_row(config, cells, name, "vanilla")
        for merge in (True, False):
            found = [_minimal(config, cells, name, merge, seed) for seed in config["seeds"]]
            how = "merged, removed, refitted" if merge else "removed, refitted"
            yield {"name": f"{name} vanilla, then {how}", **spread(found), **_listed(found)}
    for name in config["ranges"]:
        for variant in config["variants"]:
            if variant != "vanilla":
                yield _variant_row(config, cells, name, variant)


def _variant_row(config, cells, name, variant) -> dict[str, Any]:
    found = [_variant(config, cells, name, variant, seed) for seed in config["seeds"]]
    return {"name": f"{name} {variant}", **spread(found), **_listed(found)}


def _first_row(config, cells, name) -> dict[str, Any]:
    found = [_first(config, cells, name, 0, seed) for seed in config["seeds"]]
    dead = [cell["dead"] for cell in found]
    return {
        **spread(found),
        **_listed(found),
        "dead_median": statistics.median(dead),
        "seeds_in_band": sum(BAND[0] <= one <= BAND[1] for one in dead),
        "units": config["units"],
        "mse_of_a_constant": config["ranges"][name]["variance"],
    }


def _listed(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What each seed gave, beside the means."""
    return {f"{key}_each": [cell[key] for cell in found] for key in found[0]}


# ---------------------------------------------------------------- the problem


def inputs(low: float, high: float, count: int, seed: int) -> np.ndarray:
    """(count, 2) float32, uniform in [low, high)²."""
    return np.random.default_rng(seed).uniform(low, high, (count, 2)).astype(np.float32)


def network(units: int, seed: int) -> keras.Model:
    """2 → units ReLU → 1, weights truncated normal of variance 1, biases 0.

    With Keras's own initial weights (Glorot) no unit dies: the first steps do not overshoot.
    """
    unit = [
        keras.initializers.TruncatedNormal(stddev=1 / TRUNCATED, seed=2 * seed + i) for i in (0, 1)
    ]
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(units, activation="relu", kernel_initializer=unit[0], name=HIDDEN),
            keras.layers.Dense(1, kernel_initializer=unit[1], name="sum"),
        ]
    )


def train(model: keras.Model, x: np.ndarray, settings: Mapping[str, Any], epochs: int) -> None:
    """SGD with momentum on the mean squared error of y = x₁ + x₂, and `model.losses`; in place.

    The batches are those of the data's order, each epoch the same: the data are random already.
    """
    size = settings["batch_size"]
    batches = tf.constant(x[: len(x) // size * size].reshape(-1, size, 2))
    variables = [v.value for v in model.trainable_variables]
    slots = [tf.Variable(tf.zeros_like(v)) for v in variables]

    def step(i):
        with tf.GradientTape() as tape:
            wanted = tf.reduce_sum(batches[i], -1, keepdims=True)
            loss = tf.reduce_mean(tf.square(model(batches[i]) - wanted)) + sum(model.losses, 0.0)
        gradients = tape.gradient(loss, variables)
        for variable, slot, gradient in zip(variables, slots, gradients, strict=True):
            slot.assign(settings["momentum"] * slot - settings["learning_rate"] * gradient)
            variable.assign_add(slot)
        return [i + 1]

    @tf.function(autograph=False)
    def epoch():
        tf.while_loop(lambda i: i < len(batches), step, [0])

    for _ in range(epochs):
        epoch()


def alive(model: keras.Model, x: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """The units that are active at least once, or at most `margin` from it."""
    kernel, bias = model.get_layer(HIDDEN).get_weights()
    most = np.full(len(bias), -np.inf, np.float32)
    for part in np.array_split(x, max(1, len(x) // 10_000)):
        most = np.maximum(most, (part @ kernel + bias).max(axis=0))
    return np.flatnonzero(most > -margin)


def mse(model: keras.Model, x: np.ndarray) -> float:
    """The mean squared error of the float32 model, summed up in float64."""
    answer = np.asarray(model(x), np.float64)
    return float(np.mean((answer - x.astype(np.float64).sum(axis=1, keepdims=True)) ** 2))


# ---------------------------------------------------------------- cells


def _data(config, name) -> tuple[np.ndarray, np.ndarray]:
    """Training inputs and held-out ones; the same for all seeds, which choose the weights."""
    span = config["ranges"][name]
    return _drawn(span["low"], span["high"], config["samples"], config["test_samples"])


@functools.lru_cache(maxsize=2)
def _drawn(low, high, samples, test_samples):
    return inputs(low, high, samples, 0), inputs(low, high, test_samples, 1)


def _path(cells: Cells, *words) -> pathlib.Path:
    return cells.workdir / "networks" / ("_".join(map(str, words)) + ".keras")


def _save(model: keras.Model, path: pathlib.Path) -> None:
    with files.replacing(path) as temporary:
        model.save(temporary)


def _common(config, name) -> dict[str, Any]:
    keys = ("units", "samples", "test_samples", "train")
    return {"variance": 1, "range": config["ranges"][name], **{key: config[key] for key in keys}}


def _first(config, cells, name, l1, seed) -> dict[str, Any]:
    """The first cycle's training, which all variants of the same penalty share."""

    def made(**_):
        x, test = _data(config, name)
        model, settings = network(config["units"], seed), config["train"]
        model = regularized(model, l1) if l1 else model
        train(model, x, settings, 1)
        # No gradient but the penalty's reaches a unit that is active on no example. What the first
        # epoch leaves so far from life that the penalty cannot move it there is left out of the
        # others: the same arithmetic without its zeros.
        rest = settings["epochs"] - 1
        reach = l1 * settings["learning_rate"] * rest * len(x) / settings["batch_size"]
        living = alive(model, x, margin=2 * reach * (1 + 2 * np.abs(x).max()))
        small = reindex(model, {HIDDEN: living if len(living) else [0]})[0]
        train(small, x, settings, rest)
        _save(small, _path(cells, name, "first", l1, seed))
        return {"dead": config["units"] - len(alive(small, x)), "test_mse": mse(small, test)}

    return cells.once(
        f"{name}, first cycle, l1={l1}, seed {seed}", made, seed=seed, l1=l1,
        **_common(config, name),
    )  # fmt: skip


def _variant(config, cells, name, variant, seed) -> dict[str, Any]:
    """Cycles of one variant, from the first training on."""
    spec = config["variants"][variant]
    first = _first(config, cells, name, spec.get("l1", 0), seed)

    def made(**_):
        x, test = _data(config, name)
        start = models.saved.load(_path(cells, name, "first", spec.get("l1", 0), seed))

        def trainer(model, cycle):
            if cycle == 1:
                return start
            train(model, x, config["train"], config["cycle_epochs"])
            return model

        bare = regularized(start, 0)
        batches = tf.data.Dataset.from_tensor_slices(x.reshape(-1, 1000, 2))
        small, report = prune_cycle(bare, batches, trainer, variant=variant, seed=seed, **spec)
        _save(small, _path(cells, name, variant, seed))
        return {
            "dead": first["dead"],
            "units": small.get_layer(HIDDEN).units,
            "cycles": len(report.settings["cycles"]),
            "test_mse": mse(small, test),
        }

    return cells.once(
        f"{name}, {variant}, seed {seed}", made, seed=seed, spec=spec,
        cycle_epochs=config["cycle_epochs"], **_common(config, name),
    )  # fmt: skip


def _minimal(config, cells, name, merge, seed) -> dict[str, Any]:
    """From what the vanilla cycles left to as few units as the tolerance allows."""
    _variant(config, cells, name, "vanilla", seed)

    minimal = config["minimal"]

    def made(**_):
        x, test = _data(config, name)
        x = x[: 50 * minimal["samples"]]
        before = models.saved.load(_path(cells, name, "vanilla", seed))
        told = {
            "units_before": before.get_layer(HIDDEN).units,
            "test_mse_before": mse(before, test),
        }
        try:
            small, _ = prune_to_tolerance(
                before, HIDDEN, x, x.sum(axis=1, keepdims=True), tolerance=minimal["tolerance"],
                samples=minimal["samples"], merge=merge, seed=seed,
            )  # fmt: skip
        except BadInput:
            small = before
        kernel, bias = small.get_layer(HIDDEN).get_weights()
        reached = mse(small, test)
        return told | {
            "units": len(bias), "test_mse": reached,
            "reached": int(reached <= minimal["tolerance"]), "kernel": kernel[:, :2].tolist(),
            "bias": bias[:2].tolist(),
        }  # fmt: skip

    return cells.once(
        f"{name}, to tolerance, merge={merge}, seed {seed}", made, seed=seed, merge=merge,
        **config["minimal"], before=config["variants"]["vanilla"], common=_common(config, name),
    )  # fmt: skip


def draw(result: Result, path: str) -> None:
    """Two panels a range of inputs: the units that are left, and the loss; a dot a seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ranges = [row["name"].split()[0] for row in result.rows if row["name"].endswith("first cycle")]
    figure = Figure(figsize=(10, 3.1 * len(ranges)), dpi=160)
    FigureCanvasAgg(figure)
    for index, name in enumerate(ranges):
        rows = [row for row in result.rows if row["name"].split()[0] == name]
        left, right = (figure.add_subplot(len(ranges), 2, 2 * index + i) for i in (1, 2))
        for place, row in enumerate(rows):
            if "units_each" in row:
                units = row["units_each"]
            else:  # the first cycle: what is alive of all that there were
                units = [row["units"] - dead for dead in row["dead_each"]]
            losses = [max(one, 1e-16) for one in row["test_mse_each"]]
            for panel, values in ((left, units), (right, losses)):
                spots = np.full(len(values), place) + np.linspace(-0.15, 0.15, len(values))
                panel.plot(values, spots, "o", ms=4, alpha=0.7, color=_COLOURS[place > 0])
        labels = [row["name"].removeprefix(f"{name} ") for row in rows]
        for panel, title in ((left, "units alive"), (right, "mean squared error, held out")):
            panel.set_xscale("log")
            panel.set_yticks(range(len(rows)), labels if panel is left else [""] * len(rows))
            panel.invert_yaxis()
            panel.grid(axis="x", color="#e6eaee")
            panel.set_xlabel(title)
            panel.tick_params(labelsize=8)
        left.set_title(f"inputs {name}²: of 1000 units", fontsize=9, loc="left")
        right.axvline(1e-6, color="#8a6300", lw=1)
    figure.tight_layout()
    with files.replacing(path) as temporary:
        figure.savefig(temporary)


_COLOURS = ("#c4500c", "#0b62d6")
