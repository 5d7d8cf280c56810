"""Accuracy against a cost, as SVG: every variant a named point, the Pareto front a staircase."""

import itertools
from collections.abc import Sequence

from tfeffi.study import labels, metrics
from tfeffi.study.axes import Frame
from tfeffi.study.labels import Box
from tfeffi.study.markup import Markup, tag
from tfeffi.study.runs import ACCURACY, Entry, Study
from tfeffi.study.scales import scale

COLOURS = 8
RADIUS = 6.5
TEXT = 13.0
PIXELS_PER_NAME = 44  # of width; where more would crowd, only the important ones show
_WORSE = {"faster": "slower", "smaller": "larger", "fewer": "more", "less": "more"}


def front_chart(study: Study, cost: str, width: int, height: int) -> Markup | None:
    """Accuracy against one cost.

    Args:
        study: what to draw; rows without accuracy or cost are left out.
        cost: the key of the cost.
        width, height: pixels.

    Returns:
        An `<svg>`; None where no row has both.
    """
    entries = study.having(ACCURACY, cost)
    if not entries:
        return None
    frame = front_frame(entries, cost, width, height)
    fronts = study.fronts(cost)
    on_front = [entry for front in fronts for entry in front]
    lines = [[(frame.x(e.row[cost]), frame.y(e.row[ACCURACY])) for e in front] for front in fronts]
    series = [_series(front) for front in fronts]
    points = [(frame.x(e.row[cost]), frame.y(e.row[ACCURACY])) for e in entries]
    bars = [_error_bars(entry, cost, frame) for entry in entries]
    left, top, right, bottom = frame.plot
    named = always_named(study, cost, width)
    quiet = [entry not in named for entry in entries]
    placed = labels.place(
        [short_name(study, entry) for entry in entries],
        points,
        Box(left + 2, top + 2, right, bottom - 2),
        size=TEXT,
        radius=RADIUS + 2,
        quiet=quiet,
        obstacles=[
            *line_boxes(lines, right), *(_wider(b) for pair in bars for b in pair), better_box(frame)
        ],
    )  # fmt: skip
    order = sorted(range(len(entries)), key=lambda i: entries[i] in on_front)
    marks = [
        _point(study, entries[i], points[i], bars[i], placed[i], [
            "on" if entries[i] in on_front else "off", *(["quiet"] if quiet[i] else [])
        ])
        for i in order
    ]  # fmt: skip
    return frame.svg(
        f"accuracy against {metrics.metric(cost).title}",
        _good_corner(frame, points, [
            label.box for label, hidden in zip(placed, quiet, strict=True) if not hidden
        ]),
        *(_shade(line, frame, s) for line, s in zip(lines, series, strict=True)),
        *(tag("path", d=staircase(line, right), class_=f"front-line {s}")
          for line, s in zip(lines, series, strict=True)),
        *(leader(label, point) for label, point, hidden in zip(placed, points, quiet, strict=True)
          if not hidden),
        *marks,
    )  # fmt: skip


def always_named(study: Study, cost: str, width: int) -> list[Entry]:
    """The entries whose names always show: all, or the front's and the baselines where all crowd."""
    entries = study.having(ACCURACY, cost)
    if len(entries) <= width // PIXELS_PER_NAME:
        return entries
    on_front = [entry for front in study.fronts(cost) for entry in front]
    return [entry for entry in entries if entry in on_front or entry.is_baseline]


def front_frame(entries: Sequence[Entry], cost: str, width: int, height: int) -> Frame:
    """The axes that show all of these entries and their error bars."""
    left, top, right, bottom = Frame(width, height, None, None, None, None).plot
    x_metric, y_metric = metrics.metric(cost), metrics.metric(ACCURACY)
    costs = [e.row[cost] for e in entries]
    xs = scale(costs, left, right)
    if not xs.log:
        reach = [v for e in entries for v in spread(e, cost)]
        xs = scale([*costs, *reach], left, right, log=False, floor=0)
    reach = [v for e in entries for v in (e.row[ACCURACY], *spread(e, ACCURACY))]
    return Frame(
        width, height, xs, scale(reach, bottom, top, log=False, floor=0), x_metric, y_metric
    )


def spread(entry: Entry, key: str) -> tuple[float, ...]:
    """The ends of the error bar: mean ± standard deviation; empty where there is none."""
    std = entry.row.get(metrics.metric(key).std_key)
    if not metrics.is_number(std) or std <= 0:
        return ()
    return entry.row[key] - std, entry.row[key] + std


def staircase(line: Sequence[tuple[float, float]], right: float) -> str:
    """The front as an SVG path: what is reached at a cost holds until a better point is affordable."""
    (x, y), *rest = line
    steps = "".join(f"H{at:.1f}V{to:.1f}" for at, to in rest)
    return f"M{x:.1f},{y:.1f}{steps}H{right:.1f}"


