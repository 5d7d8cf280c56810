"""What the keys of a row mean: title, unit, whether less is better, and how a value is written."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from tfeffi.errors import BadInput, near

# A unit is a factor and a suffix: bytes times 1e-3 are kB.
UNITS = {
    "": (1, ""), "B": (1, " B"), "kB": (1e-3, " kB"), "MB": (1e-6, " MB"), "GB": (1e-9, " GB"),
    "k": (1e-3, " k"), "M": (1e-6, " M"), "G": (1e-9, " G"), "T": (1e-12, " T"), "us": (1e3, " µs"),
    "ms": (1, " ms"), "s": (1, " s"), "min": (1 / 60, " min"), "h": (1 / 3600, " h"),
    "mb": (1, " MB"), "%": (100, " %"), "points": (100, " points"), "x": (1, "×"), "img/s": (1, " img/s"),
}  # fmt: skip
# What may be written for what: a value in milliseconds is not one in seconds.
FAMILIES = (
    ("bytes", "B", "kB", "MB", "GB"), ("count", "", "k", "M", "G", "T"), ("ms", "us"),
    ("s", "min", "h"), ("mb",), ("%", "points"), ("x",), ("img/s",),
)  # fmt: skip
# Units that choose their prefix by the value.
LADDERS = {"bytes": ("B", "kB", "MB", "GB"), "count": ("", "k", "M", "G", "T")}
_MINUS = "\u2212"


@dataclasses.dataclass(frozen=True)
class Metric:
    """One thing that is measured.

    Attributes:
        key: in the row.
        title: as a heading.
        unit: a key of `UNITS`, or "bytes" or "count", which choose the prefix by the value.
        better: "less", "more", or "" where neither is.
        digits: after the point; None for three significant ones.
        gain: of the ratio to the baseline, such as "faster".
    """

    key: str
    title: str
    unit: str = ""
    better: str = ""
    digits: int | None = None
    gain: str = ""

    @property
    def std_key(self) -> str:
        """The key of the standard deviation over seeds that may stand beside the mean."""
        return self.key.removesuffix("_mean") + "_std"

    def text(self, value: float) -> str:
        """The value with its unit.

        Example:
            metric("bytes").text(98_496)  # "98.5 kB"
        """
        return write(value, self.unit, self.digits)

    def with_spread(self, row: Mapping[str, Any]) -> str:
        """The row's value, with ± its standard deviation if that was measured."""
        value, spread = row[self.key], row.get(self.std_key)
        if not is_number(spread):
            return self.text(value)
        unit, digits = _chosen(value, self.unit, self.digits)
        factor, suffix = UNITS[unit]
        mean = write(value, unit, digits).removesuffix(suffix)
        return f"{mean} ± {spread * factor:,.{digits}f}{suffix}"


_KNOWN = (
    Metric("accuracy_mean", "accuracy", "%", "more", 2, "more accurate"),
    Metric("p50_ms", "latency p50", "ms", "less", gain="faster"),
    Metric("p90_ms", "latency p90", "ms", "less", gain="faster"),
    Metric("bytes", "file", "bytes", "less", gain="smaller"),
    Metric("weight_bytes", "weights", "bytes", "less", gain="smaller"),
    Metric("zip_bytes", "zipped", "bytes", "less", gain="smaller"),
    Metric("activation_bytes", "peak activations", "bytes", "less", gain="smaller"),
    Metric("arena_bytes", "peak arena", "bytes", "less", gain="smaller"),
    Metric("macs", "MACs", "count", "less", gain="fewer"),
    Metric("params", "parameters", "count", "less", gain="fewer"),
    Metric("train_seconds_mean", "training", "s", "less", gain="less"),
    Metric("compile_seconds_mean", "compile", "s", "less"),
    Metric("train_macs", "training MACs", "count", "less", gain="fewer"),
    Metric("train_macs_mean", "training MACs", "count", "less", gain="fewer"),
    Metric("peak_memory_mb", "peak memory", "mb", "less", gain="less"),
    Metric("n", "seeds", "", "", 0),
    Metric("epochs", "epochs", "", "", 0),
    Metric("runs", "timed runs", "", "", 0),
    Metric("threads", "threads", "", "", 0),
    Metric("images_per_second", "speed", "img/s", "more", gain="faster"),
)
KNOWN = {known.key: known for known in _KNOWN}
_BY_SUFFIX = (
    (r"_ms(_mean)?$", Metric("", "", "ms", "less", gain="faster")),
    (r"seconds(_mean)?$", Metric("", "", "s", "less", gain="less")),
    (r"images_per_second(_mean)?$", Metric("", "", "img/s", "more", gain="faster")),
    (r"bytes(_mean)?$", Metric("", "", "bytes", "less", gain="smaller")),
    (r"_mb(_mean)?$", Metric("", "", "mb", "less", gain="less")),
    (r"(accuracy|agreement)(_one_view)?(_mean)?$", Metric("", "", "%", "more", 2)),
    (r"share(_mean)?$", Metric("", "", "%")),
    (r"_removed(_mean)?$", Metric("", "", "%", "more", 1)),
    (r"(^|_)(ratio|speedup)(_low|_high|_mean)?$", Metric("", "", "x")),
    (r"(macs|params)(_mean)?$", Metric("", "", "count", "less", gain="fewer")),
)


