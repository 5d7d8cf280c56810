"""benchmark(): the latency of one .tflite. compare(): of several, interleaved, with ratios.

One round is one process: it opens the model, warms up, then times single inferences until both
`min_runs` and `min_seconds` are reached. What a process start changes (where memory falls, which core)
is part of a phone's life too, so `compare` starts a new one each round.
"""

import dataclasses
import os
import pathlib
import statistics
from collections.abc import Callable, Sequence

from tfeffi.bench import devices
from tfeffi.errors import BadInput
from tfeffi.export import flatbuffer

_MEGABYTE = 1024.0


@dataclasses.dataclass(frozen=True)
class Latency:
    """How long one inference takes, in milliseconds, and what was measured beside it.

    Attributes:
        model: path of the file.
        device, threads: where, and with how many.
        p50_ms, p90_ms, mean_ms, std_ms, min_ms, max_ms: of the timed runs.
        runs: how many were timed.
        warmup_runs: how many were not, in each process.
        first_ms: the very first inference, which is not among the timed ones.
        init_ms: opening the model and preparing its weights and memory.
        bytes, zip_bytes: of the file.
        activation_bytes: the most activations alive at once, at batch 1: the arena's least size.
        peak_memory_mb: peak resident memory of the process (VmHWM): Python, numpy, LiteRT and the model.
        model_memory_mb: of that, what came with the model, after LiteRT was loaded and had run
            another one: the mapped file, the packed weights, the arena.
        engine, cpu, machine, cores: what ran it.
        ratio: its median time over that of the first file, median over the rounds; `compare` only.
        ratio_low, ratio_high: the smallest and largest ratio of a round.
        ratio_to: the path of that first file.
        rounds: how many processes were measured.
    """

    model: str
    device: str
    threads: int
    p50_ms: float
    p90_ms: float
    mean_ms: float
    std_ms: float
    min_ms: float
    max_ms: float
    runs: int
    warmup_runs: int
    first_ms: float
    init_ms: float
    bytes: int
    zip_bytes: int
    activation_bytes: int
    engine: str
    cpu: str
    machine: str
    cores: int
    peak_memory_mb: float | None = None
    model_memory_mb: float | None = None
    rounds: int = 1
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    ratio_to: str | None = None

    def to_json(self) -> dict:
        """The record as JSON; what was not measured is absent."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def table(self) -> str:
        """The record as a table of one row."""
        return Comparison((self,)).table()


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Latencies measured in one run; `rows` are in the order of the files."""

    rows: tuple[Latency, ...]

    def to_json(self) -> dict:
        """The rows as JSON."""
        return {"rows": [row.to_json() for row in self.rows]}

    def table(self) -> str:
        """The rows as an aligned table, and below it what ran them."""
        lines = [_HEADER, *(_line(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
        text = [
            line[0].ljust(widths[0])
            + "".join(f"  {c.rjust(w)}" for c, w in zip(line[1:], widths[1:], strict=True))
            for line in lines
        ]
        row = self.rows[0]
        where = (
            f"{row.device}, {row.threads} thread{'s' * (row.threads > 1)}, {row.cpu}, {row.engine}"
        )
        return "\n".join((*text, where))


_HEADER = (
    "model", "p50 ms", "p90 ms", "mean ms", "std ms", "first ms", "init ms", "runs", "KB", "zip KB",
    "memory MB", "ratio",
)  # fmt: skip


def _line(row: Latency) -> tuple[str, ...]:
    times = (row.p50_ms, row.p90_ms, row.mean_ms, row.std_ms, row.first_ms, row.init_ms)
    memory = "-" if row.model_memory_mb is None else f"{row.model_memory_mb:.1f}"
    ratio = (
        "" if row.ratio is None else f"{row.ratio:.3f} ({row.ratio_low:.3f}-{row.ratio_high:.3f})"
    )
    return (
        pathlib.Path(row.model).name,
        *(f"{t:.4f}" if t < 1 else f"{t:.3f}" for t in times), str(row.runs),
        f"{row.bytes / 1000:.1f}", f"{row.zip_bytes / 1000:.1f}", memory, ratio,
    )  # fmt: skip


def benchmark(
    path: str | os.PathLike,
    *,
    device: str = "host",
    threads: int = 1,
    warmup_runs: int = 10,
    min_runs: int = 200,
    min_seconds: float = 1.0,
    input_shapes: Sequence[Sequence[int]] | None = None,
    timeout: float = 600.0,
) -> Latency:
    """Measures the latency of a .tflite at batch 1.

    Args:
        path: the file.
        device: where: "host".
        threads: of the engine.
        warmup_runs: inferences before the timed ones, at least the first one.
        min_runs, min_seconds: single inferences are timed until both are reached.
        input_shapes: one shape an input, where the model leaves it open. An open batch is 1.
        timeout: seconds until a process is given up.

    Returns:
        Percentiles, file sizes, memory and what ran it.

    Raises:
        ModelError: the file is missing, damaged, or cannot be run; a model that aborts the engine is
            reported, not followed.
        BadInput: an argument is out of range, or there is no such device.

    Example:
        benchmark("m.tflite").p50_ms
    """
    return compare(
        [path], device=device, threads=threads, warmup_runs=warmup_runs, min_runs=min_runs,
        min_seconds=min_seconds, rounds=1, input_shapes=input_shapes, timeout=timeout,
    ).rows[0]  # fmt: skip


def compare(
    paths: Sequence[str | os.PathLike],
    *,
    device: str = "host",
    threads: int = 1,
    rounds: int = 5,
    warmup_runs: int = 10,
    min_runs: int = 200,
    min_seconds: float = 1.0,
    input_shapes: Sequence[Sequence[int]] | None = None,
    timeout: float = 600.0,
) -> Comparison:
    """Measures several .tflite files in one run, interleaved: A B A B.

    Args:
        paths: the files; ratios are to the first.
        rounds: how often each file has its turn, each time in a new process. `min_runs` and
            `min_seconds` are for all rounds of a file together.
        device, threads, warmup_runs, min_runs, min_seconds, input_shapes, timeout: as for `benchmark`.

    Returns:
        One row a file. Percentiles and times are medians over the rounds; `std_ms` is the median of
        the rounds' standard deviations.

    Raises:
        ModelError, BadInput: as for `benchmark`.

    Example:
        small = compare(["float32.tflite", "int8.tflite"]).rows[1]
        small.ratio  # 0.25: four times as fast
    """
    paths = [os.fspath(path) for path in paths]
    _check(paths, threads, rounds, warmup_runs, min_runs, min_seconds)
    module, where = devices.find(device)
    contents = [flatbuffer.inspect(path) for path in paths]
    request = {
        "threads": threads, "warmup_runs": warmup_runs, "min_runs": -(-min_runs // rounds),
        "min_seconds": min_seconds / rounds, "shapes": input_shapes and [[*s] for s in input_shapes],
    }  # fmt: skip
    answers = interleaved(lambda p: module.measure(p, request, where, timeout), paths, rounds)
    rows = []
    for path, content, measured in zip(paths, contents, answers, strict=True):
        row = _summary(measured)
        if len(paths) > 1:
            row |= _ratios(measured, answers[0]) | {"ratio_to": paths[0]}
        rows.append(
            Latency(
                model=path, device=device, threads=threads, warmup_runs=warmup_runs, rounds=rounds,
                bytes=os.path.getsize(path), zip_bytes=flatbuffer.zip_bytes(path),
                activation_bytes=content.activation_bytes, **row,
            )
        )  # fmt: skip
    return Comparison(tuple(rows))


def interleaved(measure: Callable, paths: Sequence, rounds: int) -> list[list]:
    """What `measure(path)` says in each round, for each path; the order is A B A B.

    Drift of the machine then meets all paths alike, and neighbours in time are what a ratio is of.
    """
    answers: list[list] = [[] for _ in paths]
    for _ in range(rounds):
        for path, measured in zip(paths, answers, strict=True):
            measured.append(measure(path))
    return answers


def _check(paths, threads, rounds, warmup_runs, min_runs, min_seconds) -> None:
    if not paths:
        raise BadInput("there is no model to benchmark")
    for name, value, least in (
        ("threads", threads, 1), ("rounds", rounds, 1), ("warmup_runs", warmup_runs, 1),
        ("min_runs", min_runs, 1), ("min_seconds", min_seconds, 0),
    ):  # fmt: skip
        if value < least:
            raise BadInput(f"{name} {value} must be at least {least}")


def _summary(measured: list[dict]) -> dict:
    def middle(key):
        return statistics.median(answer[key] for answer in measured)

    row = {
        key: middle(key) for key in ("p50_ms", "p90_ms", "mean_ms", "std_ms", "first_ms", "init_ms")
    }
    row |= {
        "min_ms": min(answer["min_ms"] for answer in measured),
        "max_ms": max(answer["max_ms"] for answer in measured),
        "runs": sum(answer["runs"] for answer in measured),
        **{key: measured[0][key] for key in ("engine", "cpu", "machine", "cores")},
    }
    if all("peak_kb" in answer for answer in measured):
        row["peak_memory_mb"] = middle("peak_kb") / _MEGABYTE
        row["model_memory_mb"] = middle("model_kb") / _MEGABYTE
    return row


def _ratios(measured: list[dict], first: list[dict]) -> dict:
    ratios = [a["p50_ms"] / b["p50_ms"] for a, b in zip(measured, first, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }
