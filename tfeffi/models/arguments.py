"""The arguments that every architecture takes, checked."""

import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any

from tfeffi.errors import BadInput

Shape = tuple[int, int, int]


def image_shape(input_shape: Any) -> Shape:
    """The shape of one image as three ints: height, width, channels.

    Raises:
        BadInput: it is not three positive whole numbers.
    """
    try:
        height, width, channels = (operator.index(size) for size in input_shape)
    except (TypeError, ValueError):
        height = width = channels = 0
    if min(height, width, channels) < 1:
        raise BadInput(
            f"models: input_shape={input_shape!r}; give (height, width, channels), all at least 1, "
            "such as (32, 32, 3)"
        )
    return height, width, channels


def count(name: str, value: Any) -> int:
    """A whole number of at least 1.

    Raises:
        BadInput: it is not.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise BadInput(f"models: {name}={value!r}; give a whole number, at least 1")
    return number


def counts(name: str, values: Any, length: int) -> tuple[int, ...]:
    """So many whole numbers of at least 1.

    Raises:
        BadInput: they are not.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise BadInput(f"models: {name}={values!r}; give {length} whole numbers")
    values = tuple(values)
    if len(values) != length:
        raise BadInput(f"models: {name}={values!r}; give {length} whole numbers")
    return tuple(count(name, value) for value in values)


def multiplier(value: Any) -> float:
    """A width multiplier: a finite number above 0.

    Raises:
        BadInput: it is not.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise BadInput(f"models: width_multiplier={value!r}; give a number above 0, such as 0.5")
    return float(value)


def choice(name: str, value: Any, known: Iterable[Any]) -> Any:
    """One of the known values.

    Raises:
        BadInput: it is none of them.
    """
    known = tuple(known)
    if isinstance(value, bool) or value not in known:
        raise BadInput(f"models: {name}={value!r}; give one of {', '.join(map(repr, known))}")
    return value


def scaled(filters: int, width_multiplier: float) -> int:
    """The number of filters at a width multiplier: rounded, at least 1."""
    return max(1, round(filters * width_multiplier))


def scaled_to_8(filters: int, width_multiplier: float) -> int:
    """Rounded to a multiple of 8 that is at least 8 and never below 90 %, as MobileNets do."""
    wanted = filters * width_multiplier
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8
