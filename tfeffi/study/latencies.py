"""Rows of a result and the latencies of their files, of one interleaved run, measured once."""

from collections.abc import Mapping, Sequence
from typing import Any

from tfeffi import bench, files
from tfeffi.study.experiments.cells import Cells
from tfeffi.study.machine import hardware


def timed(
    cells: Cells, rows: Sequence[Mapping[str, Any]], clock: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """The rows without their "file", and with its latency where a clock is given.

    Args:
        cells: where the times are kept; other files, another clock or another processor are measured
            anew.
        rows: each with a "name" and the path of its .tflite as "file"; ratios are to the first.
        clock: arguments of `bench.compare`; None measures nothing.

    Returns:
        The rows in their order. `speedup` is over the first row, `_low` and `_high` single rounds'.
    """
    rows = [dict(row) for row in rows]
    paths = [row.pop("file") for row in rows]
    if clock is None:
        return rows

    def measure(*, files, clock, cpu) -> dict[str, Any]:
        latencies = bench.compare(paths, **clock).rows
        return {"rows": [columns(latency, rows[0]["name"]) for latency in latencies]}

    name = f"time {rows[0]['name']} and {len(rows) - 1} others"
    marks = [files.sha256(path) for path in paths]
    times = cells.once(name, measure, files=marks, clock=dict(clock), cpu=hardware()["cpu"])["rows"]
    return [row | time for row, time in zip(rows, times, strict=True)]


def columns(latency: bench.Latency, first: str) -> dict[str, Any]:
    """What a row says of its latency, and of its ratio to and speed-up over the row called `first`."""
    found = {k: getattr(latency, k) for k in ("device", "threads", "p50_ms", "p90_ms", "runs")}
    if latency.ratio is None:
        return found
    return found | {
        "ratio_to": first,
        "ratio": latency.ratio,
        "ratio_low": latency.ratio_low,
        "ratio_high": latency.ratio_high,
        "speedup": 1 / latency.ratio,
        "speedup_low": 1 / latency.ratio_high,
        "speedup_high": 1 / latency.ratio_low,
    }
