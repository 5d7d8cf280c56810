"""`factorize`: dense layers and convolutions as products of two thin ones."""

import functools
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfeffi.analysis.cost import cost
from tfeffi.compress import chains, choosing, decompose, responses, sites
from tfeffi.compress.budget import Budget
from tfeffi.compress.choosing import Candidate, Choice, Decision
from tfeffi.compress.report import Change, Report, Skipped
from tfeffi.errors import BadInput, near
from tfeffi.surgery import replace
from tfeffi.surgery.graph import read

METHODS = ("svd", "channel", "spatial")
DEFAULT_ENERGY = 0.95


def factorize(
    model: keras.Model,
    *,
    method: str = "svd",
    budget: Budget | None = None,
    energy: float | None = None,
    ranks: float | Mapping[str, int] | None = None,
    multiple_of: int = 8,
    ignore: Sequence[str] = (),
    data=None,
) -> tuple[keras.Model, Report]:
    """Writes each layer as two thinner ones where that is cheaper; the kernels lose the least they can.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        method: "channel": kh×kw to `rank` channels, then 1×1. "spatial": kh×1 to `rank` channels,
            then 1×kw. "svd": whichever is cheaper, layer by layer. A Dense layer and a 1×1
            convolution become two of their kind in each.
        budget: what the result may cost; the ranks are chosen to keep the most energy.
        energy: or the share of Σσ² that each layer keeps, in (0, 1]; .95 if nothing is given.
        ranks: or one share of the full rank for all layers, in (0, 1], or {layer: rank}.
        multiple_of: ranks are rounded up to a multiple of it, because phones are slow at odd
            widths; a layer that then saves nothing is left. Ranks given by layer stay as they are.
        ignore: names of layers to leave alone.
        data: a few hundred unlabelled training examples (tf.data.Dataset of batches, array or
            `tfeffi.data.Images`): then it is the layers' responses to them that lose the least, not
            the kernels. Only the channel split has this form, so "svd" uses it throughout.

    Returns:
        The model, an ordinary functional one, and the report. Inputs and outputs keep their names.
        Nothing is trained: fine-tune it.

    Raises:
        BadInput: a budget that cannot be met (the message says what can), NaN weights, ...

    Example:
        small, report = factorize(model, budget=Budget(macs=0.5), data=images[:500])
        print(report.table())

    Source: Denton et al. 2014 (arXiv 1404.0736) and Zhang et al. 2015 (arXiv 1505.06798) for the
    channel split, Jaderberg et al. 2014 (arXiv 1405.3866) for the spatial one.
    """
    _check(method, budget, energy, ranks, multiple_of, data)
    graph = read(model)
    found, skipped = sites.find(graph, ignore, "factorize", ("Conv2D", "Dense"))
    before = cost(model)
    if isinstance(ranks, Mapping):
        _check_ranks(ranks, found, graph.layers)
        skipped += [Skipped(s.path, "is not in ranks") for s in found if s.path not in ranks]
        found = [site for site in found if site.path in ranks]
    moments = responses.measure(graph, found, data) if data is not None and found else {}
    candidates = {s.path: _candidates(s, method, moments.get(s.path)) for s in found}
    decisions = _decide(candidates, before, budget, energy, ranks, multiple_of)
    made = replace(model, {p: _new(d) for p, d in decisions.items() if isinstance(d, Choice)})
    after = cost(made)
    if budget is not None:
        budget.require("factorize", after, before)
    changed, left = _account(found, decisions)
    left = sites.in_order(graph, skipped + left)
    settings = _settings(method, budget, energy, ranks, multiple_of, data, decisions)
    return made, Report("factorize", before, after, changed, left, settings)


def _candidates(site: sites.Site, method: str, moments) -> list[Candidate]:
    """The ways in which this layer can be split."""
    matrix = decompose.channel_matrix(site.kernel)
    if moments is not None:
        biased = site.bias is not None
        moment, means = (moments.centered, moments.mean) if biased else (moments.raw, None)
        on_data = functools.partial(decompose.low_rank_on_data, matrix, moment, means)
        return [Candidate(chains.basis(site), on_data)]
    pointwise = site.is_dense or site.kernel.shape[:2] == (1, 1)
    found = []
    if method != "spatial" or pointwise:
        split = functools.partial(decompose.low_rank, matrix)
        found.append(Candidate(chains.basis(site), split))
    if method != "channel" and not pointwise:
        split = functools.partial(decompose.low_rank, decompose.spatial_matrix(site.kernel))
        found.append(Candidate(chains.spatial(site), split))
    return found