def metric(key: str) -> Metric:
    """What is known of a key: from the list, else from its unit, else a plain number."""
    if key in KNOWN:
        return KNOWN[key]
    for pattern, like in _BY_SUFFIX:
        if re.search(pattern, key):
            title = re.sub(r"_(mean|ms|mb)\b|_(mean|ms|mb)$", "", key).replace("_", " ")
            return dataclasses.replace(like, key=key, title=title)
    return Metric(key, key.removesuffix("_mean").replace("_", " "))


def write(value: float, unit: str = "", digits: int | None = None, signed: bool = False) -> str:
    """A number with its unit, as people write it.

    Args:
        value: in the unit of the schema: fractions, bytes, milliseconds, seconds.
        unit: a key of `UNITS`, or "bytes" or "count".
        digits: after the point; None for three significant ones.
        signed: whether a positive number gets its plus.

    Example:
        write(-0.0031, "points", 2, signed=True)  # "−0.31 points"
    """
    unit, digits = _chosen(value, unit, digits)
    factor, suffix = UNITS[unit]
    text = f"{value * factor:,.{digits}f}"
    if not any(c in "123456789" for c in text):
        text = text.lstrip("-")
    elif text.startswith("-"):
        text = _MINUS + text[1:]
    elif signed:
        text = "+" + text
    return text + suffix


def family(unit: str) -> tuple[str, ...]:
    """The units in which a value of that unit may be written."""
    return next(units for units in FAMILIES if unit in units)


def times(value: float) -> str:
    """A ratio: "0.74×", "1.02×", "7.9×", "14.9×", "120×"."""
    return write(value, "x", 2 if value < 1.995 else 1 if value < 99.95 else 0)


def short(value: float, unit: str) -> str:
    """A round number with its unit and no digit more than it needs: "50 kB", "1.5 M"."""
    unit, _ = _chosen(value, unit, None)
    factor, suffix = UNITS[unit]
    return f"{round(value * factor, 9):.9g}{suffix}"


def significant(number: float, digits: int = 3) -> int:
    """How many decimals show so many significant digits; none for an integer, which is exact."""
    if number == 0 or isinstance(number, int) or not math.isfinite(number):
        return 0
    power = int(f"{number:.{digits - 1}e}".partition("e")[2])  # of the rounded number
    return max(0, digits - 1 - power)


def ratio(row: Mapping[str, Any], baseline: Mapping[str, Any], key: str) -> float | None:
    """How many times better than the baseline: 4.0 is four times faster, or smaller, or more.

    Returns:
        None where one of the two was not measured or is zero, or neither way is better.
    """
    better, mine, theirs = metric(key).better, row.get(key), baseline.get(key)
    if not better or not is_number(mine) or not is_number(theirs) or mine <= 0 or theirs <= 0:
        return None
    return theirs / mine if better == "less" else mine / theirs


def delta(row: Mapping[str, Any], baseline: Mapping[str, Any], key: str) -> float | None:
    """The row's value less the baseline's; None where one was not measured."""
    mine, theirs = row.get(key), baseline.get(key)
    return mine - theirs if is_number(mine) and is_number(theirs) else None


def is_number(value: Any) -> bool:
    """Whether it is a finite number; a truth value is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _chosen(value: float, unit: str, digits: int | None) -> tuple[str, int]:
    """The prefix under which three digits stand before the point, and the decimals to show."""
    if unit in LADDERS:
        first, *_ = ladder = LADDERS[unit]
        unit = next((u for u in ladder if abs(value) * UNITS[u][0] < 999.5), ladder[-1])
        if digits is None and unit == first and value == int(value):
            digits = 0
    if unit not in UNITS:
        raise BadInput(f'unit "{unit}": {near(unit, [*UNITS, *LADDERS])}')
    return unit, significant(value * UNITS[unit][0]) if digits is None else digits
