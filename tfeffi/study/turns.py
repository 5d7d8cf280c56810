"""Candidates that take turns, round after round, so that what disturbs the machine disturbs all."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Turns = Mapping[str, Callable[[], object]]


def interleaved(turns: Turns, rounds: int, say: Callable[[str], object] = print) -> dict:
    """The seconds of each candidate's turn in each round.

    Args:
        turns: by name, what a turn does; it returns when all is done.
        rounds: how often each takes its turn.
        say: is told after each round.

    Returns:
        By name, a list of seconds, one a round.

    Example:
        interleaved({"a": lambda: sum(range(10**6)), "b": lambda: sum(range(10**7))}, rounds=5)
    """
    measured = {name: [] for name in turns}
    for number in range(rounds):
        for name, turn in turns.items():
            started = time.perf_counter()
            turn()
            measured[name].append(time.perf_counter() - started)
        say(f"round {number + 1} of {rounds}")
    return measured


def quartiles(key: str, values: Sequence[float]) -> dict[str, float]:
    """The median of single rounds and the quartiles around it, as keys of a row.

    Args:
        key: of the median; the quartiles are `q1_KEY` and `q3_KEY`.
        values: one a round; of a single one all three are the same.

    Example:
        quartiles("step_ms", [1, 2, 3, 4, 5])  # {"step_ms": 3, "q1_step_ms": 2.0, "q3_step_ms": 4.0}
    """
    low, high = values[0], values[0]
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return {key: statistics.median(values), f"q1_{key}": low, f"q3_{key}": high}


def speedup(seconds: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """How many times faster than the baseline, round by round: median and quartiles."""
    ratios = [theirs / mine for theirs, mine in zip(baseline, seconds, strict=True)]
    return quartiles("speedup", ratios)
