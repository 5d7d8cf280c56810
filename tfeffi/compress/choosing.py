"""Which rank for which layer: by energy, share, signal above noise, as told, or to meet a budget.

Whatever decides, a rank never reaches break-even, where the chain would cost as much as the layer:
such a layer is left alone, and the reason is told.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tfeffi.compress.budget import Budget
from tfeffi.compress.chains import Chain, Rank
from tfeffi.compress.decompose import Ranked
from tfeffi.compress.sites import Site
from tfeffi.errors import BadInput


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A chain for a layer, and how the matrix its kernels are cut from is decomposed."""

    chain: Chain
    decompose: Callable[[], Ranked]

    @functools.cached_property
    def split(self) -> Ranked:
        """The decomposition, made when it is needed: where no rank saves anything it never is."""
        return self.decompose()

    @property
    def highest(self) -> int:
        """The largest rank that saves something; it is below the full rank."""
        return self.chain.break_even

    def for_energy(self, energy: float) -> Rank:
        """The smallest rank that keeps this share of the energy."""
        return self.split.rank_for(energy)

    def for_share(self, share: float) -> Rank:
        """This share of the full rank."""
        return max(1, round(share * self.split.full_rank))

    def as_told(self, rank: Rank) -> Rank:
        """What a rank that was given for the layer means here."""
        return rank

    def rounded(self, rank: Rank, multiple_of: int) -> Rank:
        """The rank rounded up to a multiple, see `rounded`."""
        return rounded(rank, multiple_of, self.highest)

    def path(self, multiple_of: int) -> list[Rank]:
        """The ranks that a budget may choose, ascending."""
        step = min(multiple_of, self.highest)
        return list(range(step, self.highest + 1, step)) if step else []


