"""Where the time goes: the records that a latency table answers with."""

import collections
import dataclasses

from tfeffi.bench.record import aligned


@dataclasses.dataclass(frozen=True)
class LayerLatency:
    """One call of a layer.

    Attributes:
        layer: its name, after those of the nested models it is in.
        kind: its class.
        input_shapes: without the batch.
        ms: the time of its operators; 0 if the converter folds it into the layer before.
    """

    layer: str
    kind: str
    input_shapes: tuple[tuple[int | None, ...], ...]
    ms: float


@dataclasses.dataclass(frozen=True)
class Layers:
    """The calls of a model with their times, in its order.

    Attributes:
        rows: one a call.
        device, threads: where it was measured.
    """

    rows: tuple[LayerLatency, ...]
    device: str
    threads: int

    @property
    def ms(self) -> float:
        """The sum."""
        return sum(row.ms for row in self.rows)

    def table(self) -> str:
        """The slowest first, with their share of the sum; calls that take no time are left out."""
        rows = sorted((row for row in self.rows if row.ms > 0), key=lambda row: -row.ms)
        lines = [("layer", "kind", "input", "ms", "share")]
        for row in rows:
            shape = " ".join("x".join(map(str, shape)) for shape in row.input_shapes)
            lines.append((row.layer, row.kind, shape, f"{row.ms:.4f}", f"{row.ms / self.ms:.1%}"))
        return "\n".join(
            (aligned(lines, left=range(3)), f"{_where(self)}; together {self.ms:.4f} ms")
        )


@dataclasses.dataclass(frozen=True)
class OperatorLatency:
    """A group of operators that run as one; see `tfeffi.bench.groups`.

    Attributes:
        kind: their names in the schema, "PAD + CONV_2D".
        operator: with types, shapes and options.
        ms: one run of it inside a model of that size.
    """

    kind: str
    operator: str
    ms: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model would take, from the times of its operators.

    Attributes:
        rows: the operators in the file's order.
        fixed_ms: what starting an inference takes, once.
        device, threads: where the operators were measured.
    """

    rows: tuple[OperatorLatency, ...]
    fixed_ms: float
    device: str
    threads: int

    @property
    def ms(self) -> float:
        """Of the whole model."""
        return self.fixed_ms + sum(row.ms for row in self.rows)

    def table(self) -> str:
        """Operators of each kind with their share of the whole, the slowest first."""
        total, count = collections.Counter(), collections.Counter()
        for row in self.rows:
            total[row.kind] += row.ms
            count[row.kind] += 1
        lines = [("operator", "times", "ms", "share")]
        for kind, ms in (*total.most_common(), ("starting", self.fixed_ms)):
            times = str(count.get(kind, 1))
            lines.append((kind, times, f"{ms:.4f}", f"{ms / max(self.ms, 1e-12):.1%}"))
        return "\n".join((aligned(lines, left=(0,)), f"{_where(self)}; together {self.ms:.4f} ms"))


def _where(found) -> str:
    return f"{found.device}, {found.threads} thread{'s' * (found.threads > 1)}"
