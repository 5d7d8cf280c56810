"""The frame of a chart in SVG: grid, ticks with units, titles. Colours are the page's, by class."""

import dataclasses

from tfeffi.study import metrics
from tfeffi.study.markup import Markup, join, tag
from tfeffi.study.scales import Scale

LEFT, RIGHT, TOP, BOTTOM = 60, 20, 34, 46  # pixels around the plot


@dataclasses.dataclass(frozen=True)
class Frame:
    """A chart's size, axes and what they measure."""

    width: int
    height: int
    x: Scale
    y: Scale
    x_metric: metrics.Metric
    y_metric: metrics.Metric

    @property
    def plot(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the plot, pixels."""
        return LEFT, TOP, self.width - RIGHT, self.height - BOTTOM

    def draw(self) -> Markup:
        """Grid, tick labels and titles."""
        left, top, right, bottom = self.plot
        parts = []
        for at, text in ticks(self.x, self.x_metric, max(3, int((right - left) / 75))):
            place = self.x(at)
            parts.append(tag("line", x1=place, x2=place, y1=top, y2=bottom, class_="grid"))
            parts.append(tag("text", text, x=place, y=bottom + 18, class_="tick middle"))
        for at, text in ticks(self.y, self.y_metric, max(3, int((bottom - top) / 36))):
            place = self.y(at)
            parts.append(tag("line", x1=left, x2=right, y1=place, y2=place, class_="grid"))
            parts.append(tag("text", text, x=left - 8, y=place + 4, class_="tick end"))
        parts.append(tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
        x_title, y_title = title(self.x_metric, self.x), title(self.y_metric, self.y)
        parts.append(tag("text", x_title, x=right, y=self.height - 8, class_="title end"))
        parts.append(tag("text", y_title, x=8, y=16, class_="title"))
        return join(*parts)

    def svg(self, label: str, *children: object, **attributes: object) -> Markup:
        """The chart as an element."""
        size = f"0 0 {self.width} {self.height}"
        return tag("svg", self.draw(), *children, viewBox=size, role="img", aria_label=label,
                   class_="chart", **attributes)  # fmt: skip


def ticks(axis: Scale, of: metrics.Metric, most: int) -> list[tuple[float, str]]:
    """Ticks and their texts. The unit is in the axis's title, except where each value has its own."""
    places = axis.ticks(most)
    if of.digits == 0:  # it is counted: no half epochs
        places = [at for at in places if at == round(at)]
    if of.unit in metrics.LADDERS:
        return [(at, metrics.short(at, of.unit)) for at in places]
    factor = metrics.UNITS[of.unit][0]
    texts = [f"{round(at * factor, 9):.9g}" for at in places]
    if not axis.log:
        decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
        if not any("e" in text for text in texts):
            texts = [f"{at * factor:,.{decimals}f}" for at in places]
    return list(zip(places, texts, strict=True))


def title(of: metrics.Metric, axis: Scale) -> str:
    """What the axis measures, in which unit."""
    unit = "" if of.unit in metrics.LADDERS else metrics.UNITS[of.unit][1].strip()
    words = [of.title + (f" ({unit})" if unit else "")]
    return ", ".join(words + ["logarithmic"] if axis.log else words)
