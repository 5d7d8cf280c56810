"""Which rank for which layer: by energy, by a fixed share, as told, or so that a budget is met.

Whatever decides, a rank never reaches break-even, where the chain would cost as much as the layer:
such a layer is left alone, and the reason is told.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from tfeffi.compress.budget import Budget
from tfeffi.compress.chains import Chain
from tfeffi.compress.decompose import LowRank
from tfeffi.compress.sites import Site
from tfeffi.errors import BadInput


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A chain for a layer, and how the matrix its kernels are cut from is decomposed."""

    chain: Chain
    decompose: Callable[[], LowRank]

    @functools.cached_property
    def split(self) -> LowRank:
        """The decomposition, made when it is needed: where no rank saves anything it never is."""
        return self.decompose()

    @property
    def highest(self) -> int:
        """The largest rank that saves something; it is below the full rank."""
        return self.chain.break_even


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """A candidate at a rank."""

    candidate: Candidate
    rank: int

    @property
    def macs(self) -> int:
        return self.candidate.chain.macs(self.rank)

    @property
    def params(self) -> int:
        return self.candidate.chain.params(self.rank)

    @property
    def bytes(self) -> int:
        return 4 * self.params

    @functools.cached_property
    def loss(self) -> float:
        """−log of the energy that is kept: over layers it adds up to that of the product."""
        return -math.log(self.candidate.split.retained(self.rank))


Decision = Choice | str  # a string says why the layer is left alone


def by_energy(candidates: Sequence[Candidate], energy: float, multiple_of: int) -> Decision:
    """The cheapest candidate at the rank that keeps this share of the energy."""
    ranks = [c.split.rank_for(energy) if c.highest else 1 for c in candidates]
    choices = _choices(candidates, ranks, multiple_of)
    if choices:
        return min(choices, key=lambda choice: (choice.macs, choice.params))
    asked = f"{100 * energy:g} % of the energy takes rank"
    return _nothing_saved(asked, candidates, ranks, multiple_of)


def by_share(candidates: Sequence[Candidate], share: float, multiple_of: int) -> Decision:
    """The candidate that keeps the most energy at this share of its full rank."""
    ranks = [max(1, round(share * c.split.full_rank)) if c.highest else 1 for c in candidates]
    choices = _choices(candidates, ranks, multiple_of)
    if choices:
        return min(choices, key=lambda choice: (choice.loss, choice.macs))
    return _nothing_saved(f"{share:g} of the full rank is", candidates, ranks, multiple_of)


def by_rank(candidates: Sequence[Candidate], rank: int) -> Decision:
    """The candidate that keeps the most energy at this very rank."""
    choices = [Choice(c, rank) for c in candidates if rank <= c.highest]
    if choices:
        return min(choices, key=lambda choice: (choice.loss, choice.macs))
    return _nothing_saved("asked for is rank", candidates, [rank] * len(candidates), 1)


def by_budget(
    candidates: dict[str, list[Candidate]], budget: Budget, before, multiple_of: int
) -> dict[str, Decision]:
    """Ranks for all layers that keep as much energy as fits.

    What is maximised is the product over layers of the energy they keep (Zhang et al. 2015,
    arXiv 1505.06798, §3.3, eq. 20). Each layer's ranks form a curve of loss (−log energy) against
    cost; of its lower convex hull the steps are taken in the order of loss per cost saved until
    the budget is met. What the last step saved too much is spent again where it helps.

    Args:
        candidates: by layer path.
        budget: of MACs, parameters or bytes.
        before: the cost of the model.
        multiple_of: only ranks that are multiples of it are tried, where break-even allows one.

    Raises:
        BadInput: the budget cannot be met; the message says what can be reached.
    """
    limit, total = budget.limit(before), budget.of(before)
    curves = {path: _curve(found, multiple_of) for path, found in candidates.items()}
    costs = {p: budget.of(_site_cost(found[0].chain.site)) for p, found in candidates.items()}
    steps = [
        (slope, number, path, choice)
        for path, curve in curves.items()
        for number, (slope, choice) in enumerate(_hull(curve, costs[path], budget))
    ]
    chosen: dict[str, Choice] = {}
    for _, _, path, choice in sorted(steps, key=lambda step: step[:3]):
        if total <= limit:
            break
        total += budget.of(choice) - _cost(chosen, costs, path, budget)
        chosen[path] = choice
    if total > limit:
        raise BadInput(
            f"factorize: {budget} asks for {limit:,}, the smallest that can be reached here is "
            f"{total:,}; raise it, lower multiple_of={multiple_of}, or prune first"
        )
    _spend(chosen, curves, costs, limit - total, budget)
    reason = f"nothing to gain: {budget} is met without it"
    return {
        path: chosen.get(path) or (reason if curves[path] else _never(found))
        for path, found in candidates.items()
    }


