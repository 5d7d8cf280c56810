"""How small is small enough: a budget of what a model computes, stores, ships or how long it takes.

What is *counted* (`COUNTED`) is known of every plan, exactly, before a model is built. What is
*shipped* (`SHIPPED`) is known of the exported file only: methods aim by an estimate, then export and
measure, and keep nothing that was not measured to be within the budget.
"""

import dataclasses
import math
import numbers

from tfeffi.bench.engine import Engine
from tfeffi.errors import BadInput

COUNTED = ("macs", "params")
SHIPPED = ("bytes", "latency", "latency_ms")
KINDS = (*COUNTED, *SHIPPED)
_ENGINE = ("benchmark_binary", "device_python")
_WHERE = {"device": "host", "threads": 1, "quantize": None, **dict.fromkeys(_ENGINE)}  # defaults
_QUANTIZE = (None, "int8")
ARGUMENTS = (*KINDS, *_WHERE)
_FIELD = {"bytes": "file_bytes", "latency": "latency_ms"}  # what a cost calls it


@dataclasses.dataclass(frozen=True)
class Budget:
    """What the compressed model may cost. Exactly one of the five is given.

    Args:
        macs: multiply-adds of one forward pass at batch 1.
        params: all weights, as `model.count_params()` counts them.
        bytes: the size of the exported .tflite. It is not 4 × params: batch normalization is folded
            into the convolutions, and the graph takes some.
            Each of the three: a float in (0, 1] is a fraction of the model's own cost, a number
            above 1 is absolute.
        latency: a fraction, in (0, 1], of the model's own latency: of the median times of the
            exported files, measured in one interleaved run.
        latency_ms: milliseconds, of any size: the median time of the exported file.
        device, threads: where latency is measured, and on how many threads.
        quantize: what files are exported in for bytes and latency: None for float32, or "int8",
            inputs and outputs too. They are calibrated on random values, which change neither.
        benchmark_binary: path of Google's native benchmark_model for the device, which measures
            latency there in place of Python: an ordinary phone has none.
        device_python: the device's Python with ai-edge-litert; default "python3".

    Raises:
        BadInput: none or more than one is given, or the value is out of range.

    Example:
        Budget(macs=0.5)            # half of the model's own MACs
        Budget(bytes=49_248)        # the .tflite is at most so large
        Budget(latency=0.5)         # twice as fast
        Budget(latency_ms=0.5)      # half a millisecond
        Budget(latency_ms=0.05, quantize="int8")
        Budget(latency=0.5, device="adb", benchmark_binary="./benchmark_model")
    """

    macs: float | int | None = None
    params: float | int | None = None
    bytes: float | int | None = None
    latency: float | None = None
    latency_ms: float | int | None = None
    device: str = "host"
    threads: int = 1
    quantize: str | None = None
    benchmark_binary: str | None = None
    device_python: str | None = None

    def __post_init__(self):
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            said = " and ".join(given) if given else "nothing"
            raise BadInput(f"budget: give exactly one of {', '.join(KINDS)}; {said} was given")
        _check(given[0], getattr(self, given[0]))
        self._check_where()

    def _check_where(self) -> None:
        if isinstance(self.threads, bool) or not isinstance(self.threads, int) or self.threads < 1:
            raise BadInput(f"budget: threads={self.threads!r}; give a whole number from 1 on")
        if self.quantize not in _QUANTIZE:
            raise BadInput(f'budget: quantize={self.quantize!r}; give "int8", or None for float32')
        for key, default in _WHERE.items():
            if self.is_latency or getattr(self, key) == default:
                continue
            if key != "quantize":
                raise BadInput(
                    f"budget: {key}={getattr(self, key)!r} is for latency, not for {self.kind}"
                )
            if self.is_counted:
                raise BadInput(
                    f'budget: quantize="{self.quantize}" is for bytes and latency, {self.kind} are '
                    "the same in any type"
                )

    @property
    def kind(self) -> str:
        """Which cost is limited: "macs", "params", "bytes", "latency" or "latency_ms"."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def value(self) -> float | int:
        """The fraction or the figure, as it was given."""
        value = getattr(self, self.kind)
        return value.item() if hasattr(value, "item") else value  # NumPy's: JSON takes none

    @property
    def is_fraction(self) -> bool:
        """Whether the budget is a share of the model's own cost."""
        return self.kind == "latency" or (self.kind != "latency_ms" and self.value <= 1)

    @property
    def is_latency(self) -> bool:
        """Whether time is limited."""
        return self.kind in ("latency", "latency_ms")

    @property
    def engine(self) -> Engine:
        """What runs models on the device."""
        return Engine(binary=self.benchmark_binary, python=self.device_python)

    @property
    def is_counted(self) -> bool:
        """Whether the cost can be counted without exporting the model."""
        return self.kind in COUNTED

    def of(self, cost) -> float | int:
        """The limited part of a cost: its `macs`, `params`, `file_bytes` or `latency_ms`."""
        return getattr(cost, _FIELD.get(self.kind, self.kind))

    def limit(self, cost) -> float | int:
        """The budget as a figure.

        Args:
            cost: the cost of the model before compression: `tfeffi.cost(model)` for MACs and
                parameters, else a record with `file_bytes` or `latency_ms`.

        Returns:
            The largest cost that is within the budget; whole, but for milliseconds.
        """
        value = self.value * self.of(cost) if self.is_fraction else self.value
        return value if self.is_latency else math.floor(value + 1e-9)

    def allows(self, cost, before=None) -> bool:
        """Whether a model of this cost is within the budget.

        Args:
            cost: the cost of the compressed model.
            before: the cost of the original; a fraction needs it.

        Raises:
            BadInput: the budget is a fraction and `before` is missing.
        """
        if before is None and self.is_fraction:
            raise BadInput(f"budget: {self} is a fraction; say of which cost (before=...)")
        return self.of(cost) <= self.limit(before if before is not None else cost)

    def require(self, who: str, after, before) -> None:
        """The last check of a method: what was built is within the budget.

        Args:
            who: the method, for the message.
            after: the cost of the compressed model, counted on the model itself.
            before: the cost of the original.

        Raises:
            BadInput: it is not; the message says what was asked for and what was reached.

        Example:
            budget.require("prune", cost(small), cost(model))
        """
        if not self.allows(after, before):
            raise BadInput(
                f"{who}: {self} asks for {self.said(self.limit(before))}, and the model that was "
                f"built has {self.said(self.of(after))}; give a smaller budget, which aims lower, or "
                "one of another kind"
            )

    def said(self, value: float) -> str:
        """A cost of this kind, with its unit: "1,024 macs", "0.227 ms"."""
        return f"{value:.4g} ms" if self.is_latency else f"{value:,} {self.kind}"

    def to_json(self) -> dict:
        """What was given, as the arguments of `Budget`."""
        keys = ("device", "threads") if self.is_latency else ()
        keys += tuple(key for key in ("quantize", *_ENGINE) if getattr(self, key))
        return {self.kind: self.value, **{key: getattr(self, key) for key in keys}}

    def __str__(self) -> str:
        return f"Budget({self.kind}={self.value})"


def _check(kind: str, value) -> None:
    said, give = f"budget: {kind}={value!r}", "give a fraction in (0, 1] or a figure above 1"
    if kind == "latency":
        give = "give a fraction in (0, 1], or latency_ms=... for milliseconds"
    elif kind == "latency_ms":
        give = "give milliseconds, or latency=... for a fraction of the model's own"
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise BadInput(f"{said} is not a number; {give}")
    if value <= 0:
        raise BadInput(f"{said} is not positive; {give}")
    if kind == "latency" and value > 1:
        raise BadInput(f"{said} is above 1; {give}")
    if kind in ("macs", "params", "bytes") and value == 1 and isinstance(value, numbers.Integral):
        raise BadInput(f"{said} is ambiguous; write 1.0 for the whole cost or a figure above 1")
