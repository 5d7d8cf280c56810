"""What a profile says: its rows, a table of them, JSON."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from tfeffi.bench import profile_advice
from tfeffi.bench.record import aligned
from tfeffi.bench.roofline import Machine
from tfeffi.errors import BadInput
from tfeffi.export.operators import Operator

KIND = "tfeffi-profile"  # of the JSON
WORST = 10
CLOCK_MS = 0.002  # below two ticks of the profiler's clock nothing is said of speed


@dataclasses.dataclass(frozen=True)
class Row:
    """One operator with all its kernels; or one kernel, where its operator is not certain.

    Attributes:
        kernels: as LiteRT names them.
        operator: of the file; None if it is not certain.
        layers: of Keras that it came from, the one that multiplies first.
        ran: "XNNPACK", or "builtin" if LiteRT's own kernel did.
        dtype: in which it computes.
        ms: mean of the middle half of the runs; whole microseconds are cut off in each.
        mean_ms: of all runs.
        share: of `ms` of all rows.
        least_ms: what the roofline allows; None without operator.
        bound: what does, "compute" or "memory".
    """

    kernels: tuple[str, ...]
    operator: Operator | None
    layers: tuple[str, ...]
    ran: str
    dtype: str
    ms: float
    mean_ms: float
    share: float
    least_ms: float | None
    bound: str | None

    @property
    def kind(self) -> str:
        """The operator's kind."""
        return self.operator.kind if self.operator else "unmatched"

    @property
    def name(self) -> str:
        """The layer that it is told by, and how many are behind it."""
        if not self.layers:
            return "-"
        more = f" +{len(self.layers) - 1}" if len(self.layers) > 1 else ""
        return self.layers[0] + more

    @property
    def intensity(self) -> float | None:
        """Multiply-adds a byte."""
        moved = self.operator.bytes if self.operator else 0
        return self.operator.macs / moved if moved else None

    @property
    def macs_per_second(self) -> float | None:
        """Of the operator; None if it has none, or is too short for the clock."""
        macs = self.operator.macs if self.operator else 0
        return 1e3 * macs / self.ms if macs and self.ms >= CLOCK_MS else None

    @property
    def attained(self) -> float | None:
        """The fraction of what the roofline allows; None if it is too short for the clock."""
        known = self.least_ms is not None and self.ms >= CLOCK_MS
        return self.least_ms / self.ms if known else None

    @property
    def lost_ms(self) -> float:
        """The time above what the roofline allows; all of it, where the operator is not certain."""
        return max(0.0, self.ms - (self.least_ms or 0.0))

    def to_json(self) -> dict:
        """The row as JSON; what is not known is absent."""
        of = self.operator
        row = {
            "operator": self.kind, "layers": list(self.layers), "kernels": list(self.kernels),
            "ran": self.ran, "dtype": self.dtype, "ms": self.ms, "mean_ms": self.mean_ms,
            "share": self.share, "least_ms": self.least_ms, "bound": self.bound,
            "lost_ms": self.lost_ms, "attained": self.attained, "macs_per_byte": self.intensity,
            "gmacs_per_second": self.macs_per_second and self.macs_per_second / 1e9,
        }  # fmt: skip
        if of:
            row |= {
                "index": of.index, "macs": of.macs, "bytes_moved": of.bytes,
                "weight_bytes": of.weight_bytes, "output_shape": list(of.output_shape),
            }  # fmt: skip
        return {name: value for name, value in row.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Profile:
    """A profile of one .tflite.

    Attributes:
        model: path of the file.
        threads: of the engine.
        rows: in the order in which they run.
        folded: kind and layers of the operators that have no kernel of their own: they went into
            another one, or theirs is not certain.
        ms: one inference, median; more than its operators, which are cut to microseconds.
        runs: how many were timed.
        machine: what it can do at best, measured in the same run.
        engine, cpu: what ran it.
    """

    model: str
    threads: int
    rows: tuple[Row, ...]
    folded: tuple[tuple[str, tuple[str, ...]], ...]
    ms: float
    runs: int
    machine: Machine
    engine: str
    cpu: str

    def worst(self, count: int = WORST) -> tuple[Row, ...]:
        """The rows that lose most against the roofline, that which loses most first."""
        return tuple(sorted(self.rows, key=lambda row: -row.lost_ms)[:count])

    def advice(self, row: Row) -> tuple[str, ...]:
        """What to do about a row."""
        return profile_advice.advice(row, self.rows)

    def to_json(self) -> dict:
        """All of it as JSON."""
        return {
            "kind": KIND, "model": self.model, "threads": self.threads, "ms": self.ms, "runs": self.runs,
            "engine": self.engine, "cpu": self.cpu, "machine": self.machine.to_json(),
            "rows": [row.to_json() for row in self.rows],
            "folded": [{"operator": kind, "layers": list(layers)} for kind, layers in self.folded],
            "worst": [
                {"operator": row.kind, "layers": list(row.layers), "lost_ms": row.lost_ms,
                 "advice": list(self.advice(row))}
                for row in self.worst()
            ],
        }  # fmt: skip

    def table(self) -> str:
        """All rows, then the worst and what to do about them, then what ran them."""
        lines = [_HEADER, *(_line(row) for row in self.rows)]
        sections = [
            aligned(lines, left=range(3)),
            "",
            f"worst, by the time above what {self._machine()} allows:",
        ]
        for number, row in enumerate(self.worst(), 1):
            what = f"{number:2}. {row.lost_ms:.4f} ms  {row.name} ({row.kind})"
            sections += [what, *(f"      {line}" for line in self.advice(row))]
        sections += ["", self._sums(), self.machine.text()]
        return "\n".join(sections)

    def _machine(self) -> str:
        return f"{self.threads} thread{'s' * (self.threads > 1)} of this machine"

    def _sums(self) -> str:
        together = sum(row.ms for row in self.rows)
        unsure = sum(row.operator is None for row in self.rows)
        text = (
            f"{pathlib.Path(self.model).name}: {self.ms:.4f} ms an inference, {together:.4f} ms in its "
            f"operators (microseconds are cut off); {self.runs} runs, {self.cpu}, {self.engine}"
        )
        if unsure:
            text += f"; {unsure} kernel{'s' * (unsure > 1)} unmatched"
        if self.folded:
            text += f"; {len(self.folded)} operators without a kernel of their own"
        return text


_HEADER = (
    "layer", "operator", "ran in", "ms", "share", "MMACs", "kB", "MACs/B", "GMAC/s", "of limit", "limit",
)  # fmt: skip


def _line(row: Row) -> tuple[str, ...]:
    def text(value, form: str) -> str:
        return "-" if value is None else format(value, form)

    of = row.operator
    return (
        row.name, row.kind if of else row.kernels[0], row.ran, f"{row.ms:.4f}", f"{row.share:.1%}",
        text(of and of.macs / 1e6, ".3f"), text(of and of.bytes / 1e3, ".1f"),
        text(row.intensity, ".1f"), text(row.macs_per_second and row.macs_per_second / 1e9, ".1f"),
        text(row.attained, ".0%"), row.bound or "-",
    )  # fmt: skip


def read(path: str | os.PathLike) -> dict[str, Any] | None:
    """A profile that `tfeffi-benchmark --profile --output` wrote; None if the file is something else.

    Raises:
        BadInput: it says that it is a profile, and cannot be read.
    """
    try:
        record = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("kind") != KIND:
        return None
    parts = [(record, {"model", "ms", "threads", "machine", "rows", "worst"})]
    parts += [
        (row, {"operator", "layers", "dtype", "ms", "share"}) for row in record.get("rows", ())
    ]
    parts += [(row, {"operator", "layers", "lost_ms", "advice"}) for row in record.get("worst", ())]
    for part, keys in parts:
        if missing := keys - set(part):
            raise BadInput(
                f'profile "{path}" has no {", ".join(sorted(missing))}; measure it again'
            )
    return record
