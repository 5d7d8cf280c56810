"""`factorize`: dense layers and convolutions as products of two thin ones."""

import bisect
import functools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfeffi.analysis.cost import cost
from tfeffi.compress import (
    chains,
    choosing,
    decompose,
    meeting,
    meters,
    reconstruct,
    responses,
    sites,
    tucker,
)
from tfeffi.compress.budget import Budget
from tfeffi.compress.chains import Rank
from tfeffi.compress.choosing import Candidate, Choice, Decision, PairCandidate
from tfeffi.compress.report import Change, Report, Skipped
from tfeffi.errors import BadInput, near
from tfeffi.surgery import replace
from tfeffi.surgery.graph import read

METHODS = ("svd", "channel", "spatial", "tucker")
KINDS = ("Conv1D", "Conv2D", "Conv3D", "Dense")
EVBMF = "evbmf"
WIDEST_PATCH = 6144  # kh·kw·cin up to which second moments of patches are kept: 300 MB
DEFAULT_ENERGY = 0.95


def factorize(
    model: keras.Model,
    *,
    method: str = "svd",
    budget: Budget | None = None,
    energy: float | None = None,
    ranks: float | str | Mapping[str, Rank] | None = None,
    multiple_of: int = 8,
    ignore: Sequence[str] = (),
    data=None,
) -> tuple[keras.Model, Report]:
    """Writes each layer as thinner ones where that is cheaper; the kernels lose the least they can.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        method: "channel": kh×kw to `rank` channels, then 1×1. "spatial": kh×1 to `rank` channels,
            then 1×kw, of Conv2D. "svd": whichever is cheaper, layer by layer. "tucker": 1×1 to a
            channels, kh×kw to b, then 1×1. A Dense layer and a 1×1 convolution become two of their
            kind in each.
        budget: what the result may cost; the ranks are chosen to keep the most energy.
        energy: or the share of Σσ² that each layer keeps, in (0, 1]; .95 if nothing is given.
        ranks: or one share of the full rank for all layers, in (0, 1]; or "evbmf": as many as stand
            out from the noise in each kernel; or {layer: rank}, for "tucker" {layer: (a, b)}.
        multiple_of: ranks are rounded up to a multiple of it, because phones are slow at odd
            widths; a layer that then saves nothing is left. Ranks given by layer stay as they are.
        ignore: names of layers to leave alone.
        data: a few hundred unlabelled training examples (tf.data.Dataset of batches, array or
            `tfeffi.data.Images`): then it is the layers' responses to them that lose the least, not
            the kernels. "tucker" has no such form.

    Returns:
        The model, an ordinary functional one, and the report. Inputs and outputs keep their names.
        Nothing is trained: fine-tune it.

    Raises:
        BadInput: a budget that cannot be met (the message says what can), NaN weights, ...

    Example:
        small, report = factorize(model, budget=Budget(macs=0.5), data=images[:500])
        print(report.table())

    Source: Denton et al. 2014 (arXiv 1404.0736) and Zhang et al. 2015 (arXiv 1505.06798) for the
    channel split, Jaderberg et al. 2014 (arXiv 1405.3866) for the spatial one, Kim et al. 2015
    (arXiv 1511.06530) for Tucker and EVBMF.
    """
    _check(method, budget, energy, ranks, multiple_of, data)
    graph = read(model)
    found, skipped = sites.find(graph, ignore, "factorize", _kinds(method))
    before = cost(model)
    if isinstance(ranks, Mapping):
        _check_ranks(ranks, found, graph.layers, method)
        skipped += [Skipped(s.path, "is not in ranks") for s in found if s.path not in ranks]
        found = [site for site in found if site.path in ranks]
    moments = {}
    if data is not None and found:
        patched = [site.path for site in found if _has_patches(site, method)]
        moments = responses.measure(graph, found, data, patched)
    candidates = {s.path: _candidates(s, method, moments.get(s.path)) for s in found}
    measured = {}
    if budget is not None and not budget.is_counted:
        decisions, made, measured = _shipped(model, candidates, before, budget, multiple_of)
    else:
        decisions = _decide(candidates, before, budget, energy, ranks, multiple_of)
        made = _made(model, decisions)
    after = cost(made)
    if budget is not None and budget.is_counted:
        budget.require("factorize", after, before)
    changed, left = _account(found, decisions)
    left = sites.in_order(graph, skipped + left)
    settings = _settings(method, budget, energy, ranks, multiple_of, data, decisions)
    return made, Report("factorize", before, after, changed, left, settings, measured=measured)


