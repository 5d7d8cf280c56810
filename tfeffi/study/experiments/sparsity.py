"""What zeros and shared values in kernels bring, and what they do not: accuracy, bytes, time.

Rows of one result: the trained MNIST classifier with 50 to 99 % of its weights zero, as an ordinary
.tflite and as one whose tensors are stored sparse; the same classifier with 2^bits values a kernel;
a network of the only shape for which LiteRT's CPU engine documents sparse inference; and TensorFlow's
dense and sparse matrix products. Timing is a stage of its own (`config.timing`).
"""

import functools
import itertools
import math
import os
import pathlib
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from tfeffi import export, files, methods, models, quiet
from tfeffi.compress import cluster, sparsify
from tfeffi.export import flatbuffer
from tfeffi.study import latencies, pictures
from tfeffi.study.experiments import mnist_structures
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.study.experiments.mnist_structures import BASELINE, images
from tfeffi.study.results import Result
from tfeffi.train import Settings, evaluate, fit


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """The rows: networks, then files of the documented shape, then matrix products.

    Args:
        config: of configs/sparsity.py.
        cells: where tuned networks and timings are kept. The trained classifiers are those of
            mnist_structures, in `config.trained_workdir`, and are trained there if missing.
    """
    clock = config["clock"] if config["timing"] else None
    yield from latencies.timed(cells, list(_networks(config, cells)), clock)
    yield from latencies.timed(cells, list(_pointwise(config, cells)), clock)
    if config["timing"]:
        for shape, columns in itertools.product(config["shapes"], config["columns"]):
            yield from _products(config, cells, shape, columns)


# ---------------------------------------------------------------- networks


def _networks(config, cells: Cells) -> Iterator[dict[str, Any]]:
    shared = Cells(config["trained_workdir"], cells.verbose)
    bases, first = [], config["seeds"][0]
    for seed in config["seeds"]:
        found = mnist_structures.trained(shared, _baseline(config), BASELINE, seed)
        bases.append(found)
    path = mnist_structures.folder(shared, BASELINE, first) / "model.keras"
    yield {"name": "dense", **spread(bases), **_filed(path)}
    for sparsity in config["sparsities"]:
        seeds = [
            _changed(cells, config, shared, seed, sparsity=sparsity) for seed in config["seeds"]
        ]
        path = _folder(cells, first, sparsity=sparsity) / "model.keras"
        row = {"sparsity": sparsity, **spread(seeds)}
        yield {"name": f"{sparsity:.0%} zero", **row, **_filed(path)}
        yield {"name": f"{sparsity:.0%} zero, sparse tensors", **row, **_filed(path, sparse=True)}
    for bits in config["bits"]:
        seeds = [_changed(cells, config, shared, seed, bits=bits) for seed in config["seeds"]]
        path = _folder(cells, first, bits=bits) / "model.keras"
        size = {"theoretical_bytes": seeds[0]["theoretical_bytes"]}
        seeds = [{k: v for k, v in seed.items() if k not in size} for seed in seeds]
        row = {"bits": bits, **spread(seeds), **size}
        yield {"name": f"{2**bits} values", **row, **_filed(path)}


def _baseline(config) -> dict[str, Any]:
    return {"data": config["data"], "train": config["train"], "variants": {BASELINE: {}}}


def _folder(cells: Cells, seed: int, **change) -> pathlib.Path:
    (kind, value), *_ = change.items()
    return cells.workdir / f"{kind}_{value}_{seed}"


def _changed(cells: Cells, config, shared: Cells, seed: int, **change) -> dict[str, Any]:
    """The accuracies of one classifier with zeros or shared values, before and after tuning."""
    kind = next(iter(change))
    base = mnist_structures.folder(shared, BASELINE, seed) / "model.keras"
    return cells.once(
        f"{kind} {change[kind]} seed {seed}",
        functools.partial(_change, base, _folder(cells, seed, **change)),
        change=change, seed=seed, data=config["data"], base=config["train"],
        tune=None if change.get("bits") in config["untuned_bits"] else config["tune"][kind],
    )  # fmt: skip