def _decide(candidates, before, budget, energy, wanted, multiple_of) -> dict[str, Decision]:
    if budget is not None:
        return choosing.by_budget(candidates, budget, before, multiple_of)
    if isinstance(wanted, Mapping):
        return {p: choosing.by_rank(found, int(wanted[p])) for p, found in candidates.items()}
    if wanted is not None:
        return {p: choosing.by_share(found, wanted, multiple_of) for p, found in candidates.items()}
    energy = DEFAULT_ENERGY if energy is None else energy
    return {p: choosing.by_energy(found, energy, multiple_of) for p, found in candidates.items()}


def _new(choice: Choice):
    chain, split = choice.candidate.chain, choice.candidate.split
    left, right = split.cut(choice.rank)
    spatial = chain.kind == "spatial"
    kernels = decompose.spatial_kernels if spatial else decompose.channel_kernels
    pair = kernels(chain.site.kernel.shape, left, right)
    return chain.new(choice.rank, pair, offset=split.offset(choice.rank))


def _account(
    found: Sequence[sites.Site], decisions: Mapping[str, Decision]
) -> tuple[tuple[Change, ...], list[Skipped]]:
    """What the report says of each layer."""
    changed, left = [], []
    for site in found:
        choice = decisions[site.path]
        if isinstance(choice, str):
            left.append(Skipped(site.path, choice))
            continue
        kept = 100 * choice.candidate.split.retained(choice.rank)
        after = f"{choice.candidate.chain.describe(choice.rank)}, keeps {kept:.1f} %"
        changed.append(Change(site.path, site.describe(), after))
    return tuple(changed), left


def _settings(method, budget, energy, wanted, multiple_of, data, decisions) -> dict[str, Any]:
    settings: dict[str, Any] = {"method": method, "multiple_of": multiple_of}
    if budget is not None:
        settings[f"budget_{budget.kind}"] = budget.value
    elif wanted is None:
        settings["energy"] = DEFAULT_ENERGY if energy is None else energy
    elif not isinstance(wanted, Mapping):
        settings["rank_share"] = wanted
    settings["data_aware"] = data is not None
    settings["ranks"] = {p: d.rank for p, d in decisions.items() if isinstance(d, Choice)}
    return settings


def _check(method, budget, energy, wanted, multiple_of, data) -> None:
    if method not in METHODS:
        raise BadInput(f'factorize: unknown method "{method}"; {near(method, METHODS)}')
    if sum(one is not None for one in (budget, energy, wanted)) > 1:
        raise BadInput("factorize: give one of budget, energy and ranks")
    if budget is not None and not isinstance(budget, Budget):
        raise BadInput(f"factorize: budget={budget!r} is not a Budget; write Budget(macs=0.5)")
    if energy is not None and not _is_share(energy):
        raise BadInput(f"factorize: energy={energy!r} must be in (0, 1]")
    if wanted is not None and not isinstance(wanted, Mapping) and not _is_share(wanted):
        raise BadInput(
            f"factorize: ranks={wanted!r} must be a share of the full rank in (0, 1], or "
            "{layer: rank}"
        )
    if not _is_count(multiple_of):
        raise BadInput(f"factorize: multiple_of={multiple_of!r} must be a whole number from 1")
    if data is not None and method == "spatial":
        raise BadInput(
            'factorize: the spatial split has no data-aware form; leave out data, or method="channel"'
        )


def _check_ranks(given: Mapping[str, int], found: Sequence[sites.Site], layers) -> None:
    full = {site.path for site in found}
    for path, rank in given.items():
        if path not in layers:
            raise BadInput(
                f'factorize: ranks: layer "{path}" is not in the model; {near(path, full)}'
            )
        if path not in full:
            raise BadInput(
                f'factorize: ranks: layer "{path}" cannot be factorized; {near(path, full)}'
            )
        if not _is_count(rank):
            raise BadInput(f'factorize: ranks: {rank!r} for "{path}" must be a whole number from 1')


def _is_share(value: Any) -> bool:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 < value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1