def _made(model: keras.Model, decisions: Mapping[str, Decision]) -> keras.Model:
    return replace(model, {p: _new(d) for p, d in decisions.items() if isinstance(d, Choice)})


def _shipped(model: keras.Model, candidates, before, budget: Budget, multiple_of: int):
    """Decisions, model and measurement for a budget of what is shipped.

    Candidates are budgets of parameters (for file bytes) or of MACs (for latency), a percent of the
    model's own apart; which of them fits is measured.
    """
    meter, kind = meters.meter(budget, model), "params" if budget.kind == "bytes" else "macs"

    def decided(step: int) -> dict[str, Decision]:
        return choosing.by_budget(candidates, Budget(**{kind: 1 - step / 100}), before, multiple_of)

    last = bisect.bisect_left(range(1, 100), True, key=lambda step: _raises(decided, step))
    found = {}

    def measure(step: int) -> float:
        decisions = decided(step)
        made = _made(model, decisions)
        found[step] = decisions, made, meter.measure(made)
        return meters.within(budget, found[step][2])[0]

    own, limit = meters.within(budget, meter.measure(model))
    own = 1.0 if budget.kind == "latency" else own
    step, tried = meeting.first_within(lambda i: own * (1 - i / 100), measure, limit, 0, last)
    if step is None:
        said = f"{tried[last]:.3g} of its time" if budget.kind == "latency" else None
        raise BadInput(
            f"factorize: {budget} cannot be met, the smallest that can be reached here is "
            f"{said or budget.said(tried[last])}; raise it, lower multiple_of={multiple_of}, or "
            "prune first"
        )
    decisions, made, measured = found[step]
    return decisions, made, measured.to_json()


def _raises(function: Callable[[int], Any], value: int) -> bool:
    try:
        function(value)
    except BadInput:
        return True
    return False


def _kinds(method: str) -> tuple[str, ...]:
    return ("Conv2D", "Dense") if method == "spatial" else KINDS


def _has_patches(site: sites.Site, method: str) -> bool:
    """Whether the spatial split of this layer can be fitted to data."""
    flat = not site.is_pointwise and site.kernel.ndim == 4 and method != "channel"
    return flat and site.kernel.size // site.kernel.shape[-1] <= WIDEST_PATCH


def _candidates(site: sites.Site, method: str, moments) -> list[Candidate]:
    """The ways in which this layer can be split."""
    if site.is_pointwise:
        return [_channel(site, moments)]
    if method == "tucker":
        split = functools.partial(tucker.tucker, site.kernel)
        return [PairCandidate(chains.tucker(site), split)]
    found = []
    patched = moments is not None and _has_patches(site, method)
    if method != "spatial":
        matrix = decompose.channel_matrix(site.kernel)
        found.append(_channel(site, moments.through(matrix) if patched else moments))
    spatial = method != "channel" and site.kernel.ndim == 4
    if spatial and (method == "spatial" or moments is None or patched):
        found.append(_spatial(site, moments if patched else None))
    return found


def _channel(site: sites.Site, moments) -> Candidate:
    matrix = decompose.channel_matrix(site.kernel)
    if moments is None:
        return Candidate(chains.basis(site), functools.partial(decompose.low_rank, matrix))
    biased = site.bias is not None
    moment, means = (moments.centered, moments.mean) if biased else (moments.raw, None)
    on_data = functools.partial(decompose.low_rank_on_data, matrix, moment, means)
    return Candidate(chains.basis(site), on_data)


