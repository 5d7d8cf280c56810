"""Meeting a budget: how far along a row of plans one has to go.

MACs and parameters are exact for a plan. File bytes and latency are estimated for plans, and the
plan that is taken was built, exported and measured.
"""

from typing import Any, Protocol

import keras
import numpy as np

from tfeffi.analysis.cost import Cost, cost
from tfeffi.bench.table import LatencyTable
from tfeffi.compress import meters
from tfeffi.compress.budget import Budget
from tfeffi.compress.latency import PlanLatency
from tfeffi.compress.meeting import TOLERANCE, first_within
from tfeffi.compress.prune.search import Costing, fewest, spent
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling, Group, apply

BYTES_PER_VALUE = {None: 4, "int8": 1}
BYTES_TOLERANCE = 0.01  # sizes have no noise
_TRIES = 3  # plans measured to use what is left of a budget


class Steps(Protocol):
    """Plans in a row, from the largest model to the smallest."""

    sure: int  # where to begin
    last: int  # the smallest model
    free: list[Group]  # what may shrink

    def keep(self, step: int) -> np.ndarray:
        """(classes,) bool: what is kept there; never more than at the step before."""

    def back(self, kept: np.ndarray, group: Group) -> tuple[float, np.ndarray] | None:
        """How much it matters that a group gets its next width back, and what is kept then."""


class Goal:
    """A budget for one model.

    Args:
        budget: what the result may cost.
        coupling: the labelled model.
        original: the model that fractions are of; the labelled one if None.
        input_shape: of one example, where the model leaves it open.
        who: the method, for messages.

    Attributes:
        measured: what was measured of the plan that was taken, for the report; empty if the budget
            is one of MACs or parameters.
    """

    def __init__(
        self,
        budget: Budget,
        coupling: Coupling,
        *,
        original: keras.Model | None = None,
        input_shape=None,
        who: str = "prune",
    ):
        self.budget, self.coupling, self.who, self.shape = budget, coupling, who, input_shape
        self.model = coupling.graph.model
        self.original = self.model if original is None else original
        self.costing = Costing(coupling, cost(self.model, input_shape))
        self.measured: dict[str, Any] = {}

    def meet(self, steps: Steps) -> np.ndarray:
        """What is kept at the first step that is within the budget, and what still fits beside it.

        Raises:
            BadInput: none is; the message says what the last one costs.
        """
        if self.budget.is_counted:
            return self._counted(steps)
        return self._shipped(steps)

    def check(self, after: Cost) -> None:
        """BadInput if what was built is dearer than what was planned."""
        if self.budget.is_counted:
            self.budget.require(self.who, after, cost(self.original, self.shape))

    def _counted(self, steps: Steps) -> np.ndarray:
        before = cost(self.original, self.shape)
        limit = self.budget.limit(before)

        def cost_of(kept: np.ndarray) -> int:
            return self.budget.of(self.costing.of(self.coupling.keep(kept)))

        kept = fewest(steps, lambda kept: cost_of(kept) <= limit)
        if kept is None:
            least = self.budget.said(cost_of(steps.keep(steps.last)))
            raise self._unreachable(f"still has {least} of {self.budget.of(before):,}")
        if cost_of(kept) >= (1 - TOLERANCE) * limit:
            return kept
        return spent(steps, kept, lambda wider: cost_of(wider) <= limit)

    def _shipped(self, steps: Steps) -> np.ndarray:
        meter = meters.meter(self.budget, self.original, self.shape)
        expected, found = self._estimate(meter), {}
        limit = self._limit(meter)
        tolerance = BYTES_TOLERANCE if self.budget.kind == "bytes" else TOLERANCE

        def estimate(kept: np.ndarray) -> float:
            return expected(self.coupling.keep(kept))

        def measure(kept: np.ndarray) -> float:
            nothing = kept.all() and self.original is self.model
            small = self.model if nothing else apply(self.coupling, self.coupling.keep(kept))[0]
            found[kept.tobytes()] = meter.measure(small)
            if nothing and self.budget.kind == "latency":
                return 1.0  # the same file twice
            return meters.within(self.budget, found[kept.tobytes()])[0]

        step, tried = first_within(
            lambda step: estimate(steps.keep(step)), lambda step: measure(steps.keep(step)),
            limit, steps.sure, steps.last, tolerance,
        )  # fmt: skip
        if step is None:
            smallest = tried[steps.last]
            if self.budget.kind == "latency":
                raise self._unreachable(f"still takes {smallest:.3g} of the original's time")
            does = "takes" if self.budget.is_latency else "has"
            raise self._unreachable(f"still {does} {self.budget.said(smallest)}")
        kept = steps.keep(step)
        if tried[step] < (1 - tolerance) * limit:
            kept = _with_the_rest(steps, kept, tried[step], limit, estimate, measure)
        self.measured = found[kept.tobytes()].to_json()
        return kept

    def _limit(self, meter) -> float:
        if self.budget.kind == "bytes":
            return meters.within(self.budget, meters.FileBytes(meter.before, meter.before))[1]
        return self.budget.value

    def _estimate(self, meter):
        """A function of a plan: the expected bytes, ms, or share of the original's ms."""
        if self.budget.kind == "bytes":
            same = self.original is self.model
            size = meter.before if same else meter.measure(self.model).file_bytes
            params, each = self.costing.before.params, BYTES_PER_VALUE[self.budget.quantize]
            return lambda plan: size - each * (params - self.costing.of(plan).params)
        table = LatencyTable(
            self.budget.device, self.budget.threads, quantize=self.budget.quantize,
            engine=self.budget.engine,
        )  # fmt: skip
        layers = PlanLatency(self.coupling, table)
        if self.budget.kind == "latency_ms":
            return lambda plan: table.overhead_ms + layers.of(plan)
        whole = table.overhead_ms + table.of(self.original).ms
        return lambda plan: (table.overhead_ms + layers.of(plan)) / max(whole, 1e-12)

    def _unreachable(self, what: str) -> BadInput:
        return BadInput(
            f"{self.who}: {self.budget} cannot be met: with as little left as is allowed wherever "
            f"channels may go, the model {what}"
        )


def _with_the_rest(
    steps: Steps, kept: np.ndarray, cost: float, limit: float, estimate, measure
) -> np.ndarray:
    """What is kept if groups get channels back while that is measured to be within the limit."""
    scale = cost / max(estimate(kept), 1e-12)
    for _ in range(_TRIES):
        wider = spent(steps, kept, lambda one, scale=scale: scale * estimate(one) <= limit)
        if (wider == kept).all():
            break
        found = measure(wider)
        if found <= limit:
            return wider
        scale = found / max(estimate(wider), 1e-12)
    return kept