def leader(label: labels.Label, point: tuple[float, float]) -> Markup | None:
    """The thin line from a point to a name that stands far from it."""
    if not label.leader:
        return None
    x = min(max(point[0], label.box.left), label.box.right)
    y = min(max(point[1], label.box.top), label.box.bottom)
    return tag("line", x1=point[0], y1=point[1], x2=x, y2=y, class_="leader")


def _good_corner(frame: Frame, points, names: Sequence[Box]) -> Markup | None:
    """Which corner is the good one; nothing where that would lie under a point or a name."""
    box = better_box(frame)
    dots = [Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in points]
    if any(box.overlap(other) for other in (*dots, *names)):
        return None
    return tag("text", "\u2196 better", x=box.left + 4, y=box.top + 14, class_="better")


def better_box(frame: Frame) -> Box:
    """Where the chart says which corner is the good one."""
    left, top, _, _ = frame.plot
    return Box(left + 6, top + 4, left + 74, top + 24)


def short_name(study: Study, entry: Entry) -> str:
    """What a point is called: where colours tell the runs, the row's own name is enough."""
    return entry.row["name"] if len(study.results) > 1 else entry.label


def _series(front: Sequence[Entry]) -> str:
    """The colour of a front: its run's; none of theirs if it is of several."""
    runs = {entry.run for entry in front}
    return f"s{runs.pop() % COLOURS}" if len(runs) == 1 else "mixed"


def _shade(line, frame: Frame, series: str) -> Markup:
    """What the front dominates: below it and to its right."""
    _, _, right, bottom = frame.plot
    path = f"{staircase(line, right)}V{bottom:.1f}H{line[0][0]:.1f}Z"
    return tag("path", d=path, class_=f"shade {series}")


def line_boxes(lines: Sequence[Sequence[tuple[float, float]]], right: float) -> list[Box]:
    """The staircases as rectangles that names keep off."""
    found = []
    for line in lines:
        for (x, y), (to_x, to_y) in itertools.pairwise(line):
            found.append(Box(x, y - 2, to_x, y + 2))
            found.append(Box(to_x - 2, to_y, to_x + 2, y))
        x, y = line[-1]
        found.append(Box(x, y - 2, right, y + 2))
    return found


def _error_bars(entry: Entry, cost: str, frame: Frame) -> list[Box]:
    """Thin rectangles: standard deviation of the accuracy, and of the cost, where measured."""
    x, y = frame.x(entry.row[cost]), frame.y(entry.row[ACCURACY])
    bars = []
    if ends := spread(entry, ACCURACY):
        low, high = (frame.y(end) for end in ends)
        bars.append(Box(x - 0.75, high, x + 0.75, low))
    if ends := spread(entry, cost):
        low, high = (frame.x(end) for end in ends)
        bars.append(Box(low, y - 0.75, high, y + 0.75))
    return bars


def _wider(bar: Box) -> Box:
    """An error bar with some air, so that no name leans on it."""
    return Box(bar.left - 2, bar.top - 2, bar.right + 2, bar.bottom + 2)


def _point(
    study: Study,
    entry: Entry,
    at: tuple[float, float],
    bars: list[Box],
    label: labels.Label,
    kinds: list[str],
) -> Markup:
    ring = None
    if entry.is_baseline:
        ring = tag("circle", cx=at[0], cy=at[1], r=RADIUS + 4, class_="ring")
    return tag(
        "g",
        tag("title", "\n".join(summary(entry))),
        *(
            tag("rect", x=b.left, y=b.top, width=b.right - b.left, height=b.bottom - b.top,
                class_="bar")
            for b in bars
        ),
        ring,
        tag("circle", cx=at[0], cy=at[1], r=RADIUS, class_="dot"),
        tag("text", label.text, x=label.x, y=label.y + TEXT * 0.35, class_=f"name {label.anchor}"),
        class_=" ".join(["point", f"s{entry.run % COLOURS}", *kinds]),
        data_row=study.entries.index(entry),
        tabindex=0,
    )  # fmt: skip


def summary(entry: Entry) -> list[str]:
    """The figures of an entry in a few lines: for whoever points at it."""
    lines = [entry.label + (" (baseline)" if entry.is_baseline else "")]
    for key in (ACCURACY, "p50_ms", "bytes", "macs", "params", "train_seconds_mean"):
        if not metrics.is_number(entry.row.get(key)):
            continue
        of = metrics.metric(key)
        text = f"{of.title}: {of.with_spread(entry.row)}"
        if gained := gain(entry, key):
            text += f" ({gained})"
        lines.append(text)
    return lines


def gain(entry: Entry, key: str) -> str:
    """What an entry gains on its baseline: "4.2× faster", "−0.31 points"; "" where nothing differs."""
    if entry.is_baseline:
        return ""
    if metrics.metric(key).unit == "%":
        change = entry.delta(key)
        return "" if change is None else metrics.write(change, "points", 2, signed=True)
    times, word = entry.ratio(key), metrics.metric(key).gain
    if times is None or entry.row[key] == entry.baseline[key]:
        return ""
    if times < 1 and word in _WORSE:
        times, word = 1 / times, _WORSE[word]
    return f"{metrics.times(times)} {word}".strip()
