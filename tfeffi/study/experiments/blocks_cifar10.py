"""Blocks at equal multiply-adds: one network around each, trained over several seeds.

`config["variants"]` names the networks: `{name: {"block": ..., "shortcut": ...}}`. Widths are found so
that all of them cost `config["macs"]`. With `config["timing"]` the exported files are timed in one
interleaved run; that can wait for a quiet machine, since trained models stay in the work folder.
"""

import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tfeffi import analysis, bench, data, files, models, train
from tfeffi.export import export
from tfeffi.models import block_cnn
from tfeffi.study import latencies
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.study.results import Result
from tfeffi.train.evaluation import evaluate


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """A row a variant; the first one is what the others are compared with."""
    variants = dict(config["variants"])
    networks = {
        name: network | {"widths": cells.once(f"{name} widths", _widths, **network)["widths"]}
        for name, network in (
            (name, {**config["network"], **variant, "macs": config["macs"]})
            for name, variant in variants.items()
        )
    }
    trained: dict[str, list[dict]] = {name: [] for name in variants}
    for seed in config["seeds"]:  # outside: a run that is cut short has whole sets
        for name, network in networks.items():
            folder = cells.workdir / "trained" / f"{name}_{seed}"
            trained[name].append(
                cells.once(
                    f"{name} seed {seed}",
                    lambda folder=folder, **what: _train(folder, **what),
                    network=_built(network),
                    seed=seed,
                    data=config["data"],
                    settings=config["train"],
                )
            )
    paths = {name: cells.workdir / "files" / f"{name}.tflite" for name in variants}
    exported = {
        name: cells.once(
            f"{name} file",
            lambda name=name, **what: _export(cells.workdir / what["model"], paths[name]),
            model=f"trained/{name}_{config['seeds'][0]}/model.keras",
            network=networks[name],
            settings=config["train"],
        )
        for name in variants
    }
    times = _time(paths, config["latency"]) if config["timing"] else {}
    rows = {name: spread(several) for name, several in trained.items()}
    first = next(iter(rows.values()))
    for name, network in networks.items():
        row = rows[name]
        yield {
            "name": name,
            **{key: network[key] for key in ("block", "shortcut", "widths")},
            **row,
            "accuracies": [cell["accuracy"] for cell in trained[name]],
            **_difference(row, first),
            "epochs": config["train"]["epochs"],
            **exported[name],
            **times.get(name, {}),
        }


def draw(result: Result, path: str) -> None:
    """The accuracy of each seed beside the mean, one line a variant; latency where it was timed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = result.rows[::-1]
    timed = all("ratio" in row for row in rows)
    figure = Figure(figsize=(9, 0.5 * len(rows) + 1.2), dpi=160)
    FigureCanvasAgg(figure)
    left, *right = figure.subplots(1, 2 if timed else 1, sharey=True, squeeze=False)[0]
    for place, row in enumerate(rows):
        values = [100 * value for value in row["accuracies"]]
        left.plot(values, [place] * len(values), "o", color="#0b62d6", alpha=0.45, markersize=5)
        left.plot([100 * row["accuracy_mean"]], [place], "|", color="#16191d", markersize=16)
    left.set_yticks(range(len(rows)), [row["name"].replace("_", " ") for row in rows])
    left.set_xlabel(f"test accuracy of {rows[0]['n']} seeds, %  (bar: mean)")
    for axes in right:
        axes.barh(range(len(rows)), [row["p50_ms"] for row in rows], color="#c4500c", height=0.5)
        axes.set_xlabel("latency p50 on one thread, ms")
    for axes in (left, *right):
        axes.grid(axis="x", color="#e6eaee")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
    macs = sum(row["macs"] for row in rows) / len(rows)
    left.set_title(
        f"CIFAR-10, {macs / 1e6:.2g} M MACs each, {rows[0]['epochs']} epochs", loc="left"
    )
    figure.tight_layout()
    with files.replacing(pathlib.Path(path)) as temporary:
        figure.savefig(temporary)


def _built(network: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `block_cnn.build`."""
    return {key: value for key, value in network.items() if key != "macs"}


def _widths(macs: int, **network: Any) -> dict[str, Any]:
    return {"widths": list(block_cnn.widths_for_macs(macs, **network))}


def _train(folder: pathlib.Path, network, seed: int, data, settings) -> dict[str, float]:
    """One seed: test accuracy at the end of training; nothing is stopped or chosen by it."""
    import keras

    keras.utils.set_random_seed(seed)
    model = block_cnn.build(**network)
    images, test = _images(data["name"], data["train"]), _images(data["name"], data["test"])
    made = train.fit(
        model,
        images,
        settings=train.Settings.from_mapping({**settings, "seed": seed}),
        workdir=folder,
        verbose=False,
    )
    last = made.history[-1]
    return {
        "accuracy": evaluate(made.model, test)["accuracy"],
        "train_loss": last["loss"],
        "train_accuracy": last["accuracy"],
    }


def _images(name: str, split: str) -> data.Images:
    """The images, read once a process."""
    if (name, split) not in _LOADED:
        _LOADED[name, split] = data.load(name, split)
    return _LOADED[name, split]


_LOADED: dict[tuple[str, str], data.Images] = {}


def _export(source: pathlib.Path, path: pathlib.Path) -> dict[str, int]:
    """The float32 file of a trained model, and what it costs."""
    path.unlink(missing_ok=True)
    model = models.load(source)
    made = export(model, path)
    counted = analysis.cost(model)
    return {
        "macs": counted.macs,
        "params": counted.params,
        "bytes": made.bytes,
        "activation_bytes": made.activation_bytes,
    }


def _time(paths: Mapping[str, pathlib.Path], how: Mapping[str, Any]) -> dict[str, dict]:
    """Latencies of all files in one interleaved run, ratios to the first."""
    rows = bench.compare(list(paths.values()), **how).rows
    first = next(iter(paths))
    return {n: latencies.columns(row, first) for n, row in zip(paths, rows, strict=True)}


def _difference(row: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy minus that of the first variant, with the standard error of that difference."""
    found = {"difference": row["accuracy_mean"] - first["accuracy_mean"]}
    if row is not first and "accuracy_std" in row:
        variances = row["accuracy_std"] ** 2 / row["n"] + first["accuracy_std"] ** 2 / first["n"]
        found["difference_error"] = math.sqrt(variances)
    return found
