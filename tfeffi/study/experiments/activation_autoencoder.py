"""Activation-based pruning of the MNIST autoencoder, and how far its widths can go at no loss.

Trained networks are kept as files beside the cells, so that timing is a stage of its own
(`config.timing`), all files in one interleaved run.
"""

import base64
import pathlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfeffi import bench, data, export, files, models
from tfeffi.analysis.cost import cost
from tfeffi.compress.prune.cycles import prune_cycle
from tfeffi.compress.prune.widths import prune_to_widths
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.study.results import Result
from tfeffi.train import Settings, evaluate, fit

LAYERS = ("encoder1_conv", "encoder2_conv", "decoder1_conv")
SHOWN = 8  # test images, the first of each of so many classes
PARENT = "unpruned"


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """A row a network: over the seeds what it has lost, its widths and its costs.

    Args:
        config: of configs/activation_autoencoder.py.
        cells: where trained networks are kept.
    """
    bench_ = _Bench(config, cells)
    rows: dict[str, dict[str, Any]] = {}
    for name in (PARENT, *config["networks"]):
        seeds = config["networks"].get(name, {}).get("seeds", config["seeds"])
        rows[name] = {"name": name, **_row([bench_.cell(name, seed) for seed in seeds])}
    for name, times in bench_.times().items():
        rows[name] |= times
    yield {"name": "test images", "digits": pack(bench_.shown)}
    yield from rows.values()


def _row(found: list[dict[str, Any]]) -> dict[str, Any]:
    row = spread([{k: v for k, v in cell.items() if k != "cycles"} for cell in found])
    row["widths"] = [cell["widths"] for cell in found]
    row["cycles"] = [cell["cycles"] for cell in found if "cycles" in cell]
    if not row["cycles"]:
        del row["cycles"]
    row["digits"] = found[0]["digits"]
    return row


class _Bench:
    """The data, and one network a (name, seed), trained once."""

    def __init__(self, config: Mapping[str, Any], cells: Cells):
        self.config, self.cells = config, cells
        self.train = data.load(config["data"]["name"], config["data"]["train"])
        self.test = data.load(config["data"]["name"], config["data"]["test"])
        classes = [int(np.flatnonzero(self.test.labels == c)[0]) for c in range(SHOWN)]
        self.shown = self.test.images[classes]

    def file(self, name: str, seed: int, suffix: str = ".keras") -> pathlib.Path:
        stem = "_".join(name.replace(",", "").split())
        return self.cells.workdir / "networks" / f"{stem}_{seed}{suffix}"

    def settings(self, name: str, seed: int, epochs: int) -> Settings:
        spec = self.config["networks"].get(name, {})
        values = {**self.config["train"], **spec.get("train", {}), "epochs": epochs, "seed": seed}
        return Settings.from_mapping(values)

    def cell(self, name: str, seed: int) -> dict[str, Any]:
        spec = dict(self.config["networks"].get(name, {}))
        if spec.get("parent", PARENT) != name and spec.get("kind") != "trained":
            spec["parent_cell"] = self.cell(spec.get("parent", PARENT), seed)["test_mse"]
        return self.cells.once(
            f"{name}, seed {seed}", lambda **_: self.made(name, seed), seed=seed, spec=spec,
            common={k: self.config[k] for k in ("data", "model", "train", "first_epochs")},
        )  # fmt: skip

    def made(self, name: str, seed: int) -> dict[str, Any]:
        """Trains or prunes a network, saves it, and says how it does."""
        spec = self.config["networks"].get(name, {"kind": "trained"})
        model, told = {"trained": self.trained, "cycles": self.cycled, "widths": self.narrowed}[
            spec["kind"]
        ](name, spec, seed)
        with files.replacing(self.file(name, seed)) as temporary:
            model.save(temporary)
        counted = cost(model, self.train.images.shape[1:])
        widths = [model.get_layer(layer).filters for layer in LAYERS]
        return {
            "test_mse": evaluate(model, self.test, "reconstruction")["loss"],
            "macs": counted.macs,
            "params": counted.params,
            "widths": widths,
            **dict(zip(("encoder1", "encoder2", "decoder1"), widths, strict=True)),
            **told,
            "digits": pack(decoded(model, self.shown)),
        }

    # ------------------------------------------------------------ three kinds of networks

    def trained(self, name, spec, seed) -> tuple[keras.Model, dict[str, Any]]:
        """From fresh weights."""
        keras.utils.set_random_seed(seed)
        values = {**self.config["model"], **spec.get("model", {})}
        model = models.build(values.pop("name"), **values)
        epochs = self.config["first_epochs"]
        made = fit(model, self.train, settings=self.settings(name, seed, epochs), verbose=False)
        return made.model, {"epochs": epochs, "train_macs": made.train_macs}

    def cycled(self, name, spec, seed) -> tuple[keras.Model, dict[str, Any]]:
        """`prune_cycle`; the parent's training is the first cycle, but for a penalty."""
        before = self.cell(spec.get("parent", PARENT), seed)
        parent = models.saved.load(self.file(spec.get("parent", PARENT), seed))
        told = {"epochs": before["epochs"], "train_macs": before["train_macs"]}

        def train(model, cycle):
            if cycle == 1 and "l1" not in spec:
                return model
            settings = self.settings(name, seed + 1000 * cycle, spec["cycle_epochs"])
            made = fit(model, self.train, settings=settings, verbose=False)
            told["epochs"] += spec["cycle_epochs"]
            told["train_macs"] += made.train_macs
            return made.model

        small, report = prune_cycle(
            parent, self.train, train, variant=spec["variant"], seed=seed,
            **{k: spec[k] for k in ("max_cycles", "min_cycles", "l1", "alpha") if k in spec},
        )  # fmt: skip
        return small, {**told, "cycles": report.settings["cycles"]}

    def narrowed(self, name, spec, seed) -> tuple[keras.Model, dict[str, Any]]:
        """The most active channels stay, step by step, each step trained on; or all channels."""
        before = self.cell(PARENT, seed)
        model = models.saved.load(self.file(PARENT, seed))
        told = {"epochs": before["epochs"], "train_macs": before["train_macs"]}
        for index, step in enumerate(spec["steps"]):
            if "widths" in step:
                wanted = dict(zip(LAYERS, step["widths"], strict=True))
                model, _ = prune_to_widths(
                    model, wanted, data=self.train, importance=spec["importance"]
                )
            settings = self.settings(name, seed + 1000 * (index + 1), step["epochs"])
            made = fit(model, self.train, settings=settings, verbose=False)
            model = made.model
            told["epochs"] += step["epochs"]
            told["train_macs"] += made.train_macs
        return model, told

    # ------------------------------------------------------------ time

    def times(self) -> dict[str, dict[str, Any]]:
        """Latencies of the first seed's files, interleaved, if the config asks for them."""
        if not self.config["timing"]:
            return {}
        seed, names = self.config["seeds"][0], [PARENT, *self.config["networks"]]
        paths = [self.file(name, seed, ".tflite") for name in names]
        for name, path in zip(names, paths, strict=True):
            if files.is_older(path, source := self.file(name, seed)):
                path.unlink(missing_ok=True)
                export(models.saved.load(source), path)
        clock = self.config["clock"]
        found = self.cells.once(
            "timing", lambda **_: bench.compare(paths, **clock).to_json(), clock=clock,
            networks={name: self.cell(name, seed) for name in names},
        )  # fmt: skip
        rows = found["rows"]
        full = self.config["model"]["widths"]
        return {
            name: {key: row[key] for key in _TIMES if key in row}
            | {"ratio_to": PARENT}
            | ({"faster": row["ratio"] < 1} if self.widths(name, seed) != list(full) else {})
            for name, row in zip(names, rows, strict=True)
        }

    def widths(self, name: str, seed: int) -> list[int]:
        """What a network was left."""
        return self.cell(name, seed)["widths"]


