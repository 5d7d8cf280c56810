"""Which batch size generalizes best, against the learning rate and against the size of the data.

Many trainings of one small network, each for the same number of steps; the best batch size of each
curve; and straight lines through the best ones on doubly logarithmic axes. Before them, a CNN with
what is done about large batches: scaled rates, momentum correction, ghost batches, growing batches.

Source: Smith and Le 2017, arXiv 1710.06451, sections 4 and 5.
"""

import functools
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

from tfeffi import data
from tfeffi.analysis.noise_scale import noise_scale
from tfeffi.compress import recalibrate
from tfeffi.errors import BadInput, check_keys
from tfeffi.study import pictures
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.study.results import Result
from tfeffi.train import evaluate
from tfeffi.train.experiment import Splits, load_splits, name_of, train_replicate

SWEEPS = {"learning_rate": "learning rate", "images": "training images"}
RESAMPLED = 2000  # bootstrap samples


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """A row for each variant of a training; for each point of each curve, each best size, each line.

    Args:
        config: of configs/batch_size.py.
        cells: where the accuracies of trained networks are kept.
    """
    for name, variant in config["variants"].items():
        check_keys(f'config.variants: "{name}"', variant, ("train", "methods"))
    for name in config["variants"]:
        yield _variant_row(config, cells, name)
    for sweep in SWEEPS:
        curves = [_curve(config, cells, sweep, one) for one in config["sweeps"][sweep]]
        for curve in curves:
            yield from curve.point_rows(config)
        found = [curve.best_row(config) for curve in curves]
        yield from found
        yield _line_row(config, sweep, curves, found)


# ---------------------------------------------------------------- methods, through fit


@functools.lru_cache(maxsize=1)
def _splits(section: str) -> Splits:
    return load_splits(json.loads(section))


