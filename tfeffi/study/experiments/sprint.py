"""A sprint to an accuracy: seeds of one recipe, the same with parts left out, and stock Keras.

`config["ablations"]` says what is changed, `{name: {"train": {...}, "model": {...}, "methods": [...]}}`;
a list of methods replaces the whole list. `config["recipe"]` is what the row of the recipe itself is
called, by default as the config. `config["stock"]` describes the common way, of which some epochs are
timed and the whole is extrapolated; `measured_epochs` and `epochs` of that row say how far.
"""

import inspect
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tfeffi import analysis, models
from tfeffi.errors import BadInput, check_keys
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.train import experiment
from tfeffi.train.evaluation import score

SECTIONS = ("data", "model", "train", "methods")
COUNTED = ("train_macs", "macs", "params", "epochs")
OF_PROCESS = "peak_memory_mb"  # a process trains all seeds: it is no seed's own


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """A row for the recipe, one for each ablation, one for stock Keras if `config["stock"]`.

    Raises:
        BadInput: a section that is missing, or a key that an ablation cannot change.
    """
    experiment.check_sections(config)
    config = {"seed": 0, "replicates": 1, "ablation_replicates": 1, "methods": ()} | dict(config)
    for key, least in (("seed", 0), ("replicates", 1), ("ablation_replicates", 1)):
        experiment.check_whole(key, config[key], least)
    recipes = {config.get("recipe", config["name"]): ({}, config["replicates"])}
    for name, changes in config.get("ablations", {}).items():
        check_keys(f'config.ablations: "{name}"', changes, SECTIONS)
        recipes[name] = (changes, config["ablation_replicates"])
        _check(f'config.ablations: "{name}"', changed(config, changes))
    _check(config["name"], changed(config, {}))
    if config.get("stock"):
        _check_stock(config["stock"])
    stock = None
    for name, (changes, replicates) in recipes.items():
        recipe, trained = changed(config, changes), []
        for seed in range(config["seed"], config["seed"] + replicates):
            one = cells.once(f"{name} seed {seed}", _Train(cells, name), recipe=recipe, seed=seed)
            trained.append(one)
            if config.get("stock") and not stock:  # close to what it is held against
                stock = cells.once("stock Keras", _stock, **config["stock"])
        yield {"name": name, **_row(trained, stock)}
    if stock:
        yield {"name": "stock Keras", **stock}


def _row(trained: list[dict[str, float]], stock: Mapping[str, Any] | None) -> dict[str, Any]:
    """Mean and spread over the seeds, what is counted once, and how stock Keras compares."""
    left_out = (*COUNTED, OF_PROCESS)
    measured = [{k: v for k, v in one.items() if k not in left_out} for one in trained]
    row = {**spread(measured), "accuracies": [one["accuracy"] for one in trained]}
    for key in COUNTED:
        row |= experiment.counted_once(key, [one[key] for one in trained])
    row["pflop"] = 2e-15 * row["train_macs"]
    if stock:
        seconds = row["train_seconds_mean"] + row["compile_seconds_mean"]
        row["times_faster_than_stock"] = stock["train_seconds"] / seconds
    return row


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The data, model, train and methods of a config with some of them changed."""
    recipe = {key: dict(config[key]) for key in ("data", "model", "train")}
    for key in ("data", "model", "train"):
        recipe[key] |= dict(changes.get(key, {}))
    chosen = changes.get("methods", config["methods"])
    return recipe | {"methods": [dict(method) for method in chosen]}


def _check(name: str, recipe: Mapping[str, Any]) -> None:
    """Raises BadInput for a recipe that cannot be trained, before any other is."""
    try:
        experiment.check_sections({"name": name, **recipe})
        experiment.rehearse(recipe, experiment.load_splits(recipe["data"]).train)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error


def _check_stock(section: Mapping[str, Any]) -> None:
    needed = tuple(inspect.signature(_stock).parameters)
    check_keys("config.stock", section, needed)
    if missing := [key for key in needed if key not in section]:
        raise BadInput(f"config.stock: {missing[0]} is missing; it has {', '.join(needed)}")
    for key in ("batch_size", "epochs", "measured_epochs"):
        experiment.check_whole(f"stock.{key}", section[key], 1)


class _Train:
    """Trains one seed; an object, so that a cell knows its folder without depending on it."""

    def __init__(self, cells: Cells, name: str):
        self.cells, self.name = cells, name

    def __call__(self, recipe: Mapping[str, Any], seed: int) -> dict[str, float]:
        splits = experiment.load_splits(recipe["data"])
        folder = self.cells.workdir / "trained" / f"{self.name}_{seed}"
        made = experiment.train_replicate(recipe, splits, folder, seed, self.cells.verbose)
        views = recipe["train"].get("test_views", "one")
        scores = score(made.model, splits.test, views=views)
        counted = analysis.cost(made.model)
        return {
            "accuracy": scores["accuracy"],
            "accuracy_one_view": scores.get("accuracy_one_view", scores["accuracy"]),
            "train_seconds": made.train_seconds,
            "compile_seconds": made.compile_seconds,
            "train_macs": made.train_macs,
            "macs": counted.macs,
            "params": counted.params,
            "epochs": len(made.history),
            "peak_memory_mb": made.peak_memory_mb,
        }


def _stock(
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    batch_size: int,
    epochs: int,
    measured_epochs: int,
) -> dict[str, Any]:
    """`model.fit` in float32 as a user writes it: some epochs timed, the rest extrapolated.

    Crop, flip and normalization are left out of the time, which favours stock Keras.
    """
    import keras

    images = experiment.load_splits(data).train
    network = models.build(model["name"], **{k: v for k, v in model.items() if k != "name"})
    network.compile(
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    used = (
        len(images) // batch_size * batch_size
    )  # a smaller last batch would be compiled on its own
    pixels, labels = images.images[:used].astype("float32") / 255, images.labels[:used]
    network.fit(pixels[: 2 * batch_size], labels[: 2 * batch_size], batch_size, verbose=0)
    clock = _Clock()
    network.fit(
        pixels, labels, batch_size, measured_epochs, verbose=0, callbacks=[clock.callback()]
    )
    seconds = statistics.median(clock.seconds)
    counted = analysis.cost(network)
    train_macs = 3 * counted.macs * used * epochs
    return {
        "network": model["name"], "batch_size": batch_size, "epochs": epochs,
        "measured_epochs": measured_epochs, "n": measured_epochs,
        "step_ms": 1e3 * seconds * batch_size / used, "train_seconds": seconds * epochs,
        "train_macs": train_macs, "pflop": 2e-15 * train_macs,
        "macs": counted.macs, "params": counted.params,
    }  # fmt: skip


class _Clock:
    """The seconds of each epoch of a `fit`."""

    def __init__(self):
        self.seconds: list[float] = []

    def callback(self):
        import keras

        def begin(epoch, logs=None):
            self._began = time.perf_counter()

        def end(epoch, logs=None):
            self.seconds.append(time.perf_counter() - self._began)

        return keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)
