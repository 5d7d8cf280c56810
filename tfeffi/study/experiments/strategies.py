"""Ways to train against each other: one recipe, a strategy a row, each over several seeds.

The strategies of a seed train side by side, an epoch in turn, so that their times can be compared; the
first one of a group is what the others are held against, seed by seed. What was killed goes on.

    strategies   {name: {"model": {...}, "train": {...}, "methods": (...)}}: what differs from the
                 config's own sections; another model's name replaces the whole section
    seeds        of each strategy
    groups       several of the above, each with its own first strategy: {name: {"seeds", "strategies"}}
    only         names of trainings ("GROUP seed 0", …): these alone; what is done stays done, so that
                 several processes may share the work in one folder
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tfeffi.data import Images
from tfeffi.errors import BadInput, check_keys, near
from tfeffi.study import pictures
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.study.results import Result
from tfeffi.study.together import train_together
from tfeffi.train import Settings, experiment
from tfeffi.train.settings import LOSSES

SECTIONS = ("model", "train", "methods")
OF_GROUP = ("seeds", "strategies")
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
    """A row for each strategy, group by group.

    Args:
        config: see the module's docstring.
        cells: where each group of a seed is kept; its trainings go on in folders beside it.

    Raises:
        BadInput: a section that cannot be trained; said of all of them before the first one begins.
    """
    groups = _groups(config)
    planned = {group: _specs(config, group, section) for group, section in groups.items()}
    asked = {
        group: [(f"{group} seed {seed}", {"variants": specs, "seed": seed})
                for seed in groups[group]["seeds"]]
        for group, specs in planned.items()
    }  # fmt: skip
    if not all(cells.has(name, **what) for cell in asked.values() for name, what in cell):
        plan(config, experiment.load_splits(config["data"]).train)
    for group, specs in planned.items():
        train = functools.partial(_train, cells, group)
        trained = [cells.once(name, train, **what) for name, what in asked[group]]
        first = next(iter(specs))
        for name, spec in specs.items():
            seeds, bases = ([one[key] for one in trained] for key in (name, first))
            yield _row(name, group, first, spec, seeds, bases)


def plan(config: Mapping[str, Any], images: Images) -> dict[str, dict[str, dict]]:
    """What each strategy of each group trains, as far as it can be known without a step.

    Args:
        config: see the module's docstring.
        images: like those that will train; every training is begun with them.

    Raises:
        BadInput: a strategy that cannot be trained; names it.
    """
    planned = {name: _specs(config, name, section) for name, section in _groups(config).items()}
    for specs in planned.values():
        for name, spec in specs.items():
            try:
                _begin(spec, images)
            except BadInput as error:
                raise BadInput(f'strategy "{name}": {error}') from error
    return planned


def _groups(config: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The sections by the name of their group; with `config.only` what is named there."""
    experiment.check_sections(config)
    known = ("name", "experiment", "only", "data", *SECTIONS, "groups", *OF_GROUP)
    check_keys("config", config, known)
    if config.get("groups") and (beside := [key for key in OF_GROUP if key in config]):
        raise BadInput(f'config: "{beside[0]}" beside "groups" is not read; put it into a group')
    groups = config.get("groups") or {
        config["name"]: {key: config[key] for key in OF_GROUP if key in config}
    }
    of: dict[str, str] = {}
    for group, section in groups.items():
        check_keys(f'config.groups: "{group}"', section, OF_GROUP)
        for name in section.get("strategies", ()):
            if name in of:
                raise BadInput(
                    f'strategy "{name}" is in groups "{of[name]}" and "{group}", a row of the result '
                    "each; name one of them otherwise"
                )
            of[name] = group
    if not (only := config.get("only")):
        return groups
    known = [f"{name} seed {seed}" for name in groups for seed in groups[name].get("seeds", ())]
    for one in only:
        if one not in known:
            raise BadInput(f'config.only: there is no "{one}"; {near(one, known)}')
    seeds = {
        name: tuple(seed for seed in section.get("seeds", ()) if f"{name} seed {seed}" in only)
        for name, section in groups.items()
    }
    return {name: {**groups[name], "seeds": kept} for name, kept in seeds.items() if kept}


def _begin(spec: Mapping[str, Any], images: Images) -> None:
    """Up to the first step."""
    experiment.check_sections({"name": "", **spec})
    settings = Settings.from_mapping(spec["train"])
    if settings.early_stopping is not None:
        raise BadInput("early_stopping would look at the test images; leave it out")
    if settings.evaluate_every != 1 or settings.loss != LOSSES[0]:
        raise BadInput(
            f'evaluate_every={settings.evaluate_every} and loss="{settings.loss}" must be 1 and '
            f'"{LOSSES[0]}": the accuracy after every epoch is measured'
        )
    experiment.rehearse(spec, images)


def _specs(config: Mapping[str, Any], group: str, section: Mapping[str, Any]) -> dict[str, dict]:
    """What each strategy of a group trains."""
    if not section.get("strategies") or not section.get("seeds"):
        raise BadInput(f'config: "{group}" needs "strategies" and "seeds", at least one of each')
    specs = {}
    for name, changes in section["strategies"].items():
        check_keys(f'strategy "{name}"', changes, SECTIONS)
        specs[name] = _spec(config, changes)
    return specs


def _spec(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config's sections with a strategy's own values over them."""
    model, own = config["model"], changes.get("model", {})
    return {
        "data": dict(config["data"]),
        "model": dict(own) if own.get("name", model["name"]) != model["name"] else {**model, **own},
        "train": {**config["train"], **changes.get("train", {})},
        "methods": [dict(values) for values in changes.get("methods", config.get("methods", ()))],
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
    settings = Settings.from_mapping(spec["train"])
    row = {
        "name": name, "group": group, "dataset": f"{spec['data']['name']} {spec['data']['test']}",
        "epochs": settings.epochs, "batch_size": settings.batch_size,
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
                    turn, colour = divmod(number - 1, len(pictures.COLOURS))
                    colour = pictures.SOFT if is_dense else pictures.COLOURS[colour]
                    style = "--" if is_dense else ("-", ":", "-.")[turn % 3]
                    panel.plot(range(1, len(values) + 1), values, style, color=colour,
                               label=row["name"], linewidth=1.2)  # fmt: skip
                panel.set_title(f"{label}, {unit}", loc="left")
                panel.set_xlabel("epoch")
                panel.xaxis.get_major_locator().set_params(integer=True)
                if column != "validation_accuracy":
                    panel.set_ylim(bottom=0)
            line[0].legend(fontsize=6.5)


def _epochs(row: Mapping[str, Any], column: str) -> list[float]:
    """The values of a column after each epoch; a model whose channels stay is the same throughout."""
    return row["history"].get(column) or [row[f"{column}_mean"]] * row["epochs"]
