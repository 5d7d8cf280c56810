"""The search for what just meets a budget that only a measurement can tell.

Candidates stand in a row, each no larger than the one before. An estimate says where to look, and
what was measured there corrects the estimate; only what was measured within the limit is taken.
"""

from collections.abc import Callable

TOLERANCE = 0.05  # a candidate that uses at least 95 % of the budget is near enough
MOST = 16  # measurements, if noise leads nowhere
_TRUSTED = 3  # misses until the estimate is left for bisection


def first_within(
    estimate: Callable[[int], float],
    measure: Callable[[int], float],
    limit: float,
    first: int,
    last: int,
    tolerance: float = TOLERANCE,
) -> tuple[int | None, dict[int, float]]:
    """The largest candidate that is measured to be within the limit.

    Args:
        estimate: of a candidate's cost, not growing from `first` to `last`.
        measure: its cost; slow.
        limit: the most that is allowed.
        first, last: the candidates' numbers, the largest model first.
        tolerance: the search ends at a candidate whose measured cost is within this fraction below
            the limit; noise makes more precision worthless.

    Returns:
        The number, None if not even `last` was within; and all that was measured.

    Example:
        first_within(lambda i: 100 - i, lambda i: 1.1 * (100 - i), 55, 0, 100)[0]     # 50
    """
    measured: dict[int, float] = {}
    low, high, scale, misses = first, None, 1.0, 0
    while len(measured) < MOST:
        end = last if high is None else high
        if low > end:
            break
        step = _least(estimate, limit / scale, low, end)
        if high is None and misses >= _TRUSTED:
            step = max(step, (low + last + 1) // 2)
        if step in measured:  # the one that fits, and nothing larger is expected to
            break
        measured[step] = found = measure(step)
        expected = estimate(step)
        scale = found / expected if found > 0 and expected > 0 else scale
        if found > limit:
            low, misses = step + 1, misses + 1
        else:
            high = step
            if found >= (1 - tolerance) * limit:
                break
    if high is None and last not in measured:
        measured[last] = measure(last)
        high = last if measured[last] <= limit else None
    return high, measured


def _least(estimate: Callable[[int], float], limit: float, low: int, high: int) -> int:
    """The first whose estimate is within the limit; the last one if none is."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if estimate(middle) <= limit else (middle + 1, high)
    return high
