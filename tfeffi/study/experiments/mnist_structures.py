"""Convolutions as pairs of cheaper ones, on the MNIST classifier: what they save, and from which P on.

The rows of one result are of two sorts. Variants of the whole network are trained: 2-D, pairs of
1-D convolutions of several widths P, separable, and the trained 2-D network factorized. Single
layers ("conv2 P=64") are only counted and timed, against the 2-D layer they stand for. Timing is a
stage of its own (`config.timing`), so that it can wait for a quiet machine; each stage's cells are
kept.
"""

import functools
import itertools
import os
import pathlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from tfeffi import data, export, files, models
from tfeffi.analysis.break_even import bound
from tfeffi.analysis.cost import cost
from tfeffi.compress import chains, factorize, replace_convolutions, sites
from tfeffi.study import latencies, pictures
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.study.results import Result
from tfeffi.surgery import replace
from tfeffi.surgery.graph import read
from tfeffi.train import Settings, evaluate, fit

BASELINE = "2d"
LAYERS = ("conv1", "conv2", "conv3")


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """The rows of the variants, then those of single layers.

    Args:
        config: of configs/mnist_structures.py.
        cells: where trained networks and timings are kept.
    """
    accuracies = {
        name: [trained(cells, config, name, seed) for seed in config["seeds"]]
        for name in config["variants"]
        if _is_trained(config, name)
    }
    rows = [_variant_row(cells, config, name, accuracies.get(name)) for name in config["variants"]]
    yield from latencies.timed(cells, rows, config["clock"] if config["timing"] else None)
    for layer in LAYERS:
        yield from _layer_rows(cells, config, layer)


# ---------------------------------------------------------------- whole networks


def pairs(model: keras.Model, ranks: Mapping[str, int], mid_activation: Any) -> keras.Model:
    """The model with fresh 1-D pairs of these widths, also where they cost more than the layer."""
    found, _ = sites.find(read(model), (), "mnist_structures", ("Conv2D",))
    by_name = {site.path: chains.spatial(site) for site in found}
    new = {n: by_name[n].new(p, None, mid_activation=mid_activation) for n, p in ranks.items()}
    return replace(model, new)


def build(variant: Mapping[str, Any], seed: int, base: keras.Model | None = None) -> keras.Model:
    """A variant before its training.

    Args:
        variant: {} is the 2-D network; {"ranks": P by layer}, {"separable": multiplier} are fresh;
            {"factorize": P by layer} starts from `base`.
        seed: of the fresh weights.
        base: the trained 2-D network.
    """
    keras.utils.set_random_seed(seed)
    model = models.build("mnist_classifier") if base is None else base
    if "ranks" in variant:
        return pairs(model, variant["ranks"], variant.get("mid_activation"))
    if "separable" in variant:
        return replace_convolutions(
            model, kind="separable", rank=variant["separable"], initialize="random"
        )[0]
    if "factorize" in variant:
        return factorize(model, method="spatial", ranks=variant["factorize"])[0]
    return model


def _is_trained(config, name: str) -> bool:
    return config["variants"][name].get("trained", True)


def trained(cells: Cells, config, name: str, seed: int) -> dict[str, Any]:
    """The accuracies of one variant and seed; its model is in the folder of `folder`."""
    variant, needs_base = config["variants"][name], "factorize" in config["variants"][name]
    if needs_base:
        trained(cells, config, BASELINE, seed)
    train = functools.partial(_train, folder(cells, name, seed), folder(cells, BASELINE, seed))
    return cells.once(
        f"train {name} seed {seed}", train, data=config["data"], variant=variant, seed=seed,
        settings=config["finetune" if needs_base else "train"],
        base_settings=config["train"] if needs_base else None,
    )  # fmt: skip


def _train(place, base, *, data, variant, seed, settings, base_settings) -> dict[str, Any]:
    train, test = images(data["name"], data["train"]), images(data["name"], data["test"])
    base = models.load(base / "model.keras") if base_settings else None
    model, found = build(variant, seed, base), {}
    if base is not None:
        found["untuned_accuracy"] = evaluate(model, test)["accuracy"]
    settings = Settings.from_mapping({**settings, "seed": seed})
    trained = fit(model, train, settings=settings, workdir=place, verbose=False)
    return {"accuracy": evaluate(trained.model, test)["accuracy"], **found}


@functools.cache
def images(name: str, split: str) -> data.Images:
    """A split in memory, loaded once a process."""
    return data.load(name, split)


def folder(cells: Cells, name: str, seed: int) -> pathlib.Path:
    """Where the model of a variant and seed is: its model.keras, and the .tflite of the first seed."""
    return cells.workdir / f"{name}_{seed}"


def _variant_row(cells: Cells, config, name: str, seeds: Sequence[dict] | None) -> dict[str, Any]:
    """What a variant is: accuracy over the seeds, counted cost, and the file of the first seed."""
    seed, variant = config["seeds"][0], config["variants"][name]
    path = folder(cells, name, seed) / "model.keras"
    if seeds is None:  # it is counted and timed only
        row = cells.once(
            f"{name} untrained", functools.partial(_save, path), variant=variant, seed=seed
        )
    else:
        accuracies = [seed["accuracy"] for seed in seeds]
        row = spread(seeds) | {"accuracy_median": statistics.median(accuracies)}
        row["accuracies"] = accuracies
        row["dataset"] = f"{config['data']['name']} {config['data']['test']}"
        row["epochs"] = config["finetune" if "factorize" in variant else "train"]["epochs"]
    ranks = variant.get("ranks") or variant.get("factorize") or {}
    row |= {f"p_{layer}": rank for layer, rank in ranks.items()}
    return {"name": name, **row, **_filed(path)}


