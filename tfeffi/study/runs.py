"""The runs of a report: result files, their training curves, and which of their rows may be compared."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from tfeffi.bench import profile_record
from tfeffi.errors import BadInput, near
from tfeffi.study import metrics, pareto
from tfeffi.study.results import Result

ACCURACY = "accuracy_mean"
COSTS = ("p50_ms", "train_seconds_mean", "train_macs_mean", "bytes")


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """One row of one run.

    Attributes:
        label: its name; with the run's before it if two runs have a row of that name.
        run: which run it is of.
        row: what was measured.
        baseline: the row that ratios are to.
        hardware: of the run.
    """

    label: str
    run: int
    row: dict[str, Any]
    baseline: dict[str, Any]
    hardware: dict[str, Any]

    @property
    def is_baseline(self) -> bool:
        """Whether it is the row that the others of its run are compared with."""
        return self.row is self.baseline

    def ratio(self, key: str) -> float | None:
        """How many times better than the baseline."""
        return metrics.ratio(self.row, self.baseline, key)

    def delta(self, key: str) -> float | None:
        """The value less the baseline's."""
        return metrics.delta(self.row, self.baseline, key)

    def peers(self, keys: Sequence[str]) -> tuple:
        """What must be the same in two rows before these figures of theirs may be compared."""
        same = [self.row.get("dataset", "")]
        machine = tuple(str(self.hardware[k]) for k in ("cpu", "cores", "accelerator"))
        if any(key.endswith("_ms") for key in keys):
            device = self.row.get("device", "host")
            same += [device, self.row.get("threads", 1)]
            if device == "host":
                same.append(machine)
        if any("seconds" in key for key in keys):
            same.append(machine)
        return tuple(same)


@dataclasses.dataclass(frozen=True)
class Curve:
    """The history of one training: a row an epoch."""

    name: str
    rows: list[dict[str, float]]

    def values(self, key: str) -> list[tuple[float, float]]:
        """(epoch, value) where the value was measured."""
        found = ((row.get("epoch", i + 1), row.get(key)) for i, row in enumerate(self.rows))
        return [(e, v) for e, v in found if metrics.is_number(v) and metrics.is_number(e)]


@dataclasses.dataclass(frozen=True)
class Study:
    """Everything a report shows.

    Attributes:
        results: one a run.
        names: one a run, all different.
        entries: the rows of all runs.
        curves: the trainings of all runs.
        notes: what could not be read, in a sentence each.
        profiles: of files in all runs' folders: a name and what `tfeffi-benchmark --profile` wrote.
    """

    results: list[Result]
    names: list[str]
    entries: list[Entry]
    curves: list[Curve]
    notes: list[str]
    profiles: list[tuple[str, dict[str, Any]]] = dataclasses.field(default_factory=list)

    def having(self, *keys: str) -> list[Entry]:
        """The entries where all of these were measured."""
        return [e for e in self.entries if all(metrics.is_number(e.row.get(k)) for k in keys)]

    def lacking(self, *keys: str) -> list[Entry]:
        """The other entries."""
        return [e for e in self.entries if e not in self.having(*keys)]

    def groups(self, *keys: str) -> list[list[Entry]]:
        """The entries where these were measured, those that may be compared together."""
        found: dict[tuple, list[Entry]] = {}
        for entry in self.having(*keys):
            found.setdefault(entry.peers(keys), []).append(entry)
        return list(found.values())

    def fronts(self, *costs: str) -> list[list[Entry]]:
        """The Pareto front of accuracy against costs in each group, the first cost ascending."""
        return [
            [
                group[i]
                for i in pareto.front([e.row for e in group], minimize=costs, maximize=[ACCURACY])
            ]
            for group in self.groups(ACCURACY, *costs)
        ]