@dataclasses.dataclass(frozen=True, eq=False)
class PairCandidate(Candidate):
    """Tucker's chain, which has two ranks."""

    def for_energy(self, energy: float) -> Rank:
        """The first pair on the way of most energy per MAC that keeps this share."""
        return next(p for p in self._way(1, (1, 1)) if self.split.retained(p) >= energy - 1e-14)

    def for_share(self, share: float) -> Rank:
        first, last = self.split.full_rank
        return max(1, round(share * first)), max(1, round(share * last))

    def as_told(self, rank: Rank) -> Rank:
        return self._clipped(rank if isinstance(rank, tuple) else (rank, rank))

    def rounded(self, rank: Rank, multiple_of: int) -> Rank:
        if not self.chain.saves(self._clipped((multiple_of, multiple_of))):
            return rank
        return self._clipped(tuple(-(-one // multiple_of) * multiple_of for one in rank))

    def path(self, multiple_of: int) -> list[Rank]:
        """Pairs on the way of most energy per MAC, as far as they save something."""
        start = self._clipped((multiple_of, multiple_of))
        if not self.chain.saves(start):
            start, multiple_of = (1, 1), 1
        return list(self._way(multiple_of, start, self.chain.saves))

    def _way(self, step: int, pair: Rank, allowed=lambda pair: True) -> Iterator[Rank]:
        """From a pair on, always the rank that adds the most energy per MAC, up to the full ranks."""
        yield pair
        while True:
            first, last = pair
            after = {self._clipped((first + step, last)), self._clipped((first, last + step))}
            after = [other for other in sorted(after - {pair}) if allowed(other)]
            if not after:
                return
            macs, kept = self.chain.macs(pair), self.split.retained(pair)
            gains = [
                (self.split.retained(other) - kept) / (self.chain.macs(other) - macs)
                for other in after
            ]
            pair = after[int(np.argmax(gains))]
            yield pair

    def _clipped(self, pair: Rank) -> Rank:
        inputs, outputs = self.chain.site.kernel.shape[-2:]
        return min(pair[0], inputs), min(pair[1], outputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """A candidate at a rank."""

    candidate: Candidate
    rank: Rank

    @property
    def macs(self) -> int:
        return self.candidate.chain.macs(self.rank)

    @property
    def params(self) -> int:
        return self.candidate.chain.params(self.rank)

    @functools.cached_property
    def loss(self) -> float:
        """−log of the energy that is kept: over layers it adds up to that of the product."""
        return -math.log(max(self.candidate.split.retained(self.rank), 1e-300))


Decision = Choice | str  # a string says why the layer is left alone


def by_energy(candidates: Sequence[Candidate], energy: float, multiple_of: int) -> Decision:
    """The cheapest candidate at the rank that keeps this share of the energy."""
    ranks = [c.for_energy(energy) if c.highest else c.chain.both(1) for c in candidates]
    choices = _choices(candidates, ranks, multiple_of)
    if choices:
        return min(choices, key=lambda choice: (choice.macs, choice.params))
    asked = f"{100 * energy:g} % of the energy takes rank"
    return _nothing_saved(asked, candidates, ranks, multiple_of)


def by_share(candidates: Sequence[Candidate], share: float, multiple_of: int) -> Decision:
    """The candidate that keeps the most energy at this share of its full rank."""
    ranks = [c.for_share(share) if c.highest else c.chain.both(1) for c in candidates]
    choices = _choices(candidates, ranks, multiple_of)
    if choices:
        return min(choices, key=lambda choice: (choice.loss, choice.macs))
    return _nothing_saved(f"{share:g} of the full rank is", candidates, ranks, multiple_of)


def by_signal(candidates: Sequence[Candidate], multiple_of: int) -> Decision:
    """The cheapest candidate at the rank that stands out from noise, see `evbmf`."""
    ranks = [c.split.signal_rank() if c.highest else c.chain.both(1) for c in candidates]
    found = [(c, r) for c, r in zip(candidates, ranks, strict=True) if r and r != (0, 0)]
    if not found:
        return "EVBMF finds nothing in its kernel that stands out from noise"
    candidates = [c for c, _ in found]
    ranks = [tuple(max(1, one) for one in r) if isinstance(r, tuple) else r for _, r in found]
    choices = _choices(candidates, ranks, multiple_of)
    if choices:
        return min(choices, key=lambda choice: (choice.macs, choice.params))
    return _nothing_saved("EVBMF finds rank", candidates, ranks, multiple_of)


def by_rank(candidates: Sequence[Candidate], rank: Rank) -> Decision:
    """The candidate that keeps the most energy at this very rank."""
    ranks = [candidate.as_told(rank) for candidate in candidates]
    choices = _choices(candidates, ranks, 1)
    if choices:
        return min(choices, key=lambda choice: (choice.loss, choice.macs))
    return _nothing_saved("asked for is rank", candidates, ranks, 1)


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
        budget: of MACs or parameters.
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
    candidates: Sequence[Candidate], ranks: Sequence[Rank], multiple_of: int
) -> list[Choice]:
    """The candidates that save something at their ranks, rounded."""
    pairs = [
        (candidate, candidate.rounded(rank, multiple_of))
        for candidate, rank in zip(candidates, ranks, strict=True)
    ]
    return [Choice(candidate, rank) for candidate, rank in pairs if candidate.chain.saves(rank)]


def _curve(candidates: Sequence[Candidate], multiple_of: int) -> list[Choice]:
    """Every rank of every candidate that is allowed."""
    return [
        Choice(candidate, rank)
        for candidate in candidates
        if candidate.highest
        for rank in candidate.path(multiple_of)
    ]


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


def _site_cost(site: Site) -> _SiteCost:
    return _SiteCost(site.macs, site.params)


def _never(candidates: Sequence[Candidate]) -> str:
    ranks = [candidate.chain.both(1) for candidate in candidates]
    return _nothing_saved("the least is rank", candidates, ranks, 1)


def _nothing_saved(
    asked: str, candidates: Sequence[Candidate], ranks: Sequence[Rank], multiple_of: int
) -> str:
    """The reason, by the candidate that came closest."""
    if isinstance(ranks[0], tuple):
        return _pair_saves_nothing(asked, candidates[0], ranks[0], multiple_of)
    pairs = [(rank, c.highest) for c, rank in zip(candidates, ranks, strict=True)]
    rank, highest = min(pairs, key=lambda pair: pair[0] / max(pair[1], 1e-9))
    if highest < 1:
        return "no rank saves anything"
    up = rounded(rank, multiple_of, highest)
    text = f"{asked} {rank}" + (f", {up} as a multiple of {multiple_of}" if up != rank else "")
    return f"{text}, and only ranks up to {highest} save anything"


def _pair_saves_nothing(asked: str, candidate: Candidate, pair: Rank, multiple_of: int) -> str:
    if not candidate.highest:
        return "no rank saves anything"
    asked, up = asked.replace("rank is", "ranks are"), candidate.rounded(pair, multiple_of)
    text = f"{asked} {pair[0]} and {pair[1]}"
    if up != pair:
        text += f", {up[0]} and {up[1]} as multiples of {multiple_of}"
    return f"{text}, which saves nothing"