def rounded(rank: int, multiple_of: int, highest: int) -> int:
    """The rank rounded up to a multiple; as it is where not even one multiple saves something."""
    return rank if highest < multiple_of else -(-rank // multiple_of) * multiple_of


def _choices(
    candidates: Sequence[Candidate], ranks: Sequence[int], multiple_of: int
) -> list[Choice]:
    """The candidates that save something at their ranks, rounded."""
    pairs = [
        (candidate, rounded(rank, multiple_of, candidate.highest))
        for candidate, rank in zip(candidates, ranks, strict=True)
    ]
    return [Choice(candidate, rank) for candidate, rank in pairs if rank <= candidate.highest]


def _curve(candidates: Sequence[Candidate], multiple_of: int) -> list[Choice]:
    """Every rank of every candidate that is allowed."""
    choices = []
    for candidate in candidates:
        step = min(multiple_of, candidate.highest)
        if step:
            choices += [Choice(candidate, r) for r in range(step, candidate.highest + 1, step)]
    return choices


def _hull(curve: list[Choice], cost: int, budget: Budget) -> list[tuple[float, Choice]]:
    """The steps along the lower convex hull, from the layer itself down, with their slopes."""
    costs = np.array([budget.of(choice) for choice in curve], np.float64)
    losses = np.array([choice.loss for choice in curve])
    steps, loss = [], 0.0
    while (cheaper := np.flatnonzero(costs < cost)).size:
        slopes = (losses[cheaper] - loss) / (cost - costs[cheaper])
        least = cheaper[slopes == slopes.min()]
        best = least[np.argmin(costs[least])]
        steps.append((float(slopes.min()), curve[best]))
        cost, loss = costs[best], losses[best]
    return steps


def _spend(chosen, curves, costs, slack: int, budget: Budget) -> None:
    """Raises ranks, the lossiest layer first, as far as what is left of the budget allows."""
    for path in sorted(chosen, key=lambda path: -chosen[path].loss):
        now = _cost(chosen, costs, path, budget)
        fitting = [choice for choice in curves[path] if budget.of(choice) <= now + slack]
        best = min(fitting, key=lambda choice: (choice.loss, budget.of(choice)))
        if best.loss < chosen[path].loss:
            slack -= budget.of(best) - now
            chosen[path] = best


def _cost(chosen: dict[str, Choice], costs: dict[str, int], path: str, budget: Budget) -> int:
    return budget.of(chosen[path]) if path in chosen else costs[path]


@dataclasses.dataclass(frozen=True)
class _SiteCost:
    macs: int
    params: int
    bytes: int


def _site_cost(site: Site) -> _SiteCost:
    return _SiteCost(site.macs, site.params, 4 * site.params)


def _never(candidates: Sequence[Candidate]) -> str:
    return _nothing_saved("the least is rank", candidates, [1] * len(candidates), 1)


def _nothing_saved(
    asked: str, candidates: Sequence[Candidate], ranks: Sequence[int], multiple_of: int
) -> str:
    """The reason, by the candidate that came closest."""
    pairs = [(rank, c.highest) for c, rank in zip(candidates, ranks, strict=True)]
    rank, highest = min(pairs, key=lambda pair: pair[0] / max(pair[1], 1e-9))
    if highest < 1:
        return "no rank saves anything"
    up = rounded(rank, multiple_of, highest)
    text = f"{asked} {rank}" + (f", {up} as a multiple of {multiple_of}" if up != rank else "")
    return f"{text}, and only ranks up to {highest} save anything"
