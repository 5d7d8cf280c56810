"""A config file as an experiment: replicates of one training, and their row in `result.json`.

config.name       what the row is called
config.seed       of the first replicate; the others count up from it
config.replicates how many
config.data       {name, train, test, validation?, data_dir?, image_size?}   TFDS splits
config.model      {name, ...}     a file of tfeffi/models and the arguments of its build
config.train      the fields of `tfeffi.train.Settings`
config.methods    [{name, ...}]   folders of tfeffi/methods, in order
"""

import dataclasses
import hashlib
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfeffi import data, files, methods, models
from tfeffi.analysis.cost import cost
from tfeffi.errors import BadInput, check_keys, near
from tfeffi.study.results import Result
from tfeffi.train import losses
from tfeffi.train.evaluation import score
from tfeffi.train.loop import Trained, begin, fit
from tfeffi.train.settings import Settings
from tfeffi.train.state import check_batch_size

SECTIONS = ("name", "seed", "replicates", "data", "model", "train", "methods")


@dataclasses.dataclass(frozen=True)
class Splits:
    """The images of an experiment."""

    train: data.Images
    validation: data.Images | None
    test: data.Images


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config (ConfigDict or mapping) as plain, complete values; BadInput if a section is off."""
    values = dict(config.to_dict() if hasattr(config, "to_dict") else config)
    for key in values:
        if key not in (*SECTIONS, "variants"):
            raise BadInput(f'config: unknown section "{key}"; {near(key, SECTIONS)}')
    check_sections(values)
    values = {"seed": 0, "replicates": 1, "methods": ()} | values
    for key, least in (("seed", 0), ("replicates", 1)):
        check_whole(key, values[key], least)
    return values


def check_sections(config: Mapping[str, Any]) -> None:
    """Raises BadInput unless a config has name, data, model and train, and methods that have names."""
    for key in ("name", "data", "model", "train"):
        if key not in config:
            raise BadInput(
                f'config: section "{key}" is missing; a config has {", ".join(SECTIONS)}'
            )
    if not isinstance(config["train"], Mapping):
        raise BadInput(f"config: section train={config['train']!r} must be a mapping")
    if "seed" in config["train"]:
        raise BadInput(
            f"config: train.seed={config['train']['seed']!r} would not be used: every replicate has its "
            "own; set config.seed, or a strategy's seeds"
        )
    methods = config.get("methods", ())
    if not isinstance(methods, list | tuple):
        raise BadInput(f'config: methods={methods!r} must be a list of {{"name": ...}}')
    named = [("data", config["data"]), ("model", config["model"])]
    for key, section in (*named, *(("methods", spec) for spec in methods)):
        if not isinstance(section, Mapping) or "name" not in section:
            raise BadInput(f'config: section {key}={section!r} needs a "name"')


def check_whole(key: str, value: Any, least: int) -> None:
    """Raises BadInput unless `config.KEY` is a whole number from `least` on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadInput(f"config: {key}={value!r} must be a whole number of at least {least}")


def name_of(config: Mapping[str, Any]) -> str:
    """How a run names itself: its config's name and the first digits of its config's hash."""
    text = json.dumps(plain(config), sort_keys=True, default=str)
    return f"{config['name']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def load_splits(section: Mapping[str, Any]) -> Splits:
    """The images of `config.data`."""
    rest = dict(section)
    name = rest.pop("name")
    splits = {key: rest.pop(key, None) for key in ("train", "validation", "test")}
    check_keys("config.data", rest, ["train", "validation", "test", "data_dir", "image_size"])
    loaded = {k: data.load(name, s, **rest) for k, s in splits.items() if s}
    for key in ("train", "test"):
        if key not in loaded:
            raise BadInput(f'config.data: no "{key}" split')
    return Splits(loaded["train"], loaded.get("validation"), loaded["test"])


def build_model(section: Mapping[str, Any], images: data.Images) -> keras.Model:
    """The model of `config.model`, for images like these."""
    rest = dict(section)
    if "num_classes" not in rest and not rest["name"].endswith("autoencoder"):
        rest["num_classes"] = images.num_classes
    return models.build(rest.pop("name"), input_shape=images.images.shape[1:], **rest)


