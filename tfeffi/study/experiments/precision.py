"""Sixteen bits: what a fixed training reaches in float32, bfloat16, float16, and what float16 loses.

Rows of one result: accuracies over widths; then, of one trained network, the histogram of gradient
exponents in float32, and what real float16 backward passes make of the same gradients under several
loss scales. Step times and memory are benchmarks/precision.py's to add.
"""

import functools
import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfeffi import data, models
from tfeffi.analysis.cost import cost
from tfeffi.analysis.exponents import LARGEST, SMALLEST_NORMAL, ZERO, Exponents, float16_shares
from tfeffi.study import pictures
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.study.results import Result
from tfeffi.train import Settings, evaluate, fit, losses
from tfeffi.train.precision import MAX_SCALE, MIN_SCALE, fused, recast

BASELINE = "float32"
KINDS = ("weights", "activations")
load = functools.lru_cache(maxsize=4)(data.load)


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """The rows: trainings of each width in each precision, then the gradients of one network.

    Args:
        config: of configs/precision.py.
        cells: where trained networks and what was counted are kept.
    """
    for key, training in config["trainings"].items():
        for width, precision in itertools.product(training["widths"], training["precisions"]):
            yield _accuracy_row(config, cells, key, width, precision)
    yield from _gradient_rows(config, cells)


# ---------------------------------------------------------------- accuracies


def build(config: Mapping[str, Any], width: int) -> keras.Model:
    """The network of a width."""
    images = load(config["data"]["name"], config["data"]["test"])
    section = dict(config["model"])
    return models.build(
        section.pop("name"), width=width, input_shape=images.images.shape[1:],
        num_classes=images.num_classes, **section,
    )  # fmt: skip


def row_name(key: str, width: int, precision: str) -> str:
    """What the row of a training is called: "width 8 short float32"."""
    return f"width {width} {key} {precision}"


def _accuracy_row(config, cells, key, width, precision) -> dict[str, Any]:
    training = config["trainings"][key]
    found = [_trained(config, cells, key, width, precision, seed) for seed in config["seeds"]]
    counted = cost(build(config, width))
    return {
        "name": row_name(key, width, precision), "width": width, "precision": precision,
        "dataset": f"{config['data']['name']} {config['data']['test']}",
        "train_split": training["split"], "epochs": training["settings"]["epochs"],
        **spread(found), "params": counted.params, "macs": counted.macs,
        "ratio_to": row_name(key, width, BASELINE),
    }  # fmt: skip


def _trained(config, cells, key, width, precision, seed) -> dict[str, Any]:
    """The test accuracy of one training; in float16 its loss scale and how many steps it skipped."""
    training = config["trainings"][key]
    name = f"{row_name(key, width, precision)} seed {seed}"
    return cells.once(
        name, lambda **_: _train(config, cells.workdir / name.replace(" ", "_"), **_),
        width=width, seed=seed, data=config["data"], model=config["model"], split=training["split"],
        settings={**training["settings"], "precision": precision, "seed": seed},
    )  # fmt: skip


def _train(config, place, *, width, seed, data, model, split, settings) -> dict[str, Any]:
    keras.utils.set_random_seed(seed)
    start, settings = build(config, width), Settings.from_mapping(settings)
    made = fit(start, load(data["name"], split), settings=settings, workdir=place, verbose=False)
    last = made.history[-1]
    told = {k: last[k] for k in ("loss", "loss_scale", "skipped_steps") if k in last}
    return {"accuracy": evaluate(made.model, load(data["name"], data["test"]))["accuracy"], **told}


# ---------------------------------------------------------------- gradients


