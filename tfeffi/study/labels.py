"""Where the names of the points of a chart stand, so that none covers another, a point or a line."""

import dataclasses
from collections.abc import Sequence

PER_CHARACTER = 0.6  # width of a character, in heights: a little more than most fonts take
_SWEEPS = 6


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downward."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """The area that two rectangles share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def outside(self, other: "Box") -> float:
        """How far this one reaches out of the other, in pixels."""
        return (
            max(0.0, other.left - self.left) + max(0.0, self.right - other.right)
            + max(0.0, other.top - self.top) + max(0.0, self.bottom - other.bottom)
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Label:
    """A placed name.

    Attributes:
        text: the name.
        x, y: of its anchor, at the middle of the text's height.
        anchor: "start", "middle" or "end", as in SVG.
        box: what it covers.
        leader: whether it is so far from its point that a line should join them.
    """

    text: str
    x: float
    y: float
    anchor: str
    box: Box
    leader: bool


def place(
    texts: Sequence[str],
    points: Sequence[tuple[float, float]],
    bounds: Box,
    *,
    size: float = 12.0,
    radius: float = 6.0,
    per_character: float = PER_CHARACTER,
    quiet: Sequence[bool] = (),
    obstacles: Sequence[Box] = (),
) -> list[Label]:
    """Places one name beside each point.

    Every name takes the best of the places around its point, again and again until none wants to move:
    not over another name or a point, inside the bounds, off the lines, near.

    Args:
        texts: the names.
        points: pixels, one for each name.
        bounds: where names may stand.
        size: height of the text, pixels.
        radius: of the points.
        per_character: width of a character, in heights.
        quiet: for each name whether the others need not keep off it: it is not always shown.
        obstacles: what should stay uncovered if it can: lines, error bars.

    Returns:
        One label a name, in order.
    """
    dots = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    choices = [
        _choices(text, *point, size, radius, per_character)
        for text, point in zip(texts, points, strict=True)
    ]
    chosen = [places[0] for places in choices]
    for sweep in range(_SWEEPS):
        moved = False
        for index, places in enumerate(choices):
            # In the first sweep later names have no place yet.
            others = [
                label.box for j, label in enumerate(chosen) if j != index and (sweep or j < index)
            ]
            best = min(places, key=lambda at: _cost(at, others, dots, obstacles, bounds, places))
            moved, chosen[index] = moved or best is not chosen[index], best
        if sweep and not moved:
            break
    return chosen


def _cost(at: Label, others, dots, obstacles, bounds: Box, places: list[Label]) -> float:
    """Names and points must stay readable; lines should; nearer and earlier places are nicer."""
    covered = [area for box in (*others, *dots) if (area := at.box.overlap(box))]
    hard = 5 * len(covered) + sum(covered)  # even a sliver is one too many
    soft = sum(map(at.box.overlap, obstacles))
    return 20 * hard + 200 * at.box.outside(bounds) + 2 * soft + 6 * places.index(at)


def _choices(text: str, x: float, y: float, size: float, radius: float, each: float) -> list[Label]:
    """Places around a point, the nicest first: right, above, below, left, then farther out."""
    width, half = len(text) * size * each, size * 0.62
    found = []
    for distance in (1.0, 2.6, 4.4, 6.4):
        gap = radius * 0.9 + 3 + (distance - 1) * size * 0.75
        slant = gap * 0.75
        for dx, dy, anchor in (
            (gap, 0, "start"), (0, -gap - half, "middle"), (slant, -slant - half / 2, "start"),
            (0, gap + half, "middle"), (slant, slant + half / 2, "start"), (-gap, 0, "end"),
            (-slant, -slant - half / 2, "end"), (-slant, slant + half / 2, "end"),
        ):  # fmt: skip
            left = {"start": 0.0, "middle": -width / 2, "end": -width}[anchor] + x + dx
            box = Box(left, y + dy - half, left + width, y + dy + half)
            found.append(Label(text, x + dx, y + dy, anchor, box, distance > 2))
    return found
