"""Training curves as SVG: one chart a quantity, one line a training, values at the pointer's epoch."""

import json
import math
from collections.abc import Sequence

from tfeffi.study import metrics
from tfeffi.study.axes import Frame
from tfeffi.study.markup import Markup, tag
from tfeffi.study.runs import Curve
from tfeffi.study.scales import scale

COLOURS = 8
MOST_POINTS = 400  # a line: more is not seen, only downloaded
QUANTITIES = (
    metrics.Metric("loss", "training loss"),
    metrics.Metric("validation_loss", "validation loss"),
    metrics.Metric("accuracy", "training accuracy", "%"),
    metrics.Metric("validation_accuracy", "validation accuracy", "%"),
    metrics.Metric("learning_rate", "learning rate"),
    metrics.Metric("images_per_second", "training speed", "img/s"),
)
_EPOCH = metrics.Metric("epoch", "epoch", digits=0)
_LINEAR = ("learning_rate", "accuracy", "validation_accuracy", "images_per_second")


def curve_charts(curves: Sequence[Curve], width: int, height: int) -> list[Markup]:
    """One chart for each quantity that some training has recorded."""
    charts = (_chart(curves, quantity, width, height) for quantity in QUANTITIES)
    return [chart for chart in charts if chart is not None]


def _chart(curves: Sequence[Curve], quantity: metrics.Metric, width: int, height: int):
    lines = [(i, c.name, _thinned(c.values(quantity.key))) for i, c in enumerate(curves)]
    lines = [line for line in lines if line[2]]
    if not lines:
        return None
    frame = _frame(lines, quantity, width, height)
    _, top, _, bottom = frame.plot
    drawn = []
    for index, _, points in lines:
        places = [(frame.x(epoch), frame.y(value)) for epoch, value in points]
        kind = f"s{index % COLOURS} dash{index // COLOURS % 3}"
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(tag("path", d=path, class_=f"curve {kind}", data_curve=index))
        if len(places) == 1:
            x, y = places[0]
            drawn.append(tag("circle", cx=x, cy=y, r=3.5, class_=f"only {kind}", data_curve=index))
    cursor = tag("line", x1=0, x2=0, y1=top, y2=bottom, class_="cursor")
    return frame.svg(
        f"{quantity.title} at each epoch", *drawn, cursor, data_curves=_data(lines, frame)
    )


def _frame(lines, quantity: metrics.Metric, width: int, height: int) -> Frame:
    left, top, right, bottom = Frame(width, height, None, None, None, None).plot
    epochs = [epoch for _, _, points in lines for epoch, _ in points]
    values = [value for _, _, points in lines for _, value in points]
    x = scale([min(epochs), max(epochs)], left, right, log=False)
    log = False if quantity.key in _LINEAR else None
    y = scale(values, bottom, top, log=log, ceiling=1.0 if quantity.unit == "%" else None)
    return Frame(width, height, x, y, _EPOCH, quantity)


def _data(lines, frame: Frame) -> str:
    """What the page's script needs to tell the values at an epoch."""
    factor, suffix = metrics.UNITS[frame.y_metric.unit]
    return json.dumps(
        {
            "x": [frame.x.low, frame.x.high, frame.x.start, frame.x.end],
            "factor": factor,
            "suffix": suffix,
            "lines": [
                [index, name, [[e, float(f"{v:.4g}")] for e, v in points]]
                for index, name, points in lines
            ],
        },
        separators=(",", ":"),
    )


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = math.ceil(len(points) / MOST_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]