def rehearse(config: Mapping[str, Any], images: data.Images) -> None:
    """All of a training up to its first step, so that what cannot be trained is told before hours of it.

    Args:
        config: with the sections model, train and methods.
        images: that it is to train on.

    Raises:
        BadInput: whatever `fit` would raise before its first step.
    """
    check_sections({"name": "", **config})
    settings = Settings.from_mapping(config["train"])
    check_batch_size(
        settings.batch_size, len(images), tf.distribute.get_strategy(), settings.ghost_batch
    )
    chosen = [methods.build(**spec) for spec in config["methods"]]
    model = build_model(config["model"], images)
    losses.check_outputs(model, settings.loss, images.images.shape[1:], images.num_classes)
    begin(model, images, None, settings, chosen)


def run(config: Mapping[str, Any], workdir: str | pathlib.Path, verbose: bool = True) -> Result:
    """Trains every replicate of a config and writes `workdir/result.json`.

    Args:
        config: as above.
        workdir: replicate r trains in `workdir/replicate_r`; what is finished there is not repeated.
        verbose: whether progress is shown.

    Returns:
        The result, one row.

    Raises:
        BadInput: a config, data set or model that cannot be used.
    """
    config, workdir = plain(config), pathlib.Path(workdir)
    splits = load_splits(config["data"])
    trained = [
        train_replicate(config, splits, workdir / f"replicate_{r}", config["seed"] + r, verbose)
        for r in range(config["replicates"])
    ]
    files.write_json(workdir / "config.json", json.loads(json.dumps(config, default=str)))
    result = Result.new(config["name"])
    result.add_row(name=config["name"], **measure(trained, splits.test, config["train"]))
    result.write(workdir / "result.json")
    return result


def train_replicate(
    config: Mapping[str, Any],
    splits: Splits,
    workdir: pathlib.Path,
    seed: int,
    verbose: bool = True,
) -> Trained:
    """Builds and trains the model of one seed."""
    settings = Settings.from_mapping({**config["train"], "seed": seed})
    keras.utils.set_random_seed(seed)
    model = build_model(config["model"], splits.train)
    chosen = [methods.build(**spec) for spec in config["methods"]]
    return fit(
        model, splits.train, splits.validation, settings, methods=chosen, workdir=workdir,
        verbose=verbose,
    )  # fmt: skip


def measure(
    trained: list[Trained], test: data.Images, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The row of a list of replicates: test accuracy (or loss) and what it cost, mean and spread.

    Multiply-adds, parameters and epochs have a spread only where methods make them differ.
    """
    loss, views = settings.get("loss", "cross_entropy"), settings.get("test_views", "one")
    scores = [score(t.model, test, loss, views) for t in trained]
    counted = [cost(t.model, test.images.shape[1:]) for t in trained]
    columns = {
        "train_seconds": [t.train_seconds for t in trained],
        "compile_seconds": [t.compile_seconds for t in trained],
        **{key: [s[key] for s in scores] for key in scores[0]},
    }
    row = {
        "dataset": f"{test.name} {test.split}",
        "n": len(trained),
        **counted_once("epochs", [len(t.history) for t in trained]),
    } | ({} if views == "one" else {"test_views": views})
    for key, values in columns.items():
        row[f"{key}_mean"] = statistics.fmean(values)
        if len(values) > 1:
            row[f"{key}_std"] = statistics.stdev(values)
    return row | {
        **counted_once("train_macs", [t.train_macs for t in trained]),
        **counted_once("params", [c.params for c in counted]),
        **counted_once("macs", [c.macs for c in counted]),
        **counted_once("weight_bytes", [c.bytes for c in counted]),
        "peak_memory_mb": max(t.peak_memory_mb for t in trained),
    }


def counted_once(key: str, values: Sequence[int]) -> dict[str, float]:
    """`{key: the value}` that all have; where they differ, their mean, and `KEY_std` beside it."""
    if len(set(values)) == 1:
        return {key: values[0]}
    return {key: statistics.fmean(values), f"{key}_std": statistics.stdev(values)}
