"""What a long experiment has measured already: one JSON file a cell, so that nothing runs twice."""

import hashlib
import json
import pathlib
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tfeffi import files


class Cells:
    """The cells of an experiment, kept in `workdir/cells`.

    Args:
        workdir: of the experiment.
        verbose: whether a line is printed for each cell.
    """

    def __init__(self, workdir: str | pathlib.Path, verbose: bool = True):
        self.workdir, self.verbose = pathlib.Path(workdir), verbose

    def once(self, name: str, measure: Callable[..., dict], /, **arguments: Any) -> dict:
        """`measure(**arguments)`, or what it said the last time it was asked just that.

        Args:
            name: of the cell, for people.
            measure: gives a dictionary of JSON values.
            arguments: JSON values, all that the answer depends on; another value is another cell.

        Returns:
            The dictionary, as read back from JSON.
        """
        path = self._path(name, arguments)
        if not path.exists():
            began = time.perf_counter()
            value = measure(**arguments)
            files.write_json(path, value)
            if self.verbose:
                print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        return json.loads(path.read_text())

    def has(self, name: str, /, **arguments: Any) -> bool:
        """Whether `once` would read the answer back."""
        return self._path(name, arguments).exists()

    def _path(self, name: str, arguments: Mapping[str, Any]) -> pathlib.Path:
        text = json.dumps([name, arguments], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.workdir / "cells" / f"{re.sub(r'[^A-Za-z0-9.]+', '_', name)}-{digest}.json"


def spread(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Seeds to a row: for each number that all cells have its mean and sample standard deviation.

    Args:
        cells: one dictionary a seed.

    Returns:
        n, and KEY_mean and KEY_std for each KEY; the deviation is absent for one seed.

    Example:
        spread([{"accuracy": 0.5}, {"accuracy": 0.7}])
        # {"n": 2, "accuracy_mean": 0.6, "accuracy_std": 0.1414...}
    """
    cells = list(cells)
    row: dict[str, Any] = {"n": len(cells)}
    for key in cells[0]:
        values = [cell.get(key) for cell in cells]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            row[f"{key}_mean"] = statistics.fmean(values)
            if len(values) > 1:
                row[f"{key}_std"] = statistics.stdev(values)
    return row