def _save(path: pathlib.Path, *, variant, seed) -> dict[str, Any]:
    with files.replacing(path) as temporary:
        build(variant, seed).save(temporary)
    return {}


def _filed(path: pathlib.Path) -> dict[str, Any]:
    """Cost and .tflite of a saved model; the file stands beside it."""
    model, file = models.load(path), path.with_suffix(".tflite")
    if files.is_older(file, path):
        file.unlink(missing_ok=True)
        export(model, file)
    return {**_counted(model), "bytes": file.stat().st_size, "file": str(file)}


def _counted(model: keras.Model) -> dict[str, Any]:
    counted = cost(model)
    return {"macs": counted.macs, "params": counted.params}


# ---------------------------------------------------------------- single layers


def layer_model(layer: str, p: int | None = None) -> keras.Model:
    """One convolution of the network by itself, 2-D or as a pair of 1-D ones of width P."""
    keras.utils.set_random_seed(0)
    found = models.build("mnist_classifier").get_layer(layer)
    image = keras.Input(found.input.shape[1:], name="image")
    copy = keras.layers.Conv2D.from_config(found.get_config())
    model = keras.Model(image, copy(image), name=layer)
    return model if p is None else pairs(model, {layer: p}, None)


def bounds(layer: str) -> tuple[float, float]:
    """The P at which a pair costs as much as the layer: as it is, and for SAME padding and stride 1."""
    found = layer_model(layer).get_layer(layer)
    height, width, inputs, outputs = found.kernel.shape
    exact = bound(
        "1d", inputs, outputs, (height, width),
        input_width=found.input.shape[2], output_width=found.output.shape[2],
    )  # fmt: skip
    return float(exact), float(bound("1d", inputs, outputs, (height, width)))


def _layer_rows(cells: Cells, config, layer: str) -> Iterator[dict[str, Any]]:
    exact, same_padding = bounds(layer)
    rows = []
    for p in (None, *config["curves"][layer]):
        name = f"{layer} 2d" if p is None else f"{layer} P={p}"
        path = cells.workdir / "layers" / f"{layer}_{p or '2d'}.keras"
        if not path.exists():
            with files.replacing(path) as temporary:
                layer_model(layer, p).save(temporary)
        rows.append({"name": name, "layer": layer, **({} if p is None else {"p": p})})
        rows[-1] |= _filed(path) if config["timing"] else _counted(models.load(path))
    rows[0] |= {"bound": exact, "bound_same_padding": same_padding}
    timed = latencies.timed(cells, rows, config["clock"]) if config["timing"] else rows
    if crossing := latency_break_even(timed[1:]):
        timed[0]["latency_break_even"] = crossing
    yield from timed


def latency_break_even(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The P from which on pairs are slower than the 2-D layer, between the P that were timed.

    Args:
        rows: by ascending P, with `speedup` over the 2-D layer.

    Returns:
        The last crossing, by a straight line between its neighbours; None where nothing was timed
        or the pairs are faster, or slower, throughout.
    """
    points = [(row["p"], 1 / row["speedup"]) for row in rows if "speedup" in row]
    crossing = None
    for (p, ratio), (next_p, next_ratio) in itertools.pairwise(points):
        if ratio <= 1 < next_ratio:
            crossing = p + (next_p - p) * (1 - ratio) / (next_ratio - ratio)
    return crossing


# ---------------------------------------------------------------- the picture


def draw(result: Result, path: str | os.PathLike) -> None:
    """Multiply-adds, and where timed latency, of a pair over those of its layer, against P."""
    timed = any("speedup" in row for row in result.rows if "p" in row)
    with pictures.figure(path, (11, 6.4 if timed else 3.6)) as figure:
        panels = figure.subplots(2 if timed else 1, len(LAYERS), squeeze=False)
        for column, layer in enumerate(LAYERS):
            first = result.row(f"{layer} 2d")
            rows = [row for row in result.rows if row.get("layer") == layer and "p" in row]
            places = [row["p"] for row in rows]
            macs = [row["macs"] / first["macs"] for row in rows]
            _panel(panels[0][column], first, places, macs)
            panels[0][column].set_title(f"{layer}: {first['macs'] / 1e3:,.0f} kMAC in 2-D")
            if timed:
                _panel(panels[1][column], first, places, [1 / row["speedup"] for row in rows])
                if crossing := first.get("latency_break_even"):
                    text = f"as fast at P = {crossing:.3g}"
                    pictures.mark(
                        panels[1][column], crossing, text, pictures.COLOURS[2], height=0.24
                    )
        panels[0][0].set_ylabel("multiply-adds, pair over 2-D")
        if timed:
            panels[1][0].set_ylabel("latency, pair over 2-D")


def _panel(panel, first: Mapping[str, Any], places: Sequence[int], ratios: Sequence[float]) -> None:
    panel.plot(places, ratios, marker="o", markersize=3.5, color=pictures.COLOURS[0])
    panel.axhline(1, color=pictures.SOFT, linewidth=1)
    pictures.mark(panel, first["bound"], f"bound {first['bound']:.2f}", height=0.14)
    if first["bound_same_padding"] != first["bound"]:
        text = f"NKL/(K+L) = {first['bound_same_padding']:.2f}"
        pictures.mark(panel, first["bound_same_padding"], text, colour=pictures.COLOURS[1])
    panel.set_xlabel("P, channels between the two")
    panel.set_ylim(bottom=0)