def gradients(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    scale: float = 1.0,
) -> dict[str, list[np.ndarray]]:
    """Gradients of the mean cross-entropy times a loss scale, as the backward pass leaves them.

    Args:
        model: functional, images to logits.
        images, labels: float32 (n, h, w, c) in [0, 1]; int (n,).
        names: of the layers that are looked at.
        scale: the loss scale; the gradients are not divided by it.

    Returns:
        "weights": of the kernels of these layers. "activations": of their outputs, in the type that
        they have there.
    """
    looked = [model.get_layer(name) for name in names]
    kernels = [layer.kernel.value for layer in looked if hasattr(layer, "kernel")]
    whole = keras.Model(model.input, [model.outputs[0], *(layer.output for layer in looked)])
    with tf.GradientTape() as tape:
        logits, *outputs = whole(images, training=True)
        each = losses.per_example("cross_entropy", logits, images, labels, 0.0, False)
        loss = tf.reduce_mean(each) * scale
    found = tape.gradient(loss, [kernels, outputs], unconnected_gradients="zero")
    return {
        kind: [tf.convert_to_tensor(g).numpy() for g in of]
        for kind, of in zip(KINDS, found, strict=True)
    }


def in_float16(model: keras.Model) -> list[str]:
    """The layers that compute in float16."""
    return [layer.name for layer in model.layers if layer.compute_dtype == "float16"]


