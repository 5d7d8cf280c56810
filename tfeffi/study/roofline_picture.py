"""A profile as a picture: the roofline with the operators on it, and where the time goes above it."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfeffi.errors import BadInput
from tfeffi.study import figure as figures
from tfeffi.study import pictures
from tfeffi.study.pictures import COLOURS, SOFT

_NAMED = 6  # operators with a name beside their point
_BARS = 12
_INK = "#16191d"
_TEXT = 6.5  # points


def check(path: str | os.PathLike) -> None:
    """BadInput if the path's suffix is no format of pictures."""
    if pathlib.Path(path).suffix.lower() not in figures.FORMATS:
        raise BadInput(f'figure: "{path}" must end in {", ".join(figures.FORMATS)}')


def draw(record: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draws a profile: left the roofline, right the time of the slowest operators.

    Args:
        record: of `Profile.to_json`.
        path: of the picture; an older one is replaced.

    Raises:
        BadInput: nothing in it took time, or the format is not known.

    Example:
        draw(tfeffi.bench.profile("m.tflite").to_json(), "roofline.png")
    """
    check(path)
    rows = sorted((row for row in record["rows"] if row["ms"] > 0), key=lambda row: -row["ms"])
    if not rows:
        raise BadInput(
            f'profile of "{record["model"]}": every operator is shorter than a microsecond, so that '
            "there is nothing to draw"
        )
    with pictures.figure(path, (10.5, 4.6)) as figure:
        roof, bars = figure.subplots(1, 2, width_ratios=(1.15, 1))
        _roofline(roof, record, rows)
        _times(bars, record, rows[:_BARS])


def _roofline(panel, record, rows) -> None:
    placed = [row for row in rows if row.get("gmacs_per_second") and row.get("macs_per_byte")]
    machine = record["machine"]
    widths = {int(k): v for k, v in machine["bandwidth_gb_per_second"].items()}
    peaks = {
        dtype: machine[f"peak_{dtype}_gmacs_per_second"]
        for dtype in ("int8", "float32")
        if any(("int" in row["dtype"]) == (dtype == "int8") for row in placed or rows)
    }
    xs = [row["macs_per_byte"] for row in placed] or [1.0]
    ys = [row["gmacs_per_second"] for row in placed] or [1.0]
    highest = max(peaks.values())
    left, right = min(xs) / 3, max(*xs, highest / min(widths.values())) * 2
    panel.set(
        xscale="log", yscale="log", xlim=(left, right), ylim=(min(ys) / 3, highest * 2.2),
        xlabel="multiply-adds a byte moved", ylabel="GMAC/s",
        title=f"{pathlib.Path(record['model']).name}: what it reaches, and the roof",
    )  # fmt: skip
    panel.grid(which="minor", visible=False)
    for size, width in sorted(widths.items()):
        at = (left, highest / width)
        panel.plot(at, [x * width for x in at], color=SOFT, linewidth=0.8, linestyle=":")
        x = max(left * 1.15, min(ys) / 3 / width * 1.6)
        panel.annotate(
            f"{_size(size)}: {width:.0f} GB/s", (x, x * width), xytext=(0, 3),
            textcoords="offset points", color=SOFT, fontsize=6.5, rotation_mode="anchor",
            rotation=45, transform_rotates_text=True,
        )  # fmt: skip
    for dtype, peak in peaks.items():
        panel.axhline(peak, color=_INK, linewidth=1.2)
        panel.annotate(
            f"{dtype} {peak:.0f} GMAC/s", (right, peak), xytext=(-3, 3), ha="right", fontsize=7.5,
            textcoords="offset points",
        )  # fmt: skip
    for number, kind in enumerate(sorted({row["operator"] for row in placed})):
        of = [row for row in placed if row["operator"] == kind]
        panel.scatter(
            [row["macs_per_byte"] for row in of], [row["gmacs_per_second"] for row in of],
            s=[12 + 600 * row["share"] for row in of], color=COLOURS[number % len(COLOURS)],
            alpha=0.75, linewidth=0, label=kind, zorder=3,
        )  # fmt: skip
    _names(panel, placed[:_NAMED])
    if placed:
        panel.legend(loc="lower right", fontsize=7, markerscale=0.6, title="area: share of time",
                     title_fontsize=7)  # fmt: skip


def _names(panel, rows) -> None:
    """Names below their points, or above them; none that would cover another."""
    to_points = 72 / panel.figure.dpi
    taken = []
    for row in rows:
        at, text = (row["macs_per_byte"], row["gmacs_per_second"]), _name(row)
        x, y = panel.transData.transform(at) * to_points
        radius = (12 + 600 * row["share"]) ** 0.5 / 2
        for up in (-1, 1):
            middle, half = y + up * (radius + _TEXT), 0.3 * _TEXT * len(text)
            if all(abs(middle - m) > 1.2 * _TEXT or abs(x - c) > half + h for c, m, h in taken):
                taken.append((x, middle, half))
                panel.annotate(
                    text, at, xytext=(0, up * (radius + _TEXT)), textcoords="offset points",
                    fontsize=_TEXT, ha="center", va="center", zorder=4,
                )  # fmt: skip
                break


def _times(panel, record, rows) -> None:
    """Bars of the slowest operators: what the roofline allows, and what is above it."""
    places = range(len(rows))
    least = [min(row["ms"], row.get("least_ms", 0.0)) * 1e3 for row in rows]
    above = [row["ms"] * 1e3 - low for row, low in zip(rows, least, strict=True)]
    panel.barh(places, least, color=COLOURS[2], label="the roof allows")
    panel.barh(places, above, left=least, color=COLOURS[1], alpha=0.8, label="above it")
    panel.set_yticks(places, labels=[f"{_name(row)}  {_short(row['operator'])}" for row in rows])
    panel.invert_yaxis()
    panel.tick_params(axis="y", labelsize=7, length=0)
    panel.grid(axis="y", visible=False)
    threads = f"{record['threads']} thread{'s' * (record['threads'] > 1)}"
    panel.set(xlabel="µs", title=f"where {record['ms'] * 1e3:.0f} µs go, on {threads}")
    panel.legend(loc="lower right", fontsize=7)


def _name(row) -> str:
    if not row["layers"]:
        return "-"
    name = row["layers"][0]
    return name if len(name) <= 28 else f"…{name[-27:]}"


def _short(kind: str) -> str:
    return kind.removesuffix("_2D").replace("_", " ").lower()


def _size(size: int) -> str:
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} kB"
