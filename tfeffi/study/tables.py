"""Numbers in Markdown that nobody types: tables, values and pictures made from `results/*.json`.

Between these marks the text is made from `results/NAME.json`, by `tfeffi-report --readme=README.md`:

    <!-- table: NAME columns="name=variant, accuracy_mean, delta(accuracy_mean), p50_ms:ms.3" -->
    <!-- end -->

    It is <!-- value: NAME row=int8 column=ratio(p50_ms) --><!-- end --> times faster.

    <!-- figure: NAME costs=p50_ms,bytes --> ![the front](docs/front.png) <!-- end -->
    <!-- figure: NAME by=strategies --> ![of the experiment](docs/own.png) <!-- end -->

    <!-- about: NAME --><!-- end -->

A column is a key of the rows; `ratio(key)`, how many times better than the baseline; or `delta(key)`, the
difference to it. After ":" its unit and decimals, after "=" its heading, in either order. A table may
also have `rows=`, patterns of names with commas between; `sort=`, a column, with "-" before it for the
largest first; `baseline=`, a name, in place of the `ratio_to` of the rows. A value has `row=` and
`column=`. The picture that an experiment draws of itself has its kind, `by=`.
"""

import dataclasses
import fnmatch
import functools
import os
import pathlib
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from tfeffi import files
from tfeffi.errors import BadInput, near
from tfeffi.study import experiments, figure, metrics, runs
from tfeffi.study.results import Result
from tfeffi.study.runs import Entry, Study

_OPTIONS = {
    "table": ("columns", "rows", "sort", "baseline"),
    "value": ("row", "column", "baseline"),
    "figure": ("costs", "by"),
    "about": (),
}
_BLOCK = re.compile(r"<!--\s*(\w+):(.*?)-->(.*?)<!--\s*end\s*-->", re.DOTALL)
_START = re.compile(rf"<!--\s*({'|'.join(_OPTIONS)}):")
_COLUMN = re.compile(
    r"(?:(?P<kind>ratio|delta)\()?\s*(?P<key>\w+)\s*(?P<closed>\))?"
    r"(?::(?P<format>[\w%/.]+))?(?:=(?P<heading>[^:]*))?(?::(?P<late_format>[\w%/.]+))?"
)
_FORMAT = re.compile(r"(?P<unit>[\w%/]*?)(?:\.(?P<digits>\d))?")
_NOT_MEASURED = "–"