def _variant_row(config, cells: Cells, name: str) -> dict[str, Any]:
    """A CNN trained with other batches, rates and methods, over the seeds."""
    section, variant = config["convolutional"], config["variants"][name]
    training = {
        "data": section["data"], "model": section["model"],
        "train": {**section["train"], **variant.get("train", {})},
        "methods": variant.get("methods", ()),
    }  # fmt: skip

    def made(*, seed, **_):
        splits = _splits(json.dumps(section["data"]))
        folder = cells.workdir / "trained" / name_of({"name": f"{name}_{seed}", **training})
        trained = train_replicate(training, splits, folder, seed, verbose=False)
        # After few steps the moving statistics say more about their start than about the model.
        model, _ = recalibrate(trained.model, splits.train)
        batch = training["train"]["batch_size"]
        sizes = [row.get("batch_size", batch) for row in trained.history]
        return {
            **evaluate(model, splits.test), "batch_sizes": sizes,
            "updates": sum(len(splits.train) // size for size in sizes),
            "train_loss": trained.history[-1]["loss"],
        }  # fmt: skip

    found = [
        cells.once(f"{name}, seed {seed}", made, seed=seed, **training) for seed in config["seeds"]
    ]
    return {
        "name": name, **spread(found), "batch_sizes": found[0]["batch_sizes"],
        "largest_batch": max(found[0]["batch_sizes"]),
    }  # fmt: skip


# ---------------------------------------------------------------- one training of the sweeps


class Trainer:
    """A network of one hidden layer that is trained again and again, all steps in one graph.

    Args:
        pixels: of an image.
        units: ReLU units of the hidden layer.
        classes: of images.
        momentum: of SGD.
    """

    def __init__(self, pixels: int, units: int, classes: int, momentum: float):
        self.momentum = momentum
        self.model = keras.Sequential(
            [
                keras.Input((pixels,)),
                keras.layers.Dense(units, activation="relu"),
                keras.layers.Dense(classes),
            ]
        )
        self._variables = [v.value for v in self.model.trainable_variables]
        self._slots = [tf.Variable(tf.zeros_like(v)) for v in self._variables]

    def train(self, x, y, order: np.ndarray, learning_rate: float, seed: int) -> keras.Model:
        """Trains from fresh weights; the model is the trainer's own, until it trains again.

        Args:
            x: (n, pixels) float32.
            y: (n,) integer labels.
            order: (steps, batch) integers, the examples of each step.
            learning_rate: of SGD.
            seed: of the weights.
        """
        kernels = [v for v in self.model.trainable_variables if v.name == "kernel"]
        for number, variable in enumerate(kernels):
            draw = keras.initializers.HeNormal(seed=2 * seed + number)
            variable.assign(draw(variable.shape))
        for variable in self.model.trainable_variables:
            if variable.name == "bias":
                variable.assign(tf.zeros(variable.shape))
        for slot in self._slots:
            slot.assign(tf.zeros_like(slot))
        self._steps(*map(tf.constant, (x, y, order)), tf.constant(learning_rate, tf.float32))
        return self.model

    @functools.cached_property
    def _steps(self):
        @tf.function(autograph=False)
        def steps(x, y, order, learning_rate):
            def step(i):
                with tf.GradientTape() as tape:
                    logits, wanted = self.model(tf.gather(x, order[i])), tf.gather(y, order[i])
                    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
                    loss = tf.reduce_mean(loss)
                gradients = tape.gradient(loss, self._variables)
                for each in zip(self._variables, self._slots, gradients, strict=True):
                    variable, slot, gradient = each
                    tf.raw_ops.ResourceApplyKerasMomentum(
                        var=variable.handle, accum=slot.handle, lr=learning_rate, grad=gradient,
                        momentum=self.momentum,
                    )  # fmt: skip
                return [i + 1]

            tf.while_loop(lambda i: i < order.shape[0], step, [0], parallel_iterations=1)

        return steps


@functools.lru_cache(maxsize=1)
def _trainer(pixels, units, classes, momentum) -> Trainer:
    return Trainer(pixels, units, classes, momentum)


@functools.lru_cache(maxsize=2)
def _flat(name: str, split: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Pixels in [0, 1], an image a row; labels; the number of classes."""
    images = data.load(name, split)
    flat = images.images.reshape(len(images), -1).astype(np.float32) / 255
    return flat, images.labels.astype(np.int32), images.num_classes


def batches(examples: int, batch_size: int, steps: int, seed: int) -> np.ndarray:
    """(steps, batch) numbers of examples: one shuffle an epoch, no example left out or twice."""
    rng = np.random.default_rng(seed)
    epochs = -(-steps * batch_size // examples)
    order = np.concatenate([rng.permutation(examples) for _ in range(epochs)])
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def accuracy(
    config: Mapping[str, Any], learning_rate: float, images: int, batch_size: int, seed: int
) -> float:
    """The test accuracy of one training; of a training that diverged, that of guessing."""
    if batch_size > images:
        raise BadInput(f"batch_size: a batch of {batch_size} is larger than the {images} images")
    x, y, classes = _flat(config["data"]["name"], config["data"]["train"])
    if images > len(x):
        raise BadInput(f"batch_size: {images} images are wanted, the data has {len(x)}")
    trainer = _trainer(x.shape[1], config["units"], classes, config["momentum"])
    order = batches(images, batch_size, config["steps"], seed)
    model = trainer.train(x[:images], y[:images], order, learning_rate, seed)
    test, labels, _ = _flat(config["data"]["name"], config["data"]["test"])
    return float(np.mean(np.argmax(model(test), axis=-1) == labels))


# ---------------------------------------------------------------- a curve and its best


class Curve:
    """Accuracies over batch sizes at one learning rate and one number of images.

    Args:
        learning_rate, images: of its trainings.
        sizes: of the batches, rising.
        accuracies: (seeds, sizes).
    """

    def __init__(self, learning_rate: float, images: int, sizes: Sequence[int], accuracies):
        self.learning_rate, self.images, self.sizes = learning_rate, images, list(sizes)
        self.accuracies = np.asarray(accuracies)

    @property
    def name(self) -> str:
        return f"learning rate {self.learning_rate:g}, {self.images} images"

    def point_rows(self, config) -> Iterator[dict[str, Any]]:
        """A row for each batch size."""
        for size, column in zip(self.sizes, self.accuracies.T, strict=True):
            yield {
                "name": f"{self.name}, batch {size}", **self._settings(config, size),
                "batch_size": size, **spread({"accuracy": float(a)} for a in column),
            }  # fmt: skip

    def best_row(self, config) -> dict[str, Any]:
        """The row of the best batch size; its interval is of the seeds."""
        means = self.accuracies.mean(axis=0)
        best, top = best_size(self.sizes, means), int(means.argmax())
        low, high = np.percentile(self.resampled_best(), [2.5, 97.5])
        return {
            "name": self.name, **self._settings(config, best), "best_batch_size": best,
            "best_batch_size_low": low, "best_batch_size_high": high,
            "is_inside": int(0 < top < len(means) - 1),
            **spread({"accuracy": float(a)} for a in self.accuracies[:, top]),
            "gain_over_the_largest": float(means[top] - means[-1]),
        }  # fmt: skip

    def resampled_best(self) -> list[float]:
        """The best batch size of each bootstrap sample of the seeds."""
        return [best_size(self.sizes, means) for means in resampled(self.accuracies)]

    def _settings(self, config, size) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate, "images": self.images,
            "noise_scale": noise_scale(self.learning_rate, self.images, size, config["momentum"]),
        }  # fmt: skip


def best_size(sizes: Sequence[int], means: Sequence[float]) -> float:
    """The batch size at the top of the parabola through the largest mean and its two neighbours.

    Args:
        sizes: rising; the parabola is one in log B.
        means: of the accuracy.

    Returns:
        Between the two neighbours; the size itself where it is the first or last.
    """
    top = int(np.argmax(means))
    if not 0 < top < len(sizes) - 1:
        return float(sizes[top])
    x = np.log(np.asarray(sizes[top - 1 : top + 2], float))
    a, b, _ = np.polyfit(x, np.asarray(means[top - 1 : top + 2], float), 2)
    return float(np.exp(-b / (2 * a))) if a < 0 else float(sizes[top])


def resampled(accuracies: np.ndarray, seed: int = 0) -> np.ndarray:
    """(RESAMPLED, sizes) mean accuracies of as many seeds as there are, drawn with replacement."""
    seeds = len(accuracies)
    drawn = np.random.default_rng(seed).integers(0, seeds, (RESAMPLED, seeds))
    return accuracies[drawn].mean(axis=1)


def _curve(config, cells: Cells, sweep: str, spec: Mapping[str, Any]) -> Curve:
    rate, images = spec["learning_rate"], spec["images"]
    common = {key: config[key] for key in ("data", "units", "momentum", "steps")}

    def made(*, batch_size, seed, **_):
        return {"accuracy": accuracy(config, rate, images, batch_size, seed)}

    def of(seed, size):
        return cells.once(
            f"rate {rate:g}, {images} images, batch {size}, seed {seed}", made, batch_size=size,
            seed=seed, learning_rate=rate, images=images, **common,
        )["accuracy"]  # fmt: skip

    sizes = sorted(spec["batch_sizes"])
    return Curve(rate, images, sizes, [[of(seed, b) for b in sizes] for seed in config["seeds"]])


# ---------------------------------------------------------------- the line


def _line_row(config, sweep: str, curves: list[Curve], found: list[dict]) -> dict[str, Any]:
    """log B_opt = slope · log x + c, with the interval of the regression and that of the seeds."""
    inside = [number for number, row in enumerate(found) if row["is_inside"]]
    if len(inside) < 3:
        raise BadInput(
            f"batch_size: only {len(inside)} of {len(found)} curves over {sweep} have their best "
            "batch size inside; widen their batch_sizes"
        )
    x = [math.log(found[i][sweep]) for i in inside]
    line = scipy.stats.linregress(x, [math.log(found[i]["best_batch_size"]) for i in inside])
    half = line.stderr * scipy.stats.t.ppf(0.975, len(x) - 2)
    tops = [curves[i].resampled_best() for i in inside]
    slopes = [scipy.stats.linregress(x, np.log(column)).slope for column in np.array(tops).T]
    low, high = np.percentile(slopes, [2.5, 97.5])
    return {
        "name": f"best batch size against {SWEEPS[sweep]}", "points": len(x),
        "n": len(config["seeds"]), "slope": line.slope, "slope_low": line.slope - half,
        "slope_high": line.slope + half, "seeds_slope_low": low, "seeds_slope_high": high,
        "coefficient": math.exp(line.intercept), "r_squared": line.rvalue**2,
        "curves": [row["name"] for row in found],
    }  # fmt: skip


# ---------------------------------------------------------------- the picture


def draw(result: Result, path: str) -> None:
    """Above the curves, a colour a learning rate or a number of images; below, their best sizes."""
    with pictures.figure(path, (9, 6.4)) as drawn:
        panels = drawn.subplots(2, 2)
        for (key, title), (above, below) in zip(SWEEPS.items(), panels.T, strict=True):
            line = result.row(f"best batch size against {title}")
            best = [result.row(name) for name in line["curves"]]
            for row, colour in zip(best, itertools.cycle(pictures.COLOURS), strict=False):
                points = [r for r in result.rows if r["name"].startswith(f"{row['name']}, batch")]
                above.errorbar(
                    [r["batch_size"] for r in points], [100 * r["accuracy_mean"] for r in points],
                    [100 * r.get("accuracy_std", 0) for r in points], fmt="o-", capsize=2,
                    linewidth=1, color=colour, label=f"{row[key]:g}",
                )  # fmt: skip
                best_one = row["best_batch_size"]
                ends = row["best_batch_size_low"], row["best_batch_size_high"]
                errors = [[max(best_one - ends[0], 0)], [max(ends[1] - best_one, 0)]]
                fill = (
                    colour if row["is_inside"] else "white"
                )  # not bracketed: the line leaves it out
                below.errorbar(
                    row[key], best_one, errors, fmt="o", color=colour, capsize=3,
                    markerfacecolor=fill,
                )  # fmt: skip
            x = np.array([row[key] for row in best])
            below.plot(x, line["coefficient"] * x ** line["slope"], color=pictures.SOFT)
            below.set_title(
                f"slope {line['slope']:.2f}, 95 %: {line['slope_low']:.2f} to {line['slope_high']:.2f}",
                loc="left",
            )  # fmt: skip
            above.legend(title=title, loc="lower left")
            tops = [100 * row["accuracy_mean"] for row in best]
            above.set(xscale="log", ylim=(min(tops) - 8, max(tops) + 1), xlabel="batch size",
                      ylabel="test accuracy, %")  # fmt: skip
            below.set(xscale="log", yscale="log", xlabel=title, ylabel="best batch size")