def _spatial(site: sites.Site, patches) -> Candidate:
    chain = chains.spatial(site)
    if patches is None:
        matrix = decompose.spatial_matrix(site.kernel)
        return Candidate(chain, functools.partial(decompose.low_rank, matrix))
    biased = site.bias is not None
    moment, means = (patches.centered, patches.mean) if biased else (patches.raw, None)
    highest = max(1, chain.break_even)
    on_data = functools.partial(reconstruct.reconstruction, site.kernel, moment, means, highest)
    return Candidate(chain, on_data)


def _decide(candidates, before, budget, energy, wanted, multiple_of) -> dict[str, Decision]:
    if budget is not None:
        return choosing.by_budget(candidates, budget, before, multiple_of)
    if isinstance(wanted, Mapping):
        return {p: choosing.by_rank(found, _rank(wanted[p])) for p, found in candidates.items()}
    if wanted == EVBMF:
        return {p: choosing.by_signal(found, multiple_of) for p, found in candidates.items()}
    if wanted is not None:
        return {p: choosing.by_share(found, wanted, multiple_of) for p, found in candidates.items()}
    energy = DEFAULT_ENERGY if energy is None else energy
    return {p: choosing.by_energy(found, energy, multiple_of) for p, found in candidates.items()}


def _new(choice: Choice):
    chain, split = choice.candidate.chain, choice.candidate.split
    if chain.kind == "tucker":
        return chain.new(choice.rank, split.kernels(choice.rank))
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
        kept = 100 * choice.candidate.split.kept(choice.rank)
        after = f"{choice.candidate.chain.describe(choice.rank)}, keeps {kept:.1f} %"
        changed.append(Change(site.path, site.describe(), after))
    return tuple(changed), left


def _settings(method, budget, energy, wanted, multiple_of, data, decisions) -> dict[str, Any]:
    settings: dict[str, Any] = {"method": method, "multiple_of": multiple_of}
    if budget is not None:
        settings[f"budget_{budget.kind}"] = budget.value
    elif wanted is None:
        settings["energy"] = DEFAULT_ENERGY if energy is None else energy
    elif wanted == EVBMF:
        settings["rank_choice"] = EVBMF
    elif not isinstance(wanted, Mapping):
        settings["rank_share"] = wanted
    settings["data_aware"] = data is not None
    chosen = {p: d.rank for p, d in decisions.items() if isinstance(d, Choice)}
    settings["ranks"] = {p: list(r) if isinstance(r, tuple) else r for p, r in chosen.items()}
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
    named = isinstance(wanted, Mapping) or (isinstance(wanted, str) and wanted == EVBMF)
    if wanted is not None and not named and not _is_share(wanted):
        raise BadInput(
            f'factorize: ranks={wanted!r} must be a share of the full rank in (0, 1], "{EVBMF}", or '
            "{layer: rank}"
        )
    if not _is_count(multiple_of):
        raise BadInput(f"factorize: multiple_of={multiple_of!r} must be a whole number from 1")
    if data is not None and method == "tucker":
        raise BadInput('factorize: Tucker has no data-aware form; leave out data, or method="svd"')


def _check_ranks(given: Mapping[str, Rank], found: Sequence[sites.Site], layers, method) -> None:
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
        pair = method == "tucker" and isinstance(rank, (tuple, list)) and len(rank) == 2
        if not all(map(_is_count, rank)) if pair else not _is_count(rank):
            also = " or a pair of them" if method == "tucker" else ""
            raise BadInput(
                f'factorize: ranks: {rank!r} for "{path}" must be a whole number from 1{also}'
            )


def _rank(given: Rank) -> Rank:
    """A rank as it was given: a whole number, or a pair."""
    return int(given) if isinstance(given, numbers.Integral) else tuple(map(int, given))


def _is_share(value: Any) -> bool:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 < value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1
