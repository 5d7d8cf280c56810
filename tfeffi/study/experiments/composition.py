"""Compressions after one another: what each order costs, and whether what came before is still there.

Every step ends in a short tuning that holds what earlier steps made; every order ends in an int8 file:
that of quantization-aware training where it is the last step, else calibrated. What a step promised
(channels gone, zeros, few different values) is then read from the buffers of the files of all orders
that contain it.
"""

import hashlib
import itertools
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from tfeffi import bench, data, export, files, methods, models
from tfeffi.compress import Budget, cluster, prune, sparsify
from tfeffi.compress.tfmot import cluster_weights, prune_magnitude, quantize_aware
from tfeffi.errors import BadInput, near
from tfeffi.export import buffers, flatbuffer
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.train import Settings, fit

ZEROS, CLUSTERS = ("zeros", "tfmot_zeros"), ("clusters", "tfmot_clusters")
STEPS = ("channels", "qat", *ZEROS, *CLUSTERS)
_ROUNDING = 0.005  # of the zeros asked for: whole weights of small kernels
_KEYS = ("data", "model", "train", "tune", "asked", "calibration", "min_agreement")  # of a cell


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """A row an order, the shorter ones first.

    Args:
        config: of configs/composition.py.
        cells: where the model and file of each order and seed are kept.
    """
    for order in orders(config):
        seeds = [_made(cells, config, order, seed) for seed in config["seeds"]]
        first = seeds[0]
        row = {
            "name": " → ".join(order) or "trained", "steps": len(order),
            **spread({"accuracy": seed["accuracy"]} for seed in seeds),
            **{key: first[key] for key in ("bytes", "zip_bytes", "channels")},
            "zero_share": min(seed["zeros"] for seed in seeds),
            "least_zero_share": min(seed["least_zeros"] for seed in seeds),
            "values_per_channel": max(seed["values_per_channel"] for seed in seeds),
            "kept": ", ".join(first["promised"]) or "–",
            "dataset": f"{config['data']['name']} {config['data']['test']}",
        }  # fmt: skip
        gone = sorted({one for seed in seeds for one in seed["lost"]})
        if gone:
            row["lost"] = ", ".join(gone)
            row["kept"] = ", ".join(one for one in first["promised"] if one not in gone) or "–"
        yield row


def orders(config: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Every order of every subset of each of `config.families`, and `config.chains` as they stand.

    Those that begin another one are there, too; the shorter ones come first.

    Raises:
        BadInput: a step that there is not.
    """
    for step in itertools.chain(*config["families"], *config["chains"]):
        if step not in STEPS:
            raise BadInput(f'composition: unknown step "{step}"; {near(step, STEPS)}')
    found = {()}
    for family in config["families"]:
        for length in range(1, len(family) + 1):
            found.update(itertools.permutations(family, length))
    for chain in config["chains"]:
        found.update(tuple(chain[:length]) for length in range(1, len(chain) + 1))
    return sorted(found, key=lambda order: (len(order), order))


def lost(
    order: Sequence[str], found: Mapping[str, Any], promised: Mapping[str, float]
) -> list[str]:
    """The promises that a file breaks.

    Args:
        order: the steps, the last one included.
        found: "channels", "least_zeros" and "values_per_channel" of its buffers, see `described`.
        promised: "channels": so many at most; "zeros": a fraction at least; "values": so many at most.
    """
    broken = {
        "channels": "channels" in order and found["channels"] > promised["channels"],
        "zeros": any(one in order for one in ZEROS)
        and found["least_zeros"] < promised["zeros"] - _ROUNDING,
        "values": any(one in order for one in CLUSTERS)
        and found["values_per_channel"] > promised["values"],
    }
    return [name for name, is_broken in broken.items() if is_broken]


def _folder(cells: Cells, config, order: Sequence[str], seed: int) -> pathlib.Path:
    """Of an order's files: what is configured otherwise lies elsewhere."""
    text = json.dumps([config[key] for key in _KEYS], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return cells.workdir / f"seed_{seed}-{digest}" / ("-".join(order) or "trained")


def _made(cells: Cells, config, order: tuple[str, ...], seed: int) -> dict[str, Any]:
    """What the file of an order is, once the orders that begin it are made."""
    if order:
        _made(cells, config, order[:-1], seed)

    def make(**_):
        return _make(config, order, seed, _folder(cells, config, order, seed))

    return cells.once(
        f"{'-'.join(order) or 'trained'} seed {seed}", make, order=list(order), seed=seed,
        **{key: config[key] for key in _KEYS},
    )  # fmt: skip


def _make(config, order, seed: int, place: pathlib.Path) -> dict[str, Any]:
    train, test = (data.load(config["data"]["name"], config["data"][s]) for s in ("train", "test"))
    keras.utils.set_random_seed(seed)
    tflite = place / "model.tflite"
    tflite.unlink(missing_ok=True)  # of a run that was killed before its record
    if not order:
        arguments = {key: value for key, value in config["model"].items() if key != "name"}
        built = models.build(config["model"]["name"], **arguments)
        settings = Settings.from_mapping({**config["train"], "seed": seed})
        made = fit(built, train, settings=settings, verbose=False).model
    else:
        base = models.load(_beside(place, order[:-1]) / "model.keras")
        made = _step(base, order, train, config, seed, tflite)
    with files.replacing(place / "model.keras") as temporary:
        made.save(temporary)
    if not tflite.exists():
        export(
            made, tflite, quantize="int8", calibration=train.take(config["calibration"]),
            min_agreement=config["min_agreement"],
        )  # fmt: skip
    return {
        "accuracy": bench.evaluate(tflite, test), "bytes": tflite.stat().st_size,
        "zip_bytes": flatbuffer.zip_bytes(tflite), **judged(config["asked"], order, place),
    }  # fmt: skip


def judged(asked: Mapping[str, Any], order: Sequence[str], place: pathlib.Path) -> dict[str, Any]:
    """What is in the buffers of an order's file, what its steps promised, and what of that is lost.

    Args:
        asked: of the configuration.
        order: the steps.
        place: its folder, with model.tflite; the orders that begin it lie beside it.
    """
    found = described(place / "model.tflite")
    steps = {"channels": "channels", **dict.fromkeys(ZEROS, "zeros")}
    steps |= dict.fromkeys(CLUSTERS, "values")
    promised = {"zeros": asked["sparsity"], "values": 2 ** asked["bits"]}
    if "channels" in order:
        promised["channels"] = _most_channels(place, order)
    return {
        **found, "promised": [steps[one] for one in order if one in steps],
        "lost": lost(order, found, promised),
    }  # fmt: skip


def _beside(place: pathlib.Path, order: Sequence[str]) -> pathlib.Path:
    return place.parent / ("-".join(order) or "trained")


def _most_channels(place: pathlib.Path, order: Sequence[str]) -> int:
    """As many as right after they were pruned; in that very step, fewer than before it."""
    index = order.index("channels")
    pruned = index + 1 < len(order)
    then = _beside(place, order[: index + 1] if pruned else order[:index])
    return described(then / "model.tflite")["channels"] - (0 if pruned else 1)


def described(path: pathlib.Path) -> dict[str, Any]:
    """All kernels of a .tflite: channels, share of zeros, that of the kernel with fewest, most values."""
    found = buffers.kernels(path)
    sizes = [math.prod(one.shape) for one in found]
    return {
        "channels": sum(one.channels for one in found),
        "zeros": sum(one.zeros * size for one, size in zip(found, sizes, strict=True)) / sum(sizes),
        "least_zeros": min(one.zeros for one in found),
        "values_per_channel": max(one.values_per_channel for one in found),
    }


def _step(model, order: Sequence[str], train, config, seed: int, tflite: pathlib.Path):
    """The last step of an order, and the tuning after it."""
    step, asked, tune = order[-1], config["asked"], config["tune"]
    own = {key: tune[key] for key in ("epochs", "batch_size", "learning_rate")}
    if step == "qat":
        return quantize_aware(
            model, train, tflite=tflite, min_agreement=config["min_agreement"], seed=seed, **own
        )[0]
    if step == "tfmot_zeros":
        return prune_magnitude(model, train, sparsity=asked["sparsity"], seed=seed, **own)[0]
    if step == "tfmot_clusters":
        return cluster_weights(model, train, clusters=2 ** asked["bits"], seed=seed, **own)[0]
    if step == "channels":
        budget, multiple = Budget(macs=asked["macs"]), asked["multiple_of"]
        made, _ = prune(model, budget, importance="l2", multiple_of=multiple)
    elif step == "zeros":
        made, _ = sparsify(model, asked["sparsity"], scope="layer")
    elif step == "clusters":
        made, _ = cluster(model, asked["bits"], preserve_sparsity=True)
    settings = Settings.from_mapping({**tune, "seed": seed})
    held = [
        methods.build(name)
        for name, steps in (("keep_zeros", ZEROS), ("shared_weights", CLUSTERS))
        if set(steps).intersection(order)
    ]
    return fit(made, train, settings=settings, methods=held, verbose=False).model