def _change(path, place, *, change, seed, data, base, tune) -> dict[str, Any]:
    test, model = images(data["name"], data["test"]), models.load(path)
    if "sparsity" in change:
        made, report = sparsify(model, change["sparsity"])
        method = methods.build("keep_zeros")
    else:
        made, report = cluster(model, change["bits"])
        method = methods.build("shared_weights")
    found = {"untuned_accuracy": evaluate(made, test)["accuracy"]}
    if "theoretical_bytes" in report.settings:
        found["theoretical_bytes"] = report.settings["theoretical_bytes"]
    if tune is None:
        with files.replacing(place / "model.keras") as temporary:
            made.save(temporary)
        return {"accuracy": found.pop("untuned_accuracy"), **found}
    settings = Settings.from_mapping({**tune["settings"], "seed": seed})
    train = images(data["name"], tune["split"])
    made = fit(made, train, settings=settings, methods=[method], workdir=place, verbose=False).model
    return {"accuracy": evaluate(made, test)["accuracy"], **found}


# ---------------------------------------------------------------- files


def _filed(path: pathlib.Path, sparse: bool = False) -> dict[str, Any]:
    """The .tflite of a saved model, beside it, and its sizes."""
    file = path.with_name(path.stem + ("_sparse" if sparse else "") + ".tflite")
    if not file.exists():
        model = models.load(path)
        if sparse:
            with files.replacing(file) as temporary:
                temporary.write_bytes(with_sparse_tensors(model))
        else:
            export(model, file)
    row = {"bytes": file.stat().st_size, "zip_bytes": flatbuffer.zip_bytes(file), "file": str(file)}
    if sparse:
        row["sparse_tensors"] = count_sparse_tensors(file.read_bytes())
    return row


def with_sparse_tensors(model: keras.Model) -> bytes:
    """The model as a .tflite whose kernels are stored sparse where that is smaller.

    TensorFlow's converter writes them so under `Optimize.EXPERIMENTAL_SPARSITY`: the values that are
    not zero, their positions, and a DENSIFY operator before each layer that reads them.
    """
    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tf.float32) for tensor in model.inputs]
    infer = tf.function(lambda image: model(image, training=False), input_signature=specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [infer.get_concrete_function()], tf.Module()
    )
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    with quiet.native_code():
        return converter.convert()


def count_sparse_tensors(content: bytes) -> int:
    """How many tensors of a .tflite are stored sparse."""
    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    tensors = (graph.Tensors(index) for index in range(graph.TensorsLength()))
    return sum(tensor.Sparsity() is not None for tensor in tensors)


def pointwise_network(sparsity: float, size: int = 56, filters: int = 128) -> keras.Model:
    """Nothing but what XNNPACK documents for sparse inference, with zeros in its 1×1 kernels.

    A 3×3 convolution of stride 2 with padding 1 on an image of 3 channels, then 3×3 depthwise and
    1×1 convolutions, then a mean over the positions. More than two thirds of the 1×1 kernels must be
    zero.
    """
    keras.utils.set_random_seed(0)
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.ZeroPadding2D(1)(image)
    x = keras.layers.Conv2D(32, 3, strides=2, activation="relu", name="first")(x)
    for number in range(1, 5):
        x = keras.layers.DepthwiseConv2D(3, padding="same", name=f"depthwise{number}")(x)
        x = keras.layers.Conv2D(filters, 1, activation="relu", name=f"pointwise{number}")(x)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x), name="pointwise")
    others = [layer.name for layer in model.layers if "pointwise" not in layer.name]
    return sparsify(model, sparsity, scope="layer", ignore=others)[0]