def twins(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The model in float32 and in mixed_float16, its layers exchanged as the loop does it."""
    settings = [Settings(precision=precision) for precision in (BASELINE, "mixed_float16")]
    exact, half = (fused(recast(model, one.precision), one) for one in settings)
    return exact, half


def _flat(found: dict[str, list[np.ndarray]], kind: str) -> np.ndarray:
    return np.concatenate([np.ravel(g) for g in found[kind]])


def compared(model: keras.Model, images, labels, scale: float) -> dict[str, dict[str, float]]:
    """What float16 makes of a network's gradients under a loss scale, of weights and activations.

    Returns:
        By kind: `zero_share`, `subnormal_share`, `overflow_share` of a real float16 backward pass;
        the same with `cast_` before it of the float32 gradients, scaled and then cast, which is
        what the type alone loses; and `gradient_error`, ‖g₁₆/S − g₃₂‖ / ‖g₃₂‖, if it is finite.
    """
    exact_model, half_model = twins(model)
    names = in_float16(half_model)
    exact = gradients(exact_model, images, labels, names)
    half = gradients(half_model, images, labels, names, scale)
    told = {}
    for kind in KINDS:
        wanted, found = _flat(exact, kind), _flat(half, kind)
        with np.errstate(over="ignore"):
            cast = (wanted * np.float32(scale)).astype(np.float16)
        told[kind] = float16_shares(found, wanted)
        told[kind] |= {f"cast_{k}": v for k, v in float16_shares(cast, wanted).items()}
        error = np.linalg.norm(found.astype(np.float64) / scale - wanted) / np.linalg.norm(wanted)
        told[kind] |= {"gradient_error": float(error)} if math.isfinite(error) else {}
    return told


def largest_scale(model: keras.Model, images, labels, start: float = 2.0**15) -> float:
    """The largest power of two in [1, 2²⁴] that leaves every float16 gradient of the weights finite.

    Where dynamic scaling climbs to on such a batch: it doubles while gradients are finite.
    """
    _, half = twins(model)
    names = in_float16(half)

    def is_finite(scale):
        found = gradients(half, images, labels, names, scale)
        return bool(np.isfinite(_flat(found, "weights")).all())

    scale = start
    if is_finite(scale):
        while scale < MAX_SCALE and is_finite(2 * scale):
            scale *= 2
    else:
        while scale > MIN_SCALE:
            scale /= 2
            if is_finite(scale):
                break
    return scale


def _gradient_rows(config, cells) -> Iterator[dict[str, Any]]:
    section = config["gradients"]
    training = {**section, "seed": config["seeds"][0], "data": config["data"]}
    common = {"model": config["model"], "training": training}
    network = functools.partial(_network, config, cells)
    counts = cells.once("gradients, float32", lambda **_: _counted(*network()), **common)
    for kind in KINDS:
        yield {"name": f"{kind} float32", "width": section["width"], **counts[kind]}
    dynamic = cells.once(
        "gradients, dynamic", lambda **_: {"scale": largest_scale(*network())}, **common
    )["scale"]
    named = {f"scale {scale:g}": float(scale) for scale in section["scales"]}
    for name, scale in {**named, "dynamic": dynamic}.items():
        told = cells.once(
            f"gradients, scale {scale:g}", lambda *, scale, **_: compared(*network(), scale),
            scale=scale, **common,
        )  # fmt: skip
        for kind in KINDS:
            shown = {"scale": scale, "scale_log2": math.log2(scale)}
            yield {"name": f"{kind} {name}", **shown, **told[kind]}


def _counted(model, images, labels) -> dict[str, Any]:
    exact, half = twins(model)
    found = gradients(exact, images, labels, in_float16(half))
    told = {}
    for kind in KINDS:
        values = _flat(found, kind)
        of = Exponents.of(values)
        told[kind] = {
            "exponent_low": of.low, "counts": of.counts, "exact_zeros": of.zeros,
            "values": values.size,
        }  # fmt: skip
    return told


def _network(config, cells) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """The network whose gradients are looked at, trained a bit in float32, and a batch of images."""
    section, seed = config["gradients"], config["seeds"][0]
    name, width = "gradients_network", section["width"]
    settings = {**section["settings"], "precision": BASELINE, "seed": seed}
    cells.once(
        name, lambda **_: _train(config, cells.workdir / name, **_), width=width, seed=seed,
        data=config["data"], model=config["model"], split=section["split"], settings=settings,
    )  # fmt: skip
    batch = load(config["data"]["name"], section["split"])
    pixels, labels = (part[: section["images"]] for part in (batch.images, batch.labels))
    model = models.load(pathlib.Path(cells.workdir, name, "model.keras"))
    return model, pixels.astype(np.float32) / 255, labels


# ---------------------------------------------------------------- the picture


def draw(result: Result, path: str) -> None:
    """Two panels: the exponents of gradients between float16's limits, as they are and scaled."""
    scaled = round(max(row["scale_log2"] for row in result.rows if " scale " in row["name"]))
    rows = [result.row(f"{kind} float32") for kind in KINDS]
    left = min(ZERO - 6, *(row["exponent_low"] for row in rows))
    with pictures.figure(path, (9, 5.6)) as drawn:
        panels = drawn.subplots(len(KINDS), 1, sharex=True)
        for panel, kind, row in zip(panels, KINDS, rows, strict=True):
            shares = np.array(row["counts"]) / sum(row["counts"])
            at = row["exponent_low"] + np.arange(len(shares)) + 0.5
            panel.bar(at, shares, 1.0, color=pictures.COLOURS[0], alpha=0.6, label="no loss scale")
            label = f"loss scale $2^{{{scaled}}}$"
            panel.bar(at + scaled, shares, 1.0, color=pictures.COLOURS[2], alpha=0.6, label=label)
            _limits(panel, left, max(LARGEST + 4, at[-1] + scaled + 1), 1.2 * shares.max())
            panel.set_title(f"gradients of {kind}", loc="left")
            panel.set_ylabel("share of those not zero")
        panels[0].legend(loc=(0.01, 0.6))
        panels[-1].set_xlabel("exponent: log₂ |gradient|")


def _limits(panel, left: float, right: float, top: float) -> None:
    """What float16 makes of an exponent: zero, subnormal, normal, infinite."""
    panel.set_xlim(left, right)
    panel.set_ylim(0, top)
    spans = (
        (left, ZERO, "becomes zero", "#f6d5c3"), (ZERO, SMALLEST_NORMAL, "subnormal", "#fbeede"),
        (SMALLEST_NORMAL, LARGEST + 1, "normal in float16", "none"),
        (LARGEST + 1, right, "infinite", "#f6d5c3"),
    )  # fmt: skip
    for begin, end, word, colour in spans:
        panel.axvspan(begin, end, color=colour, zorder=0, linewidth=0)
        panel.annotate(
            word, ((begin + end) / 2, 0.92), xycoords=("data", "axes fraction"), ha="center",
            color=pictures.SOFT, fontsize=7.5,
        )  # fmt: skip
