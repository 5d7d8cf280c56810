"""PruneTrain and Net2Net against the dense run of the same recipe: MACs, seconds, accuracy.

Variants of one group train side by side, an epoch in turn, so that their times can be compared; the
first one of a group is the dense run that the others are held against, seed by seed.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tfeffi.study import pictures
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.study.results import Result
from tfeffi.study.together import train_together

REMOVED = {  # what a method saves, by the column of which it is a share
    "train_macs_removed": "train_macs", "train_seconds_removed": "train_seconds",
    "all_seconds_removed": "all_seconds", "macs_removed": "macs", "params_removed": "params",
}  # fmt: skip
MEASURES = {
    "train_macs": ("multiply-adds of training", 1e-15, "10¹⁵"),
    "macs": ("multiply-adds of an image", 1e-6, "millions"),
    "seconds": ("seconds of training", 1, "s"),
    "validation_accuracy": ("test accuracy", 100, "%"),
}


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """A row for each variant, group by group.

    Args:
        config: of configs/prunetrain.py.
        cells: where each group of a seed is kept; its trainings go on in folders beside it.
    """
    for group, section in config["groups"].items():
        specs = {name: _spec(config, variant) for name, variant in section["variants"].items()}
        trained = [
            cells.once(
                f"{group} seed {seed}", functools.partial(_train, cells, group), variants=specs,
                seed=seed,
            )
            for seed in section["seeds"]
        ]  # fmt: skip
        dense = next(iter(specs))
        for name, spec in specs.items():
            seeds, bases = ([one[key] for one in trained] for key in (name, dense))
            yield _row(name, group, dense, spec, seeds, bases)


def _spec(config: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """What a variant trains: the config's sections with its own values over them."""
    return {
        "data": dict(config["data"]),
        "model": {**config["model"], **variant.get("model", {})},
        "train": {**config["train"], **variant.get("train", {})},
        "methods": [dict(values) for values in variant.get("methods", ())],
    }


def _train(cells: Cells, group: str, *, variants, seed) -> dict[str, Any]:
    specs = {}
    for name, spec in variants.items():
        digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
        folder = cells.workdir / "trained" / f"{group}_{name}_{seed}_{digest}".replace(" ", "_")
        specs[name] = {**spec, "seed": seed, "workdir": str(pathlib.Path(folder).absolute())}
    say = functools.partial(print, flush=True) if cells.verbose else lambda line: None
    return train_together(specs, say)


def _row(name, group, dense, spec, seeds, bases) -> dict[str, Any]:
    measured = [_with_totals(one) for one in seeds]
    for one, base in zip(measured, map(_with_totals, bases), strict=True):
        if name != dense:
            one |= {key: 1 - one[column] / base[column] for key, column in REMOVED.items()}
            one["difference"] = one["accuracy"] - base["accuracy"]
    row = {
        "name": name, "group": group, "dataset": f"{spec['data']['name']} {spec['data']['test']}",
        "epochs": spec["train"]["epochs"], "batch_size": spec["train"]["batch_size"],
        **spread(measured), "history": seeds[0]["history"],
    }  # fmt: skip
    if name != dense:
        row |= {"ratio_to": dense, "methods": [values["name"] for values in spec["methods"]]}
    return row


def _with_totals(one: Mapping[str, Any]) -> dict[str, Any]:
    both = one["train_seconds"] + one["compile_seconds"]
    return {key: v for key, v in one.items() if key != "history"} | {"all_seconds": both}


def draw(result: Result, path: str) -> None:
    """The four measures after each epoch of the first seed: a row of panels for each group."""
    groups = list(dict.fromkeys(row["group"] for row in result.rows))
    with pictures.figure(path, (11, 2.6 * len(groups))) as drawn:
        panels = drawn.subplots(len(groups), len(MEASURES), squeeze=False)
        for group, line in zip(groups, panels, strict=True):
            rows = [row for row in result.rows if row["group"] == group]
            for panel, (column, (label, factor, unit)) in zip(line, MEASURES.items(), strict=True):
                for number, row in enumerate(rows):
                    values = [factor * value for value in _epochs(row, column)]
                    is_dense = "ratio_to" not in row
                    colour = pictures.SOFT if is_dense else pictures.COLOURS[number - 1]
                    style = "--" if is_dense else "-"
                    panel.plot(range(1, len(values) + 1), values, style, color=colour,
                               label=row["name"], linewidth=1.2)  # fmt: skip
                panel.set_title(f"{label}, {unit}", loc="left")
                panel.set_xlabel("epoch")
                if column != "validation_accuracy":
                    panel.set_ylim(bottom=0)
            line[0].legend(fontsize=6.5)


def _epochs(row: Mapping[str, Any], column: str) -> list[float]:
    """The values of a column after each epoch; a dense model is the same throughout."""
    if column in row["history"]:
        return row["history"][column]
    return [row[f"{column}_mean"]] * row["epochs"]
