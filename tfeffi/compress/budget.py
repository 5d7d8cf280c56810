"""How small is small enough: a budget of MACs, parameters or bytes, as a fraction or a figure."""

import dataclasses
import math
import numbers

from tfeffi.errors import BadInput

KINDS = ("macs", "params", "bytes")


@dataclasses.dataclass(frozen=True)
class Budget:
    """What the compressed model may cost. Exactly one of the three is given.

    Args:
        macs: multiply-adds of one forward pass at batch 1.
        params: all weights, as `model.count_params()` counts them.
        bytes: the weights in float32.
            Each: a float in (0, 1] is a fraction of the model's own cost, a number above 1 is
            absolute.

    Raises:
        BadInput: none or more than one is given, or the value is out of range.

    Example:
        Budget(macs=0.5)          # half of the model's own MACs
        Budget(bytes=98_496)      # what MLPerf Tiny's ResNet-8 takes
    """

    macs: float | int | None = None
    params: float | int | None = None
    bytes: float | int | None = None

    def __post_init__(self):
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            said = " and ".join(given) if given else "nothing"
            raise BadInput(f"budget: give exactly one of {', '.join(KINDS)}; {said} was given")
        _check(given[0], getattr(self, given[0]))

    @property
    def kind(self) -> str:
        """Which cost is limited: "macs", "params" or "bytes"."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def value(self) -> float | int:
        """The fraction or the figure, as it was given."""
        return getattr(self, self.kind)

    @property
    def is_fraction(self) -> bool:
        """Whether the budget is a share of the model's own cost."""
        return self.value <= 1

    def of(self, cost) -> int:
        """The limited part of a cost: its MACs, parameters or bytes."""
        return getattr(cost, self.kind)

    def limit(self, cost) -> int:
        """The budget as a figure.

        Args:
            cost: `tfeffi.cost(model)` of the model before compression.

        Returns:
            The largest cost that is within the budget.
        """
        if self.is_fraction:
            return math.floor(self.value * self.of(cost) + 1e-9)
        return math.floor(self.value)

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
                f"{who}: {self} asks for {self.limit(before):,} {self.kind}, and the model that was "
                f"built has {self.of(after):,}; give a smaller budget, which aims lower, or one of "
                "another kind"
            )

    def __str__(self) -> str:
        return f"Budget({self.kind}={self.value})"


def _check(kind: str, value) -> None:
    said = f"budget: {kind}={value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise BadInput(f"{said} is not a number; give a fraction in (0, 1] or a figure above 1")
    if value <= 0:
        raise BadInput(f"{said} is not positive; give a fraction in (0, 1] or a figure above 1")
    if value == 1 and isinstance(value, numbers.Integral):
        raise BadInput(f"{said} is ambiguous; write 1.0 for the whole cost or a figure above 1")