def _pointwise(config, cells: Cells) -> Iterator[dict[str, Any]]:
    for sparsity in (0.0, *config["pointwise_sparsities"]):
        path = cells.workdir / "pointwise" / f"{sparsity}.keras"
        if not path.exists():
            with files.replacing(path) as temporary:
                pointwise_network(sparsity).save(temporary)
        name = f"pointwise, {sparsity:.0%} zero" if sparsity else "pointwise, dense"
        yield {"name": name, "sparsity": sparsity, **_filed(path)}
        if sparsity:
            row = {"sparsity": sparsity, **_filed(path, sparse=True)}
            yield {"name": f"{name}, sparse tensors", **row}


# ---------------------------------------------------------------- TensorFlow


def _products(config, cells: Cells, shape: Sequence[int], columns: int) -> Iterator[dict[str, Any]]:
    """Kernel times batch, dense against sparse, and the density at which they take as long."""
    height, width = shape
    title, rows = f"matmul {height}x{width}, {columns} columns", []
    for density in config["densities"]:
        found = cells.once(
            f"{title}, density {density:g}", time_products, shape=list(shape), columns=columns,
            density=density, rounds=config["rounds"],
        )  # fmt: skip
        rows.append({"name": f"{title}, {100 * density:g} % dense", "density": density, **found})
    first = {"name": title, "height": height, "width": width, "columns": columns}
    if (even := break_even_density(rows)) is not None:
        first["break_even_density"] = even
    fastest = max(rows, key=lambda row: row["speedup"])
    yield first | {"best_speedup": fastest["speedup"], "best_density": fastest["density"]}
    yield from rows