def load(paths: Sequence[str | os.PathLike]) -> Study:
    """Reads runs.

    Args:
        paths: folders that hold `result.json` and, at any depth, `history.json` and `profile*.json`; or
            result files.

    Returns:
        The study.

    Raises:
        BadInput: a path is not there or holds no result; a result is broken (`ResultError`), or has
            no rows.
    """
    files = [_result_file(pathlib.Path(path)) for path in paths]
    if not files:
        raise BadInput("no runs; give --runs=FOLDER, e.g. --runs=runs/demo")
    for index, file in enumerate(files):
        if file.resolve() in {other.resolve() for other in files[:index]}:
            raise BadInput(f'run "{paths[index]}" is given twice')
    results = [Result.read(file) for file in files]
    for file, result in zip(files, results, strict=True):
        if not result.rows:
            raise BadInput(f'"{file}" has no rows; the run has not measured anything yet')
    names = _names(results, [pathlib.Path(path) for path in paths])
    return _study(results, names, [f.parent if f.name == "result.json" else None for f in files])


def of(result: Result) -> Study:
    """A result alone as a study."""
    return _study([result], [result.name], [None])


def _study(results: list[Result], names: list[str], folders: list) -> Study:
    entries, curves, notes, profiles = [], [], [], []
    all_names = [row["name"] for result in results for row in result.rows]
    for index, (result, name, folder) in enumerate(zip(results, names, folders, strict=True)):
        for row in result.rows:
            shared = all_names.count(row["name"]) > 1
            label = f"{name}/{row['name']}" if shared else row["name"]
            entries.append(Entry(label, index, row, _baseline(result, row), result.hardware))
        if folder is not None:
            prefix = f"{name}/" if len(results) > 1 else ""
            curves += _curves(folder, prefix, name, notes)
            profiles += _profiles(folder, prefix, notes)
    return Study(results, names, entries, curves, notes, profiles)


def _result_file(path: pathlib.Path) -> pathlib.Path:
    if path.is_file():
        return path
    if not path.exists():
        siblings = [found.parent.name for found in path.parent.glob("*/result.json")]
        hint = f"; {near(path.name, siblings)}" if siblings else ""
        raise BadInput(f'there is no run "{path}"{hint}')
    if not (path / "result.json").exists():
        inside = sorted(str(found.parent) for found in path.glob("*/result.json"))
        hint = "; its folders have: " + ",".join(inside) if inside else "; has the run finished?"
        raise BadInput(f'"{path}" holds no result.json{hint}')
    return path / "result.json"


def _names(results: list[Result], paths: list[pathlib.Path]) -> list[str]:
    """The results' names if they differ, else the last parts of the paths that tell them apart."""
    names = [result.name for result in results]
    if len(set(names)) == len(names):
        return names
    names = [path.absolute().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _baseline(result: Result, row: dict[str, Any]) -> dict[str, Any]:
    """The row that `ratio_to` names, else the first one."""
    named = [other for other in result.rows if other["name"] == row.get("ratio_to")]
    return named[0] if named else result.rows[0]


def _curves(folder: pathlib.Path, prefix: str, name: str, notes: list[str]) -> list[Curve]:
    """The histories below a run's folder, the run's own first."""
    found = []
    for path in sorted(folder.rglob("history.json"), key=lambda p: (len(p.parts), str(p))):
        inside = path.parent.relative_to(folder)
        label = prefix + inside.as_posix() if inside.parts else name
        try:
            rows = json.loads(path.read_text())["rows"]
            curve = Curve(label, [dict(row) for row in rows])
        except (OSError, ValueError, KeyError, TypeError):
            notes.append(f"The training curve of {label} cannot be read and is left out.")
            continue
        if curve.rows:
            found.append(curve)
    return found


def _profiles(folder: pathlib.Path, prefix: str, notes: list[str]) -> list[tuple[str, dict]]:
    """The profiles below a run's folder; other files of such a name are no profiles."""
    found = []
    for path in sorted(folder.rglob("profile*.json")):
        label = prefix + path.relative_to(folder).with_suffix("").as_posix()
        try:
            record = profile_record.read(path)
        except BadInput:
            notes.append(f"The profile {label} cannot be read and is left out.")
            continue
        if record is not None:
            found.append((label, record))
    return found
