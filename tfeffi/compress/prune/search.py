"""From scores to what is kept: thresholds, widths that run fast, and the search for a budget.

Candidates are plans, not models: following labels takes milliseconds, and a layer's multiply-adds
shrink exactly as its kernels do.
"""

import dataclasses
import math

import numpy as np

from tfeffi.analysis.cost import Cost
from tfeffi.compress.prune.scores import Scores
from tfeffi.surgery import Coupling, Group, Plan


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The cost of a model that has not been built."""

    macs: int
    params: int


class Costing:
    """Costs of plans for one model.

    Args:
        coupling: the labelled model.
        before: its own cost.
    """

    def __init__(self, coupling: Coupling, before: Cost):
        self.before = before
        self.macs = {layer.name: layer.macs for layer in before.layers}
        self.weights = {
            path: {v.name: tuple(v.shape) for v in layer.live.weights}
            for path, layer in coupling.graph.layers.items()
            if layer.live is not None and layer.live.weights
        }

    def of(self, plan: Plan) -> Estimate:
        """The exact cost of the model that a plan would make."""
        macs, params = self.before.macs, self.before.params
        for path in plan.edits:
            old = self.weights.get(path, {})
            new = {name: plan.shape(path, name, shape) for name, shape in old.items()}
            params += sum(map(math.prod, new.values())) - sum(map(math.prod, old.values()))
            if self.macs.get(path):
                macs += self.macs[path] * _kernels(new) // _kernels(old) - self.macs[path]
        return Estimate(macs, params)


def _kernels(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if "kernel" in name)


class Choice:
    """Which channels stay as more and more of the least important go.

    Args:
        coupling: the labelled model.
        scores: the importance of its channels.
        free: the groups that may shrink.
        multiple_of: widths are rounded up to multiples of it; below it to its halves (4, 2, 1).
        threshold: channels scored at most this go first of all.
        even: whether groups lose the same share, so that none may get channels back alone.

    Attributes:
        order: the classes that may go, the first to go first.
        sure: how many of them are at or below the threshold.
        last: how many there are.
    """

    def __init__(
        self,
        coupling: Coupling,
        scores: Scores,
        free: list[Group],
        multiple_of: int,
        threshold: float | None = None,
        even: bool = False,
    ):
        self.free, self.multiple_of, self.even = free, multiple_of, even
        self.values = scores.values
        classes = np.concatenate([np.zeros(0, np.int64), *(group.classes for group in free)])
        threshold = -np.inf if threshold is None else threshold
        above = scores.values[classes] > threshold
        order = np.lexsort((classes, scores.ties[classes], scores.rank[classes], above))
        self.place = np.full(coupling.classes.count, len(classes))
        self.place[classes[order]] = np.arange(len(classes))
        self.order = classes[order][np.isfinite(scores.rank[classes[order]])]
        self.sure = int((scores.values[self.order] <= threshold).sum())
        self.last = len(self.order)

    def keep(self, count: int) -> np.ndarray:
        """(classes,) bool: what is kept if the first `count` go, widths rounded up."""
        kept = np.ones(len(self.place), bool)
        kept[self.order[:count]] = False
        for group in self.free:
            want = int(kept[group.classes].sum())
            if want < group.size:
                size = allowed_size(want, group.size, self.multiple_of, group.multiple)
                last = group.classes[np.argsort(self.place[group.classes])[::-1]]
                kept[last[:size]] = True
        return kept

    def back(self, kept: np.ndarray, group: Group) -> tuple[float, np.ndarray] | None:
        """What is kept if a group gets its next width back, and how much that matters."""
        size = int(kept[group.classes].sum())
        if self.even or size == group.size:
            return None
        wider = allowed_size(size + 1, group.size, self.multiple_of, group.multiple)
        gone = group.classes[~kept[group.classes]]
        most = gone[np.argsort(self.place[gone])[::-1]][: wider - size]
        if (self.place[most] < self.sure).any() or not self.values[most].any():
            return None  # what the threshold took stays away, and what does nothing too
        kept = kept.copy()
        kept[most] = True
        return float(self.place[most[0]]), kept


def allowed_size(want: int, size: int, multiple_of: int, multiple: int = 1) -> int:
    """The smallest allowed number of channels that is at least `want`.

    Args:
        want: how many channels should stay.
        size: how many there are.
        multiple_of: what widths should be multiples of; smaller ones are its halves.
        multiple: how many channels of a layer come with each.

    Example:
        allowed_size(17, 32, 8)     # 24
        allowed_size(3, 32, 8)      # 4
        allowed_size(17, 20, 8)     # 20: the layer was that narrow
    """
    step = multiple_of // math.gcd(multiple_of, multiple)
    if want >= step:
        return min(size, -(-want // step) * step)
    small = step
    while small % 2 == 0 and small // 2 >= max(1, want):
        small //= 2
    if small % 2 and max(1, want) == 1:
        small = 1
    return min(size, small)


def fewest(steps, fits) -> np.ndarray | None:
    """What is kept at the first of the steps that `fits(kept)` allows; None if none fits."""

    def enough(step: int) -> bool:
        return fits(steps.keep(step))

    low, high = steps.sure, steps.last
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return steps.keep(high)


def spent(steps, kept: np.ndarray, fits) -> np.ndarray:
    """What is kept once no group can get its next width back within the budget.

    One step of the row may save far more than it has to: a whole multiple of a wide layer. What is
    left of the budget goes back to the groups, where it matters most first.

    Args:
        steps: the row of plans, with its `free` groups and what they can get `back`.
        kept: (classes,) bool, within the budget.
        fits: whether what is kept is within the budget.
    """
    groups = list(steps.free)
    while offers := [(steps.back(kept, group), group) for group in groups]:
        offers = [(*offer, group) for offer, group in offers if offer is not None]
        if not offers:
            break
        _, wider, group = max(offers, key=lambda offer: offer[0])
        if fits(wider):
            kept = wider
        else:
            groups.remove(group)  # it will not fit later either
    return kept