class TableError(BadInput):
    """A mark in a Markdown file that cannot be followed; the message says in which line and why."""


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column shows.

    Attributes:
        key: of the rows.
        kind: "", "ratio" or "delta".
        unit, digits: how numbers are written; None as the key is usually written.
        heading: None for the key's title.
    """

    key: str
    kind: str = ""
    unit: str | None = None
    digits: int | None = None
    heading: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Column":
        """Reads `ratio(p50_ms):x.1=faster`, or `ratio(p50_ms)=faster:x.1`."""
        found = _COLUMN.fullmatch(text.strip())
        formats = found and [f for f in (found["format"], found["late_format"]) if f]
        form = found and _FORMAT.fullmatch(formats[0] if formats else "")
        if not form or bool(found["kind"]) != bool(found["closed"]) or len(formats) > 1:
            raise BadInput(
                f'column "{text.strip()}" must read like p50_ms, ratio(p50_ms):x.1 or bytes:kB=size'
            )
        kind, unit, digits = found["kind"] or "", form["unit"], form["digits"]
        of = "x" if kind == "ratio" else metrics.metric(found["key"]).unit
        allowed = metrics.family(of) + (("x",) if of == "" else ())  # what a plain number may be
        if unit and unit not in allowed:
            units = ", ".join(u for u in allowed if u)
            raise BadInput(f'column "{text.strip()}": not in "{unit}" but in {units}')
        return cls(
            found["key"], kind, unit or None, int(digits) if digits else None, found["heading"]
        )

    @property
    def title(self) -> str:
        """The heading."""
        if self.heading is not None:
            return self.heading.strip()
        of = metrics.metric(self.key)
        if self.kind == "ratio":
            return of.gain or f"{of.title}, ratio"
        return f"Δ {of.title}" if self.kind else of.title

    def number(self, entry: Entry) -> float | None:
        """What the column sorts by."""
        if self.kind == "ratio":
            return entry.ratio(self.key)
        value = entry.delta(self.key) if self.kind else entry.row.get(self.key)
        return value if metrics.is_number(value) else None

    def text(self, entry: Entry) -> str:
        """The cell; a dash where it was not measured."""
        value, of = self.number(entry), metrics.metric(self.key)
        if value is None:
            other = entry.row.get(self.key)
            known = not self.kind and isinstance(other, (str, bool))
            return str(other).replace("|", "\\|") if known else _NOT_MEASURED
        digits = of.digits if self.digits is None and self.unit is None else self.digits
        if self.kind == "ratio":
            exact = self.unit is not None or digits is not None
            return metrics.write(value, self.unit or "x", digits) if exact else metrics.times(value)
        if self.kind == "delta":
            unit = self.unit or ("points" if of.unit == "%" else of.unit)
            return metrics.write(value, unit, digits, signed=True)
        unit = of.unit if self.unit is None else self.unit
        return dataclasses.replace(of, unit=unit, digits=digits).with_spread(entry.row)


def renew(path: str | os.PathLike) -> bool:
    """Writes the generated parts of a Markdown file anew, pictures too.

    Args:
        path: of the file; results are in the folder `results` beside it, or beside a folder above it.

    Returns:
        Whether anything was not as the results say.

    Raises:
        BadInput: the file, a result, a row or a key is not there, or a mark cannot be read.
    """
    path = pathlib.Path(path)
    old = _read(path)
    new, stale = rendered(old, path), stale_figures(old, path)
    for _, draw in stale:
        draw()
    if new != old:
        with files.replacing(path) as temporary:
            temporary.write_text(new, encoding="utf-8")
    return bool(new != old or stale)


def rendered(text: str, path: str | os.PathLike) -> str:
    """The text with its tables, values and facts made from the results; a fresh one stays as it is.

    Args:
        text: Markdown.
        path: where it stands; see `renew`.
    """
    path = pathlib.Path(path)

    def render(block: "_Block") -> str:
        start, body, end = block.parts
        if block.kind == "figure":
            return start + body + end
        made = _RENDERERS[block.kind](block, block.study(path))
        return f"{start}\n{made}\n{end}" if block.kind == "table" else start + made + end

    pieces, done = [], 0
    for block in _blocks(text):
        pieces += [text[done : block.begins], _in_line(block, render)]
        done = block.ends
    return "".join([*pieces, text[done:]])


def stale_figures(
    text: str, path: str | os.PathLike
) -> list[tuple[pathlib.Path, Callable[[], None]]]:
    """The pictures that are missing or do not show their results, and what draws each anew."""
    path = pathlib.Path(path)
    found = [_in_line(b, lambda b: _figure(b, path)) for b in _blocks(text) if b.kind == "figure"]
    return [
        (picture, draw) for picture, shown, draw in found if figure.fingerprint_of(picture) != shown
    ]


@dataclasses.dataclass(frozen=True)
class _Block:
    """A mark, what stands between it and its end, and where."""

    kind: str
    name: str
    options: dict[str, str]
    parts: tuple[str, str, str]
    begins: int
    ends: int
    line: int

    def study(self, path: pathlib.Path) -> Study:
        """The result that it names."""
        folders = [parent / "results" for parent in path.absolute().parents]
        folder = next((f for f in folders if f.is_dir()), folders[0])
        file = folder / f"{self.name}.json"
        if not file.exists():
            known = [found.stem for found in folder.glob("*.json")]
            hint = near(self.name, known) if known else "measure it first"
            raise BadInput(f"there is no results/{self.name}.json; {hint}")
        result = Result.read(file)
        if baseline := self.options.get("baseline"):
            result.row(baseline)
            result.rows = [{**row, "ratio_to": baseline} for row in result.rows]
        return runs.of(result)


def _blocks(text: str) -> Iterator[_Block]:
    """The marks in a text, each read and checked."""
    closed = {found.start(): found for found in _BLOCK.finditer(text)}
    for start in _START.finditer(text):
        line = text.count("\n", 0, start.start()) + 1
        found = closed.get(start.start())
        if found is None or _START.search(found[3]):
            raise TableError(f"line {line}: <!-- {start[1]}: has no <!-- end -->")
        try:
            words = shlex.split(found[2])
        except ValueError as error:
            raise TableError(f"line {line}: {error}") from None
        name, *rest = words or [""]
        if not name or "=" in name:
            raise TableError(f"line {line}: <!-- {start[1]}: needs the name of a result first")
        pairs = [word.partition("=") for word in rest]
        known = _OPTIONS[start[1]]
        for key, _, _ in pairs:
            if key not in known:
                hint = near(key, known) if known else "it has none"
                raise TableError(f'line {line}: {start[1]} has no option "{key}"; {hint}')
        options = {key: value for key, _, value in pairs}
        body = found.start(3), found.end(3)
        parts = text[found.start() : body[0]], found[3], text[body[1] : found.end()]
        yield _Block(start[1], name, options, parts, found.start(), found.end(), line)


def _in_line(block: _Block, follow: Callable[[_Block], Any]) -> Any:
    """Follows a mark; what goes wrong is told with its line."""
    try:
        return follow(block)
    except TableError:
        raise
    except BadInput as error:
        raise TableError(f"line {block.line}: {error}") from None


def _table(block: _Block, study: Study) -> str:
    if not block.options.get("columns"):
        raise BadInput(f"table of {block.name}: name its columns, e.g. columns=name,accuracy_mean")
    columns = [Column.parse(text) for text in block.options["columns"].split(",")]
    entries = _chosen(block, study)
    for column in columns:
        _known(column, study, block.name)
    numbers = [any(c.number(e) is not None for e in entries) for c in columns]
    lines = [
        [column.title[:1].upper() + column.title[1:] for column in columns],
        ["---:" if number else ":---" for number in numbers],
        *([column.text(entry) for column in columns] for entry in entries),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _chosen(block: _Block, study: Study) -> list[Entry]:
    """The rows of a table, in its order."""
    entries = study.entries
    if wanted := block.options.get("rows"):
        names, entries = [entry.label for entry in study.entries], []
        for pattern in (text.strip() for text in wanted.split(",")):
            matching = [e for e in study.entries if fnmatch.fnmatchcase(e.label, pattern)]
            if not matching:
                raise BadInput(
                    f'no row "{pattern}" in results/{block.name}.json; {near(pattern, names)}'
                )
            entries += [entry for entry in matching if entry not in entries]
    if by := block.options.get("sort"):
        column, sign = Column.parse(by.removeprefix("-")), -1 if by.startswith("-") else 1
        _known(column, study, block.name)
        places = {e: column.number(e) for e in entries}
        entries = sorted(entries, key=lambda e: (places[e] is None, sign * (places[e] or 0)))
    return entries


def _value(block: _Block, study: Study) -> str:
    if "row" not in block.options or "column" not in block.options:
        raise BadInput("value: needs row= and column=")
    column = Column.parse(block.options["column"])
    _known(column, study, block.name)
    row = study.results[0].row(block.options["row"])
    (entry,) = [entry for entry in study.entries if entry.row is row]
    text = column.text(entry)
    if text == _NOT_MEASURED:
        raise BadInput(f'row "{row["name"]}" of results/{block.name}.json has no {column.key}')
    return text


def _known(column: Column, study: Study, name: str) -> None:
    """BadInput for a key that no row has, as a misspelt one; a key that some rows lack is a dash."""
    keys = {key for entry in study.entries for key in entry.row}
    if column.key not in keys:
        raise BadInput(
            f'no row of results/{name}.json has "{column.key}"; {near(column.key, keys)}'
        )


def _about(block: _Block, study: Study) -> str:
    """Where and how it was measured, in a sentence."""
    result = study.results[0]
    hardware, versions = result.hardware, result.versions
    features = hardware.get("cpu_features", [])
    gpu = "" if hardware["accelerator"] == "none" else f", {hardware['accelerator']}"
    software = ", ".join(
        f"{title} {versions[key]}"
        for key, title in (
            ("tensorflow", "TensorFlow"),
            ("keras", "Keras"),
            ("ai-edge-litert", "LiteRT"),
        )
        if key in versions
    )
    cpu = hardware["cpu"] + (f" ({', '.join(features)})" if features else "")
    changed = " with changes" if result.commit and result.commit.endswith("-dirty") else ""
    commit = f", commit {result.commit[:10]}{changed}" if result.commit else ""
    run = f"`{result.command}`, {result.date[:10]}{commit}"
    return f"{run}: {cpu}, {hardware['cores']} cores{gpu}; {software}."


def _figure(block: _Block, path: pathlib.Path) -> tuple[pathlib.Path, str, Callable[[], None]]:
    """The picture, the fingerprint of what it should show, and what draws it."""
    found = re.search(r"!\[[^\]]*\]\(([^)\s]+)", block.parts[1])
    if not found:
        raise BadInput(
            "figure: no picture between the marks; write ![what it shows](docs/front.png)"
        )
    picture, study, kind = path.parent / found[1], block.study(path), block.options.get("by")
    costs = [text.strip() for text in block.options.get("costs", "").split(",") if text.strip()]
    if kind and costs:
        raise BadInput("figure: an experiment's own picture (by=) has no costs=; leave one out")
    draw = functools.partial(figure.draw, study, picture, costs or None)
    if kind:
        if kind not in experiments.names() or picture.suffix != ".png":
            raise BadInput(
                f'figure: by="{kind}" must be an experiment with a .png; '
                f"{near(kind, experiments.names())}"
            )
        draw = functools.partial(experiments.draw, kind, study.results[0], picture)
    return picture, figure.fingerprint(study, costs), draw


_RENDERERS = {"table": _table, "value": _value, "about": _about}


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f'"{path}" cannot be read: {reason}') from None
