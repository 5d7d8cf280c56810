"""The records of a measurement, and the table that they make."""

import dataclasses
import pathlib
import statistics
from collections.abc import Callable, Container, Sequence

from tfeffi.bench.native_output import Operator


@dataclasses.dataclass(frozen=True)
class Latency:
    """How long one inference takes, in milliseconds, and what was measured beside it.

    Attributes:
        model: path of the file.
        device, threads: where, and with how many.
        mean_ms: of the timed runs.
        min_ms, max_ms, p50_ms, p90_ms, std_ms: too, if the engine tells: many a native binary tells
            no percentiles, an old one only the mean.
        runs: how many were timed.
        warmup_runs: how many were not, in each process.
        first_ms: the very first inference, which is not among the timed ones.
        init_ms: opening the model and preparing its weights and memory.
        bytes, zip_bytes: of the file.
        activation_bytes: the most activations alive at once, at batch 1: the arena's least size.
        peak_memory_mb: peak resident memory of the process (VmHWM): Python, numpy, LiteRT and the model.
        model_memory_mb: of that, what came with the model, after LiteRT was loaded and had run
            another one: the mapped file, the packed weights, the arena.
        engine, cpu, machine, cores: what ran it, as far as the device tells.
        cpu_affinity: the processors that were asked for.
        delegated: how much of the graph the GPU, NNAPI or external delegate took, if one was asked
            for: "completely" or "partially"; "completely" if it was so in each round.
        operators: of the first round, in the order of the graph, if the native binary was asked.
        temperature_c_before, temperature_c_after: °C by thermal zone, before the first turn and after
            the last one, where the device tells.
        frequency_mhz_before, frequency_mhz_after: of each processor, likewise.
        ratio: its median time over that of the first file on the device, median over the rounds;
            `compare` only. Where there is no median, of the mean times.
        ratio_low, ratio_high: the smallest and largest ratio of a round.
        ratio_to: the path of that first file.
        rounds: how many processes were measured.
    """

    model: str
    device: str
    threads: int
    mean_ms: float
    runs: int
    warmup_runs: int
    bytes: int
    zip_bytes: int
    activation_bytes: int
    engine: str
    min_ms: float | None = None
    max_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    std_ms: float | None = None
    first_ms: float | None = None
    init_ms: float | None = None
    cpu: str | None = None
    machine: str | None = None
    cores: int | None = None
    cpu_affinity: str | None = None
    delegated: str | None = None
    peak_memory_mb: float | None = None
    model_memory_mb: float | None = None
    operators: tuple[Operator, ...] | None = None
    temperature_c_before: dict[str, float] | None = None
    temperature_c_after: dict[str, float] | None = None
    frequency_mhz_before: dict[str, float] | None = None
    frequency_mhz_after: dict[str, float] | None = None
    rounds: int = 1
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    ratio_to: str | None = None

    def to_json(self) -> dict:
        """The record as JSON; what was not measured is absent."""
        row = {name: value for name, value in vars(self).items() if value is not None}
        if self.operators:
            row["operators"] = [vars(operator) for operator in self.operators]
        return row

    def table(self) -> str:
        """The record as a table of one row, and one of the operators if they are told."""
        text = Comparison((self,)).table()
        return f"{text}\n\n{self.operator_table()}" if self.operators else text

    def operator_table(self) -> str:
        """The operators that the program told, the slowest first."""
        if not self.operators:
            return "its operators were not told"
        total = sum(row.ms for row in self.operators) or 1.0
        rows = sorted(self.operators, key=lambda row: -row.ms)
        lines = [("operator", "ms", "share", "calls", "name")]
        lines += [
            (r.kind, f"{r.ms:.4f}", f"{r.ms / total:.1%}", str(r.calls), r.name) for r in rows
        ]
        return aligned(lines, left=(0, 4))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Latencies measured in one run; `rows` are in the order of the files."""

    rows: tuple[Latency, ...]

    def to_json(self) -> dict:
        """The rows as JSON."""
        return {"rows": [row.to_json() for row in self.rows]}

    def table(self) -> str:
        """The rows as an aligned table, and below it what ran them, a line for each device."""
        several = len({row.device for row in self.rows}) > 1
        lines = [("device", *_HEADER)[not several :]]
        lines += [(row.device, *_line(row))[not several :] for row in self.rows]
        text = aligned(lines, left=range(1 + several))
        rows = {}
        for row in self.rows:
            rows.setdefault(row.device, []).append(row)
        return "\n".join((text, *map(_where, rows.values())))


def aligned(lines: Sequence[Sequence[str]], left: Container[int]) -> str:
    """Columns of the same width; those in `left` begin at the same place, the others end there."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


_HEADER = (
    "model", "p50 ms", "p90 ms", "mean ms", "std ms", "first ms", "init ms", "runs", "KB", "zip KB",
    "arena KB", "memory MB", "ratio",
)  # fmt: skip


def _line(row: Latency) -> tuple[str, ...]:
    times = (row.p50_ms, row.p90_ms, row.mean_ms, row.std_ms, row.first_ms, row.init_ms)
    name = pathlib.Path(row.model).name + " (partial)" * (row.delegated == "partially")
    memory = "-" if row.model_memory_mb is None else f"{row.model_memory_mb:.1f}"
    ratio = (
        "" if row.ratio is None else f"{row.ratio:.3f} ({row.ratio_low:.3f}-{row.ratio_high:.3f})"
    )
    return (
        name, *map(_time, times), str(row.runs),
        f"{row.bytes / 1000:.1f}", f"{row.zip_bytes / 1000:.1f}",
        f"{row.activation_bytes / 1000:.1f}", memory, ratio,
    )  # fmt: skip


def _time(ms: float | None) -> str:
    if ms is None:
        return "-"
    return f"{ms:.4f}" if ms < 1 else f"{ms:.3f}"


def _where(rows: Sequence[Latency]) -> str:
    """What ran the rows of a device, and how hot and fast it was before and after."""
    row = rows[0]
    threads = f"{row.threads} thread{'s' * (row.threads > 1)}"
    if row.cpu_affinity:
        threads += f" on processors {row.cpu_affinity}"
    how = {one.delegated for one in rows}
    delegate = row.delegated and f"{row.delegated if len(how) == 1 else 'partially'} delegated"
    said = (row.device, threads, row.cpu or row.machine, row.engine, delegate, _condition(row))
    return ", ".join(part for part in said if part)


def _condition(row: Latency) -> str:
    """The hottest zone and the mean clock, before and after, or that the device does not tell."""
    hot = _change(row.temperature_c_before, row.temperature_c_after, max, "{:.1f} °C")
    fast = _change(row.frequency_mhz_before, row.frequency_mhz_after, statistics.mean, "{:.0f} MHz")
    return f"temperature {hot}, frequency {fast}"


def _change(before: dict | None, after: dict | None, of: Callable, form: str) -> str:
    shown = [form.format(of(seen.values())) for seen in (before, after) if seen]
    return " to ".join(shown) if shown else "not available"