_TIMES = (
    "p50_ms", "p90_ms", "ratio", "ratio_low", "ratio_high", "bytes", "runs", "threads", "device",
)  # fmt: skip


def decoded(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Reconstructions of uint8 images, rounded to uint8."""
    answer = np.asarray(model(images / np.float32(255), training=False))
    return np.clip(np.rint(answer * 255), 0, 255).astype(np.uint8)


def pack(images: np.ndarray) -> str:
    """Images (n, 28, 28, 1) uint8 as text, small enough for a result file."""
    return base64.b64encode(zlib.compress(images.tobytes(), 9)).decode()


def unpack(text: str) -> np.ndarray:
    """The images again: (n, 28, 28)."""
    raw = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return raw.reshape(-1, 28, 28)


def draw(result: Result, path: str) -> None:
    """The images and their reconstructions, a row a network; beside them widths and losses."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in result.rows if row["name"] not in _NOT_SHOWN]
    figure = Figure(figsize=(11, 0.66 * len(rows)), dpi=160)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1, 2, width_ratios=(1.0, 0.8), wspace=0.05)
    panel = figure.add_subplot(grid[0])
    strips = [np.concatenate(list(unpack(row["digits"])), axis=1) for row in rows]
    panel.imshow(255 - np.concatenate(strips), cmap="gray", aspect="auto", vmin=0, vmax=255)
    panel.set_yticks([28 * i + 14 for i in range(len(rows))], [row["name"] for row in rows])
    panel.set_xticks([])
    panel.tick_params(length=0, labelsize=8)
    losses = figure.add_subplot(grid[1])
    for place, row in enumerate(rows):
        if "test_mse_mean" not in row:
            continue
        losses.errorbar(
            row["test_mse_mean"], place, xerr=row.get("test_mse_std", 0), fmt="o", ms=4,
            color="#0b62d6" if row["name"] != "ours" else "#c4500c",
        )  # fmt: skip
        means = [f"{row[f'{one}_mean']:g}" for one in ("encoder1", "encoder2", "decoder1")]
        text = f"[{', '.join(means)}]  {row['macs_mean'] / 1e3:,.0f} kMAC"
        losses.annotate(text, (row["test_mse_mean"], place), (0, 5), textcoords="offset points",
                        ha="center", fontsize=7)  # fmt: skip
    losses.set_ylim(len(rows) - 0.5, -0.5)
    losses.set_xscale("log")
    losses.margins(x=0.35)
    losses.set_yticks([])
    losses.grid(axis="x", color="#e6eaee")
    losses.tick_params(labelsize=8, which="both")
    losses.set_xlabel("mean squared error a pixel, test images", fontsize=8)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight")


_NOT_SHOWN = ("ReLU output, vanilla",)
