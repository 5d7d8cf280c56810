"""The Pareto fronts as a picture, for a README: PNG, SVG or PDF, drawn by matplotlib.

The picture remembers a fingerprint of the figures it shows, so that one which no longer shows its
results is found out.
"""

import hashlib
import json
import os
import pathlib
import re
import struct
import zlib
from collections.abc import Sequence

from tfeffi import files
from tfeffi.errors import BadInput, near
from tfeffi.study import axes, charts, labels, metrics
from tfeffi.study.runs import ACCURACY, COSTS, Entry, Study

FORMATS = (".png", ".svg", ".pdf")
DPI = 160
_COLOURS = ("#0b62d6", "#c4500c", "#138a5b", "#8250df", "#bf2f78", "#0b7d8c", "#8a6300", "#5b6570")
_INK, _SOFT, _GRID = "#16191d", "#57606a", "#e6eaee"
_TEXT, _MARK = 8.5, 7.0  # points
_STYLE = {
    "font.family": "DejaVu Sans", "font.size": _TEXT, "axes.edgecolor": "#d8dee4", "svg.hashsalt": "",
    "axes.labelcolor": _SOFT, "xtick.color": _SOFT, "ytick.color": _SOFT,
}  # fmt: skip


def draw(
    study: Study, path: str | os.PathLike, costs: Sequence[str] | None = None, width: float = 10.0
) -> None:
    """Draws accuracy against costs side by side, with the front, and writes the picture.

    Args:
        study: of `runs.load`; rows without accuracy or cost are left out.
        path: of the picture; the suffix is its format. An older picture is replaced.
        costs: keys, a panel each; by default those of latency, training and bytes by which the
            variants differ, and of training only where no latency is.
        width: inches.

    Raises:
        BadInput: the format is not known, or there is nothing to draw.

    Example:
        draw(runs.load(["results/demo.json"]), "docs/front.png")
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = pathlib.Path(path)
    if path.suffix.lower() not in FORMATS:
        raise BadInput(f'figure: "{path}" must end in {", ".join(FORMATS)}')
    shown = panels(study, costs)
    mark = {".png": "Comment", ".svg": "Description", ".pdf": "Keywords"}[path.suffix.lower()]
    undated = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    about = {mark: fingerprint(study, costs), **undated[path.suffix.lower()]}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, width * 0.42 if len(shown) > 1 else width * 0.6), dpi=DPI)
        FigureCanvasAgg(figure)
        for index, cost in enumerate(shown):
            _panel(study, cost, figure.add_subplot(1, len(shown), index + 1))
        figure.tight_layout(w_pad=2.5)
        figure.canvas.draw()
        for panel, cost in zip(figure.axes, shown, strict=True):
            _name(study, cost, panel, figure)
        with files.replacing(path) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata=about)


def panels(study: Study, costs: Sequence[str] | None = None) -> list[str]:
    """The costs that get a panel; BadInput where none has two figures to show."""
    measured = sorted(
        {k for e in study.having(ACCURACY) for k, v in e.row.items() if metrics.is_number(v)}
    )
    for cost in costs or ():
        if cost not in measured:
            raise BadInput(f'figure: no row with an accuracy has "{cost}"; {near(cost, measured)}')
    if costs:
        return list(costs)
    several = [c for c in COSTS if len({e.row[c] for e in study.having(ACCURACY, c)}) > 1]
    shown = several or [c for c in COSTS if study.having(ACCURACY, c)]
    if not shown:
        raise BadInput(f"figure: no row has {ACCURACY} and one of {', '.join(COSTS)}")
    return [c for c in shown if not ("p50_ms" in shown and c.startswith("train_"))]


def fingerprint(study: Study, costs: Sequence[str] | None = None) -> str:
    """What a picture of these results carries: a hash of all that it could show."""
    shown = [[name, result.rows] for name, result in zip(study.names, study.results, strict=True)]
    text = json.dumps([shown, list(costs or ())], sort_keys=True)
    return f"tfeffi-results:{hashlib.sha256(text.encode()).hexdigest()}"


def fingerprint_of(path: str | os.PathLike) -> str | None:
    """The fingerprint in a picture; None if there is no such file, or it has none."""
    try:
        found = re.search(rb"tfeffi-results:[0-9a-f]{64}", pathlib.Path(path).read_bytes())
    except OSError:
        return None
    return found[0].decode() if found else None


def stamp(path: str | os.PathLike, mark: str) -> None:
    """Writes a fingerprint into a PNG that was drawn without one; other formats stay as they are."""
    path = pathlib.Path(path)
    if path.suffix.lower() != ".png":
        return
    image, body = path.read_bytes(), b"tEXtComment\0" + mark.encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    with files.replacing(path) as temporary:  # the last twelve bytes of a PNG say that it ends
        temporary.write_bytes(image[:-12] + chunk + image[-12:])


def _panel(study: Study, cost: str, panel) -> None:
    """Axes, front and points of one cost; the names follow when the layout stands."""
    entries = study.having(ACCURACY, cost)
    frame = charts.front_frame(entries, cost, 640, 480)
    panel.set_xscale("log" if frame.x.log else "linear")
    panel.set_xlim(frame.x.low, frame.x.high)
    panel.set_ylim(frame.y.low, frame.y.high)
    panel.minorticks_off()
    for axis, of, scale in (
        (panel.xaxis, frame.x_metric, frame.x),
        (panel.yaxis, frame.y_metric, frame.y),
    ):
        places = axes.ticks(scale, of, 7)
        axis.set_ticks([at for at, _ in places], labels=[text for _, text in places])
        axis.set_label_text(axes.title(of, scale))
    panel.grid(color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
    on_front = []
    for front in study.fronts(cost):
        on_front += front
        mixed = len({e.run for e in front}) > 1
        colour = _SOFT if mixed else _COLOURS[front[0].run % len(_COLOURS)]
        xs = [e.row[cost] for e in front] + [frame.x.high]
        ys = [e.row[ACCURACY] for e in front] + [front[-1].row[ACCURACY]]
        panel.step(xs, ys, where="post", color=colour, linewidth=1.5, zorder=2)
        panel.fill_between(xs, ys, frame.y.low, step="post", color=colour, alpha=0.06, linewidth=0)
    for entry in entries:
        _mark(panel, entry, cost, entry in on_front)
    if len(study.results) > 1:
        keys = [
            panel.plot([], [], color=c, label=n)[0]
            for c, n in zip(_COLOURS, study.names, strict=False)
        ]
        panel.legend(handles=keys, loc="lower right", frameon=False, labelcolor=_SOFT)


def _mark(panel, entry: Entry, cost: str, on_front: bool) -> None:
    colour, x, y = _COLOURS[entry.run % len(_COLOURS)], entry.row[cost], entry.row[ACCURACY]
    spreads = [charts.spread(entry, key) for key in (cost, ACCURACY)]
    x_bar, y_bar = [
        [[ends[1] - mean]] if ends else None for ends, mean in zip(spreads, (x, y), strict=True)
    ]
    panel.errorbar(x, y, xerr=x_bar, yerr=y_bar, ecolor=colour, alpha=0.5, elinewidth=1, zorder=2)
    if entry.is_baseline:
        panel.plot(x, y, "o", markersize=_MARK + 5, markerfacecolor="none", markeredgecolor=colour)
    fill = colour if on_front else "white"
    edge = {"markeredgecolor": colour, "markeredgewidth": 1.3}
    panel.plot(x, y, "o", markersize=_MARK, markerfacecolor=fill, zorder=3, **edge)


def _name(study: Study, cost: str, panel, figure) -> None:
    """Names in pixels, placed as on the page, then as fractions of the figure: right at any dpi."""
    from matplotlib.patheffects import withStroke

    entries = study.having(ACCURACY, cost)
    width, height = figure.get_size_inches() * figure.dpi
    to_pixels = figure.dpi / 72

    def pixels(values) -> list[tuple[float, float]]:
        return [(x, height - y) for x, y in panel.transData.transform(values)]

    area = panel.get_window_extent()
    points = pixels([(e.row[cost], e.row[ACCURACY]) for e in entries])
    lines = [pixels([(e.row[cost], e.row[ACCURACY]) for e in f]) for f in study.fronts(cost)]
    placed = labels.place(
        [charts.short_name(study, e) for e in entries],
        points,
        labels.Box(area.x0, height - area.y1, area.x1, height - area.y0),
        size=_TEXT * to_pixels,
        radius=(_MARK / 2 + 1.5) * to_pixels,
        per_character=0.66,  # DejaVu Sans is wide, and bold
        obstacles=[*charts.line_boxes(lines, area.x1), *_bars(entries, cost, pixels)],
    )
    on_front = [e for front in study.fronts(cost) for e in front]
    for entry, label in zip(entries, placed, strict=True):
        panel.annotate(
            label.text,
            (entry.row[cost], entry.row[ACCURACY]),
            (label.x / width, 1 - label.y / height),
            textcoords="figure fraction",
            ha={"start": "left", "middle": "center", "end": "right"}[label.anchor],
            va="center_baseline",
            color=_INK if entry in on_front else _SOFT,
            fontweight="bold" if entry in on_front else "normal",
            arrowprops={"arrowstyle": "-", "color": "#8b949e", "linewidth": 0.7}
            if label.leader
            else None,
            zorder=4,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _bars(entries: Sequence[Entry], cost: str, pixels) -> list[labels.Box]:
    """The error bars as rectangles that names keep off."""
    found = []
    for entry in entries:
        x, y = entry.row[cost], entry.row[ACCURACY]
        upright = [(x, end) for end in charts.spread(entry, ACCURACY)]
        level = [(end, y) for end in charts.spread(entry, cost)]
        for ends in filter(None, (upright, level)):
            (left, bottom), (right, top) = pixels(ends)
            found.append(labels.Box(left - 3, top - 3, right + 3, bottom + 3))
    return found
