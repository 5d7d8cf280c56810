"""From values to places on an axis: linear or logarithmic, with ticks at round numbers."""

import dataclasses
import math
from collections.abc import Sequence

LOG_FROM = 8.0  # a positive range of at least this ratio is drawn logarithmically
PADDING = 0.07  # of the axis, on either side of the data


@dataclasses.dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
        low, high: values at its ends.
        start, end: pixels at its ends; `end` < `start` for a vertical one.
        log: whether it is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, at = self.low, self.high, value
        if self.log:
            # An error bar may reach below zero; it then goes to the end of the axis.
            low, high, at = math.log(low), math.log(high), math.log(max(value, low))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 7) -> list[float]:
        """At most so many round values between the ends."""
        return _log_ticks(self, most) if self.log else _linear_ticks(self, most)


def scale(
    values: Sequence[float],
    start: float,
    end: float,
    log: bool | None = None,
    floor: float | None = None,
    ceiling: float | None = None,
) -> Scale:
    """An axis around values.

    Args:
        values: finite numbers, at least one.
        start, end: pixels at its ends.
        log: None to decide by the span of the values.
        floor, ceiling: where padding ends: an accuracy is at most 1.
    """
    low, high = min(values), max(values)
    if log is None:
        log = low > 0 and high / low >= LOG_FROM
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # the same, but for rounding
        spread = abs(low) * 0.1 or 1.0
        low, high, log = low - spread, high + spread, False
    elif log:
        factor = (high / low) ** PADDING
        low, high = low / factor, high * factor
    else:
        padding = (high - low) * PADDING
        low, high = low - padding, high + padding
    if floor is not None:
        low = max(low, floor)
    if ceiling is not None:
        high = min(high, ceiling)
    return Scale(low, high, start, end, log)


def _linear_ticks(axis: Scale, most: int) -> list[float]:
    rough = (axis.high - axis.low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _log_ticks(axis: Scale, most: int) -> list[float]:
    first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high))
    best: list[float] = []
    for mantissas in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        places = [m * 10.0**p for p in range(first, last + 1) for m in mantissas]
        best = [p for p in places if axis.low * (1 - 1e-9) <= p <= axis.high * (1 + 1e-9)]
        if len(best) <= most:
            return best
    stride = math.ceil(len(best) / most)
    return best[::stride]