def time_products(
    shape: Sequence[int], columns: int, density: float, rounds: int
) -> dict[str, Any]:
    """Times tf.matmul and tf.sparse.sparse_dense_matmul of the same matrix, in turns.

    Args:
        shape: of the matrix.
        columns: of what it is multiplied with: the images of a batch, for a Dense layer.
        density: share of entries that are not zero.
        rounds: turns of each; the times are medians over them.
    """
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=shape).astype(np.float32)
    matrix[rng.random(shape) >= density] = 0
    batch = tf.constant(rng.normal(size=(shape[1], columns)).astype(np.float32))
    dense, sparse = tf.constant(matrix), tf.sparse.from_dense(matrix)
    candidates = {
        "dense_ms": tf.function(lambda: tf.matmul(dense, batch)),
        "sparse_ms": tf.function(lambda: tf.sparse.sparse_dense_matmul(sparse, batch)),
    }
    np.testing.assert_allclose(*(run() for run in candidates.values()), rtol=1e-3, atol=1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            started = time.perf_counter()
            run().numpy()
            seconds[name].append(time.perf_counter() - started)
    ratios = [d / s for d, s in zip(*seconds.values(), strict=True)]
    times = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    return times | {
        "n": rounds, "speedup": statistics.median(ratios),
        "speedup_low": min(ratios), "speedup_high": max(ratios),
    }  # fmt: skip


def break_even_density(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The density below which the sparse product is the faster one, between those that were timed.

    Args:
        rows: with `density` and `speedup` of sparse over dense.

    Returns:
        The highest crossing, on logarithmic scales; None where one of the two is faster throughout.
    """
    points = sorted((row["density"], row["speedup"]) for row in rows)
    crossing = None
    for (density, speedup), (above, slower) in itertools.pairwise(points):
        if speedup >= 1 > slower:
            share = math.log(speedup) / math.log(speedup / slower)
            crossing = density * (above / density) ** share
    return crossing


# ---------------------------------------------------------------- the picture


def draw(result: Result, path: str | os.PathLike) -> None:
    """Accuracy and bytes against zeros and against bits; where timed, what zeros do to time."""
    timed = any("sparse_ms" in row for row in result.rows)
    with pictures.figure(path, (11 if timed else 7.6, 6.2)) as figure:
        panels = figure.subplots(2, 3 if timed else 2, squeeze=False)
        zeros = [row for row in result.rows if row["name"].endswith("% zero") and "n" in row]
        stored = [row for row in result.rows if "sparse_tensors" in row and "n" in row]
        values = [row for row in result.rows if "bits" in row]
        dense = result.row("dense")
        _accuracies(panels[0][0], dense, zeros, [100 * row["sparsity"] for row in zeros])
        _accuracies(panels[0][1], dense, values, [row["bits"] for row in values])
        at = [100 * row["sparsity"] for row in zeros]
        _sizes(panels[1][0], at, zeros, {"sparse tensors": ("bytes", stored)})
        at = [row["bits"] for row in values]
        _sizes(panels[1][1], at, values, {"as indices, in theory": ("theoretical_bytes", values)})
        for row, title in ((0, "weights that are zero (%)"), (1, "bits: 2^bits values a kernel")):
            panels[0][row].set_xlabel(title)
            panels[1][row].set_xlabel(title)
        if timed:
            _litert(panels[0][2], zeros, stored)
            _tensorflow(panels[1][2], result)


def _accuracies(panel, dense, rows: Sequence[Mapping[str, Any]], at: Sequence[float]) -> None:
    panel.axhline(100 * dense["accuracy_mean"], color=pictures.SOFT, linewidth=1, label="before")
    for colour, key, label in (
        (1, "untuned_accuracy", "as changed"), (0, "accuracy", "tuned"),
    ):  # fmt: skip
        found = [(x, row) for x, row in zip(at, rows, strict=True) if f"{key}_mean" in row]
        places, means = [x for x, _ in found], [100 * row[f"{key}_mean"] for _, row in found]
        spreads = [100 * row.get(f"{key}_std", 0) for _, row in found]
        line = {"marker": "o", "capsize": 2, "color": pictures.COLOURS[colour], "label": label}
        panel.errorbar(places, means, spreads, **line)
    panel.set_ylim(max(0, 100 * min(row["accuracy_mean"] for row in rows) - 1), 100)
    panel.set_ylabel("accuracy (%)")
    panel.legend(loc="lower left")


def _sizes(panel, at: Sequence[float], rows, others) -> None:
    lines = {"the .tflite": ("bytes", rows), "zipped": ("zip_bytes", rows), **others}
    for colour, (label, (key, found)) in enumerate(lines.items()):
        panel.plot(
            at, [row[key] / 1e3 for row in found], marker="o", label=label,
            color=pictures.COLOURS[colour],
        )  # fmt: skip
    panel.set_ylim(bottom=0)
    panel.set_ylabel("file (kB)")
    panel.legend()


def _litert(panel, zeros, stored) -> None:
    for colour, (label, rows) in enumerate(
        {"dense tensors": zeros, "sparse tensors": stored}.items()
    ):
        at = [100 * row["sparsity"] for row in rows]
        panel.plot(
            at,
            [row["speedup"] for row in rows],
            marker="o",
            color=pictures.COLOURS[colour],
            label=label,
        )
    panel.axhline(1, color=pictures.SOFT, linewidth=1)
    panel.set_ylim(0, 2)
    panel.set_xlabel("weights that are zero (%)")
    panel.set_ylabel("LiteRT: speed-up over dense")
    panel.legend()


def _tensorflow(panel, result: Result) -> None:
    titles = [row for row in result.rows if "best_density" in row]
    for colour, first in enumerate(titles):
        rows = [row for row in result.rows if row["name"].startswith(f"{first['name']}, ")]
        panel.plot(
            [100 * row["density"] for row in rows], [row["speedup"] for row in rows], marker="o",
            color=pictures.COLOURS[colour % len(pictures.COLOURS)],
            linestyle="-" if first["height"] == titles[0]["height"] else ":",
            label=first["name"].removeprefix("matmul "),
        )  # fmt: skip
    panel.axhline(1, color=pictures.SOFT, linewidth=1)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("weights that are not zero (%)")
    panel.set_ylabel("sparse_dense_matmul: speed-up")
    panel.legend(fontsize=6.5)
