"""What a model costs once it is exported: the bytes of its file, or its latency on a device.

A meter holds the original and measures candidates against it. Nothing here estimates.
"""

import dataclasses
import pathlib
import tempfile
from typing import Any

import keras

from tfeffi.bench import Engine, compare, one_layer
from tfeffi.bench.table import middle_ms
from tfeffi.compress.budget import Budget


@dataclasses.dataclass(frozen=True)
class FileBytes:
    """The size of a .tflite.

    Attributes:
        file_bytes: of the file.
        before: of the original's.
    """

    file_bytes: int
    before: int

    def to_json(self) -> dict[str, Any]:
        """What goes into a report."""
        return {"file_bytes_before": self.before, "file_bytes_after": self.file_bytes}


@dataclasses.dataclass(frozen=True)
class Timed:
    """The latency of a .tflite, beside that of the original in one interleaved run.

    Attributes:
        latency_ms, before: the medians over the rounds of candidate and original (of mean times,
            where the device's program tells no others).
        ratio: of the two, median over the rounds.
        ratio_low, ratio_high: of single rounds.
        device, threads, cpu, engine: what ran them.
    """

    latency_ms: float
    before: float
    ratio: float
    ratio_low: float
    ratio_high: float
    device: str
    threads: int
    cpu: str
    engine: str

    def to_json(self) -> dict[str, Any]:
        """What goes into a report."""
        values = dataclasses.asdict(self)
        names = {"latency_ms": "latency_ms_after", "before": "latency_ms_before"}
        return {names.get(key, key): value for key, value in values.items()}


class BytesMeter:
    """Measures the bytes of exported files.

    Args:
        model: the original.
        input_shape: of one example, where the model leaves it open.
        quantize: None, or "int8".
    """

    def __init__(self, model: keras.Model, input_shape=None, quantize: str | None = None):
        self._how = {"input_shape": input_shape, "quantize": quantize}
        self.before = len(one_layer.exported(model, **self._how))

    def measure(self, model: keras.Model) -> FileBytes:
        """The size of a candidate's file."""
        return FileBytes(len(one_layer.exported(model, **self._how)), self.before)


class LatencyMeter:
    """Measures latencies, each together with the original's, files taking turns.

    Args:
        model: the original.
        device, threads: where.
        input_shape: of one example, where the model leaves it open.
        quantize: None, or "int8".
        rounds, min_runs, min_seconds, engine: of each comparison, see `tfeffi.bench.compare`.
    """

    def __init__(
        self,
        model: keras.Model,
        device: str = "host",
        threads: int = 1,
        input_shape=None,
        quantize: str | None = None,
        *,
        rounds: int = 5,
        min_runs: int = 200,
        min_seconds: float = 1.0,
        engine: Engine | None = None,
    ):
        self._export = {"input_shape": input_shape, "quantize": quantize}
        self._content = one_layer.exported(model, **self._export)
        self._how = {
            "device": device, "threads": threads, "rounds": rounds, "min_runs": min_runs,
            "min_seconds": min_seconds, "engine": engine,
        }  # fmt: skip

    def measure(self, model: keras.Model) -> Timed:
        """The latency of a candidate and of the original."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [pathlib.Path(folder) / name for name in ("original.tflite", "small.tflite")]
            paths[0].write_bytes(self._content)
            paths[1].write_bytes(one_layer.exported(model, **self._export))
            first, row = compare(paths, **self._how).rows
        return Timed(
            middle_ms(row), middle_ms(first), row.ratio, row.ratio_low, row.ratio_high,
            row.device, row.threads, row.cpu, row.engine,
        )  # fmt: skip


def meter(budget: Budget, model: keras.Model, input_shape=None) -> BytesMeter | LatencyMeter:
    """The meter that a budget of what is shipped needs."""
    if budget.kind == "bytes":
        return BytesMeter(model, input_shape, budget.quantize)
    return LatencyMeter(
        model, budget.device, budget.threads, input_shape, budget.quantize, engine=budget.engine
    )


def within(budget: Budget, found: FileBytes | Timed) -> tuple[float, float]:
    """What was measured, and the most that the budget allows, in the same terms.

    A fraction of a latency is judged by the ratio: drift of the machine meets both files alike.
    """
    if budget.kind == "latency":
        return found.ratio, budget.value
    original = dataclasses.replace(found, **{_SIZE[type(found)]: found.before})
    return getattr(found, _SIZE[type(found)]), budget.limit(original)


_SIZE = {FileBytes: "file_bytes", Timed: "latency_ms"}
