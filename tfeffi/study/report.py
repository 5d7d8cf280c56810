"""What a run says: a table on the console, and a page that can be shown to anybody."""

import os
import pathlib

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfeffi import files
from tfeffi.errors import BadInput
from tfeffi.study import metrics, runs
from tfeffi.study.page import GENERATOR, page
from tfeffi.study.results import Result
from tfeffi.study.runs import ACCURACY, COSTS, Entry, Study


def write_report(study: Study, path: str | os.PathLike, title: str | None = None) -> None:
    """Writes the page, whole or not at all.

    A report can be made again at any time, so an older one is replaced; any other file is not.

    Args:
        study: of `runs.load`.
        path: of the `.html` to write.
        title: the page's heading; the runs' names unless given.

    Raises:
        BadInput: there is something else at `path`.

    Example:
        write_report(runs.load(["runs/demo"]), "report.html")
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise BadInput(f'output "{path}" is a folder; name a file in it')
    if path.exists() and not _is_report(path):
        raise BadInput(f'output "{path}" exists and is no report; name another')
    text = page(study, title)
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _is_report(path: pathlib.Path) -> bool:
    with open(path, "rb") as file:
        return f'content="{GENERATOR}"'.encode() in file.read(4096)


def console_table(result: Result | Study, console: Console | None = None) -> None:
    """Prints the rows, with what they gain against the baseline; those on a front are marked.

    Args:
        result: a result, or several as a study.
        console: where to print; standard output unless given.
    """
    console = console or Console()
    study = runs.of(result) if isinstance(result, Result) else result
    fronts = [e for cost in COSTS for front in study.fronts(cost) for e in front]
    columns = [column for column in _CONSOLE if study.having(column[1])]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("", width=1)
    table.add_column("variant", overflow="fold", min_width=8)
    for title, _, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for entry in study.entries:
        mark = "●" if entry in fronts else ""
        cells = [Text(write(entry, key)) for _, key, write in columns]
        table.add_row(mark, Text(entry.label), *cells)
    console.print(table)
    if fronts:
        console.print("● is on a Pareto front of accuracy against one cost", style="dim")
    for about in dict.fromkeys(_where(entry) for entry in study.entries):
        console.print(about, style="dim", highlight=False)


def _bytes(entry: Entry, key: str) -> str:
    known = metrics.is_number(entry.row.get(key))
    return metrics.metric(key).text(entry.row[key]) if known else "-"


def _number(entry: Entry, key: str) -> str:
    """The value without its unit, which the heading has."""
    if not metrics.is_number(entry.row.get(key)):
        return "-"
    of = metrics.metric(key)
    text = of.with_spread(entry.row) if key == ACCURACY else of.text(entry.row[key])
    return text.rpartition(" ")[0]


def _points(entry: Entry, key: str) -> str:
    change = None if entry.is_baseline else entry.delta(key)
    return "" if change is None else metrics.write(change, "points", 2, signed=True).split()[0]


def _times(entry: Entry, key: str) -> str:
    times = None if entry.is_baseline else entry.ratio(key)
    return "" if times is None else metrics.times(times)


def _where(entry: Entry) -> str:
    hardware, row = entry.hardware, entry.row
    text = f"{hardware['cpu']}, {hardware['cores']} cores"
    if hardware["accelerator"] != "none":
        text += f", {hardware['accelerator']}"
    if "threads" in row:
        text += f"; latency on {row.get('device', 'host')} with {row['threads']} thread(s)"
    return text


# Title, key and how its cell is written.
_CONSOLE = (
    ("accuracy %", ACCURACY, _number),
    ("points", ACCURACY, _points),
    ("p50 ms", "p50_ms", _number),
    ("faster", "p50_ms", _times),
    ("file", "bytes", _bytes),
    ("smaller", "bytes", _times),
    ("weights", "weight_bytes", _bytes),
    ("train s", "train_seconds_mean", _number),
)
