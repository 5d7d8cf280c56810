"""Experiments that are more than one model and its variants: one file each, found by name.

A config with `experiment = "NAME"` is run by `tfeffi/study/experiments/NAME.py`:

    measure(config, cells)   yields the rows of the result; long work goes through `cells.once`
    draw(result, path)       if it has a picture of its own

`tfeffi-experiment --config=configs/NAME.py` is the tool.
"""

import importlib
import os
import pathlib
import pkgutil
import shutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tfeffi import files
from tfeffi.errors import BadInput, near
from tfeffi.study import figure, runs
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.study.results import Result

__all__ = ["Cells", "draw", "find", "name_of", "names", "run", "spread", "write"]


def names() -> list[str]:
    """The experiments there are."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in found if name != "cells"]


def find(config: Mapping[str, Any]) -> ModuleType:
    """The module that runs a config; BadInput if none does."""
    name = config.get("experiment")
    if name not in names():
        raise BadInput(f'config: no experiment "{name}"; {near(str(name), names())}')
    return importlib.import_module(f"{__name__}.{name}")


def name_of(config: Mapping[str, Any]) -> str:
    """What the result of a config is called; BadInput if it has no name."""
    if not isinstance(config.get("name"), str):
        raise BadInput('config: give it a "name"; the result is called so')
    return config["name"]


def run(config: Mapping[str, Any], workdir: str | pathlib.Path, verbose: bool = True) -> Result:
    """Runs a config's experiment.

    Args:
        config: a ConfigDict or mapping with "name", "experiment" and what that one reads.
        workdir: where measured cells are kept, so that a killed run goes on where it was.
        verbose: whether a line is printed for each cell.

    Returns:
        The result, also written to `workdir/result.json`.

    Raises:
        BadInput: no such experiment, or a value in the config that it cannot use.
    """
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    module = find(values)
    result = Result.new(name_of(values))
    for row in module.measure(values, Cells(workdir, verbose)):
        result.add_row(**row)
    result.write(pathlib.Path(workdir) / "result.json")
    return result


def write(result: Result, workdir: str | pathlib.Path, output: str | pathlib.Path) -> None:
    """Writes a result elsewhere too, and beside it the files that its rows name ("file").

    Args:
        result: of `run`.
        workdir: that of the run, where these files are.
        output: the path of the JSON file.
    """
    for name in (row["file"] for row in result.rows if "file" in row):
        with files.replacing(pathlib.Path(output).with_name(name)) as temporary:
            shutil.copyfile(pathlib.Path(workdir) / name, temporary)
    result.write(output)


def draw(kind: str, result: Result, path: str | os.PathLike) -> None:
    """Draws an experiment's own picture of a result, which it remembers if it is a PNG.

    Args:
        kind: "experiment" of the config.
        result: of `run`.
        path: of the picture; an older one is replaced.

    Raises:
        BadInput: no such experiment, or it has no picture.
    """
    module = find({"experiment": kind})
    if not hasattr(module, "draw"):
        raise BadInput(f'experiment "{kind}" has no picture of its own')
    module.draw(result, str(path))
    figure.stamp(path, figure.fingerprint(runs.of(result)))
