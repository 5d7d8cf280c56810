"""`replace_convolutions`: full convolutions become separable, pairs of 1-D ones, or bottlenecks."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfeffi.analysis.cost import cost
from tfeffi.compress import chains, decompose, sites
from tfeffi.compress.chains import Chain, Rank
from tfeffi.compress.choosing import rounded
from tfeffi.compress.report import Change, Report, Skipped
from tfeffi.compress.tucker import tucker
from tfeffi.errors import BadInput, near
from tfeffi.surgery import replace
from tfeffi.surgery.graph import read

KINDS = ("separable", "1d", "bottleneck")
INITIALIZE = ("svd", "random")
SHARE_OF_BREAK_EVEN = 0.5


def replace_convolutions(
    model: keras.Model,
    *,
    kind: str = "separable",
    rank: int | float | None = None,
    multiple_of: int = 8,
    ignore: Sequence[str] = (),
    initialize: str = "svd",
    mid_activation: Any = None,
) -> tuple[keras.Model, Report]:
    """Puts a cheaper structure in the place of every convolution that is dearer; then train it.

    Unlike `factorize` the structure decides, not the weights: a trained model loses much at first, and
    gets it back in fine-tuning from the initial weights that come closest to its own.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        kind: "separable": depthwise kh×kw, then 1×1. "1d": kh×1 to P channels, then 1×kw.
            "bottleneck": 1×1 to P channels, kh×kw among them, then 1×1.
        rank: separable: filters per input channel (default 1). 1d, bottleneck: P; a float in (0, 1)
            is a share of the break-even bound (default 0.5). A bottleneck is no wider than what goes
            in and comes out.
        multiple_of: a P that follows from a share is rounded up to a multiple of it where that
            still saves.
        ignore: names of layers to leave alone.
        initialize: "svd": the closest to the trained kernel. "random": fresh weights, of the
            layer's own initializer; the bias is fresh too.
        mid_activation: an activation between the layers, such as "relu" (as DecomposeMe and ResNet
            have it); None: linear.

    Returns:
        The model, an ordinary functional one, and the report: what was left is 1×1, grouped, or
        would be dearer (counted exactly: strides and VALID padding move the published bounds).

    Raises:
        BadInput: an unknown kind, layer or initialization, a rank out of range, NaN weights.

    Example:
        other, report = replace_convolutions(model, kind="separable")

    Source: Howard et al. 2017 (arXiv 1704.04861, eq. 5) for separable, Alvarez & Petersson 2016
    (arXiv 1606.05426, eq. 3) for 1d, He et al. 2015 (arXiv 1512.03385) for bottlenecks, initialized as
    in Tucker-2 (`factorize`). Per position, separable takes K·I·(N² + L) MACs, not N²·K·L.
    """
    _check(kind, rank, multiple_of, initialize, mid_activation)
    graph = read(model)
    found, skipped = sites.find(graph, ignore, "replace_convolutions", ("Conv2D",))
    before = cost(model)
    new, changed = {}, []
    for site in found:
        planned = _plan(site, kind, rank, multiple_of)
        if isinstance(planned, str):
            skipped.append(Skipped(site.path, planned))
            continue
        chain, width = planned
        kernels, kept = _kernels(chain, width) if initialize == "svd" else (None, None)
        new[site.path] = chain.new(width, kernels, mid_activation=mid_activation)
        after = chain.describe(width) + ("" if kept is None else f", keeps {100 * kept:.1f} %")
        changed.append(Change(site.path, site.describe(), after))
    made = replace(model, new)
    settings = _settings(kind, rank, multiple_of, initialize, mid_activation)
    left = sites.in_order(graph, skipped)
    return made, Report(kind, before, cost(made), tuple(changed), left, settings)


def _plan(site: sites.Site, kind: str, rank, multiple_of: int) -> tuple[Chain, Rank] | str:
    """The chain for this layer and its width, or why there is none."""
    if why := _obstacle(site, kind):
        return why
    chain = _CHAINS[kind](site)
    width: Rank = _width(chain, rank, multiple_of)
    if kind == "bottleneck":
        width = min(width, site.kernel.shape[2]), min(width, site.kernel.shape[3])
    return (chain, width) if chain.saves(width) else _dearer(chain, width)


_CHAINS = {"separable": chains.separable, "1d": chains.spatial, "bottleneck": chains.tucker}


def _settings(kind, rank, multiple_of, initialize, mid_activation) -> dict[str, Any]:
    settings = {"kind": kind, "rank": rank, "multiple_of": multiple_of, "initialize": initialize}
    if mid_activation is not None:
        activation = keras.activations.get(mid_activation)
        settings["mid_activation"] = keras.activations.serialize(activation)
    return {key: value for key, value in settings.items() if value is not None}


def _obstacle(site: sites.Site, kind: str) -> str | None:
    """Why this structure does not exist for this layer, or None."""
    height, width = site.layer.kernel_size
    if (height, width) == (1, 1):
        return "is 1×1: it has no spatial part to take apart"
    if kind == "1d":
        return None if min(height, width) > 1 else "is 1-D already"
    if kind == "bottleneck":
        return None
    if site.layer.strides[0] != site.layer.strides[1]:
        return "has unequal strides, which TensorFlow's depthwise convolution does not run"
    return None


def _width(chain: Chain, rank: int | float | None, multiple_of: int) -> int:
    if chain.kind == "separable":
        return 1 if rank is None else int(rank)
    share = SHARE_OF_BREAK_EVEN if rank is None else rank
    if isinstance(share, float):
        highest = chain.break_even
        width = rounded(max(1, round(share * highest)), multiple_of, highest)
        return width if width <= highest else highest // multiple_of * multiple_of or width
    return int(rank)


def _dearer(chain: Chain, rank: Rank) -> str:
    text = f"{chain.describe(rank)} would take {chain.macs(rank):,} MACs and "
    text += f"{chain.params(rank):,} weights instead of {chain.site.macs:,} and "
    return text + f"{chain.site.params:,}"


def _kernels(chain: Chain, rank: Rank) -> tuple[Sequence[np.ndarray], float]:
    """The kernels closest to the trained one, and the share of its energy that they keep."""
    kernel = chain.site.kernel
    if chain.kind == "separable":
        depthwise, pointwise = decompose.separable_kernels(kernel, rank)
        return (depthwise, pointwise), decompose.separable_retained(kernel, rank)
    if chain.kind == "tucker":
        both = tucker(kernel)
        return both.kernels(rank), both.kept(rank)
    split = decompose.low_rank(decompose.spatial_matrix(kernel))
    rank = min(rank, split.full_rank)
    return decompose.spatial_kernels(kernel.shape, *split.cut(rank)), split.retained(rank)


def _check(kind, rank, multiple_of, initialize, mid_activation) -> None:
    who = "replace_convolutions"
    if kind not in KINDS:
        raise BadInput(f'{who}: unknown kind "{kind}"; {near(kind, KINDS)}')
    if initialize not in INITIALIZE:
        raise BadInput(f'{who}: unknown initialize "{initialize}"; {near(initialize, INITIALIZE)}')
    number = isinstance(rank, (int, float, np.integer)) and not isinstance(rank, bool)
    whole = number and not isinstance(rank, float) and rank >= 1
    share = number and isinstance(rank, float) and 0 < rank < 1 and kind != "separable"
    if rank is not None and not whole and not share:
        also = " or a share of break-even in (0, 1)" if kind != "separable" else ""
        raise BadInput(f"{who}: rank={rank!r} must be a whole number from 1{also}")
    if not isinstance(multiple_of, int) or isinstance(multiple_of, bool) or multiple_of < 1:
        raise BadInput(f"{who}: multiple_of={multiple_of!r} must be a whole number from 1")
    try:
        keras.activations.get(mid_activation)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"{who}: unknown mid_activation {mid_activation!r}; give a Keras activation, "
            'such as "relu"'
        ) from error
