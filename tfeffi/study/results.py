"""One schema for everything measured: `Result`, written as `result.json` by the program that measured.

    {"name", "command", "commit", "date", "hardware": {...}, "versions": {...},
     "rows": [{"name", "accuracy_mean", "p50_ms", ...}]}

A row is a flat record: its name, and what was measured, with the unit in the key (`_ms`, `_seconds`,
`_mb`, `bytes`). Accuracies are fractions. What was not measured is absent, never null and never 0.
"""

import dataclasses
import datetime
import json
import math
import os
import pathlib
import re
from typing import Any

from tfeffi import files
from tfeffi.errors import BadInput, near
from tfeffi.study import machine
from tfeffi.study.machine import hardware, versions

__all__ = ["Result", "ResultError", "hardware", "versions"]

_HARDWARE = {"cpu": str, "cores": int, "memory_gb": (int, float), "accelerator": str}
_KEY = re.compile(r"[a-z][a-z0-9_]*")
_NAMES = {str: "a string", int: "an integer", list: "a list", dict: "an object"}


class ResultError(BadInput):
    """A result, or a file that should hold one, breaks the schema."""


@dataclasses.dataclass
class Result:
    """What one program measured, and on what.

    Attributes:
        name: of the experiment.
        command: that measured it, without absolute paths.
        date: when it began, ISO 8601, UTC.
        hardware: see `hardware()`.
        versions: see `versions()`.
        rows: one dictionary a measured thing, in the order they were first added.
        commit: of tfeffi's source; None where it does not run from its own checkout.

    Example:
        result = Result.new("demo")
        result.add_row(name="baseline", accuracy_mean=0.91, p50_ms=1.2, bytes=2_345_678)
        result.write("runs/demo/result.json")
    """

    name: str
    command: str
    date: str
    hardware: dict[str, Any]
    versions: dict[str, str]
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    commit: str | None = None

    @classmethod
    def new(cls, name: str, command: str | None = None) -> "Result":
        """An empty result of this process, now; `command` is what started it, unless given."""
        now = datetime.datetime.now(datetime.timezone.utc)
        return cls(
            name=name,
            command=machine.without_paths(command) if command else machine.command(),
            date=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            hardware=hardware(),
            versions=versions(),
            commit=machine.commit(),
        )

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Result":
        """Reads a file written by `write`.

        Raises:
            ResultError: it is missing, is not JSON, or breaks the schema; the message says where.
        """
        path = pathlib.Path(path)
        try:
            value = json.loads(path.read_text())
        except FileNotFoundError:
            raise ResultError(
                f'"{path}" does not exist; a finished run writes it, e.g. `make demo`'
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ResultError(f'"{path}" cannot be read: {error}') from None
        except json.JSONDecodeError as error:
            raise ResultError(f'"{path}" is not JSON: {error}; measure it again') from None
        try:
            return cls._from_json(value)
        except ResultError as error:
            raise ResultError(f'"{path}": {error}') from None

    @classmethod
    def _from_json(cls, value: Any) -> "Result":
        if not isinstance(value, dict):
            raise ResultError(f"a result is a JSON object, not {_kind(value)}")
        fields = [field.name for field in dataclasses.fields(cls)]
        for key in value:
            if key not in fields:
                raise ResultError(f'unknown key "{key}"; {near(key, fields)}')
        kinds = {"hardware": dict, "versions": dict, "rows": list}
        for key in fields:
            if key == "commit" and key not in value:
                continue
            _expect(value, key, kinds.get(key, str))
        for key, kind in _HARDWARE.items():
            _expect(value["hardware"], key, kind, "hardware.")
        rows, result = value["rows"], cls(**{**value, "rows": []})
        for index, row in enumerate(rows):
            if not isinstance(row, dict) or not isinstance(row.get("name"), str):
                raise ResultError(f'rows[{index}] must be an object with a "name"')
            if any(row["name"] == other["name"] for other in result.rows):
                raise ResultError(f'rows[{index}]: there are two rows "{row["name"]}"')
            result.add_row(**row)
        return result

    def add_row(self, /, *, name: str, **measured: Any) -> dict[str, Any]:
        """Adds a row, in place of the one of the same name if there is one.

        Args:
            name: what the row is about, unique in the result.
            **measured: finite numbers, strings, or lists and dictionaries of such; numpy scalars
                become Python's. Units are in the key; accuracies are fractions.

        Returns:
            The row.

        Raises:
            ResultError: a value is None (leave the key out), NaN, infinite, or no JSON.
        """
        if not isinstance(name, str) or not name.strip():
            raise ResultError(f"a row needs a name, not {name!r}")
        row = {"name": name}
        for key, value in measured.items():
            if not _KEY.fullmatch(key):
                raise ResultError(
                    f'row "{name}": key "{key}" must be lower case with underscores, its unit last'
                )
            row[key] = _checked(value, f'row "{name}": {key}')
        for key in ("accuracy", "accuracy_mean"):
            if key in row and not (_is_number(row[key]) and 0 <= row[key] <= 1):
                raise ResultError(
                    f'row "{name}": {key}={row[key]} must be a fraction between 0 and 1'
                )
        for index, other in enumerate(self.rows):
            if other["name"] == name:
                self.rows[index] = row
                return row
        self.rows.append(row)
        return row

    def row(self, name: str) -> dict[str, Any]:
        """The row of that name; ResultError names the near ones if there is none."""
        for row in self.rows:
            if row["name"] == name:
                return row
        known = near(name, [row["name"] for row in self.rows]) if self.rows else "it has no rows"
        raise ResultError(f'result "{self.name}" has no row "{name}"; {known}')

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values, in the order of the schema; an unknown commit is absent."""
        order = ("name", "command", "commit", "date", "hardware", "versions", "rows")
        return {key: getattr(self, key) for key in order if getattr(self, key) is not None}

    def write(self, path: str | os.PathLike) -> None:
        """Writes the result as JSON, whole or not at all, in place of what was there.

        What is written can be read: a result that breaks the schema raises ResultError here.
        """
        self._from_json(self.to_json())
        files.write_json(path, self.to_json())


def _checked(value: Any, where: str) -> Any:
    """`value` as plain JSON, or ResultError."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a numpy scalar
        value = value.item()
    if value is None:
        raise ResultError(f"{where} is None; a key that was not measured is left out")
    if isinstance(value, float) and not math.isfinite(value):
        raise ResultError(f"{where} is {value}; a result holds finite numbers")
    if isinstance(value, dict):
        return {str(key): _checked(v, f"{where}.{key}") for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_checked(v, f"{where}[{index}]") for index, v in enumerate(value)]
    if isinstance(value, (str, bool, int, float)):
        return value
    raise ResultError(f"{where} is {_kind(value)}; a result holds numbers and strings")


def _expect(value: dict[str, Any], key: str, kind, prefix: str = "") -> None:
    if key not in value:
        raise ResultError(f'key "{prefix}{key}" is missing')
    if not isinstance(value[key], kind) or isinstance(value[key], bool):
        wanted = _NAMES.get(kind, "a number")
        raise ResultError(f'key "{prefix}{key}" must be {wanted}, not {_kind(value[key])}')


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
