"""A layer written as a chain of cheaper ones, at any rank: the layers, their weights, their cost.

    basis      kh×kw conv to `rank` channels, then 1×1; Dense to `rank`, then Dense
    spatial    kh×1 to `rank` channels, then 1×kw
    separable  depthwise kh×kw with multiplier `rank`, then 1×1
    tucker     1×1 to a channels, kh×kw to b, then 1×1, at the rank (a, b)

The last layer of a chain keeps the name, the bias and the activation of the layer it stands for, so
that outputs keep their names; regularizers and dtypes go to all. Strides and dilation are split
(s, 1), (1, s) for the spatial chain, and stay with the kh×kw layer in the others. Padding splits
as well: a kernel's rows and columns are padded independently, and nothing is added in between.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfeffi.analysis.cost import layer_macs
from tfeffi.compress.sites import Site, times
from tfeffi.surgery import New

Rank = int | tuple[int, int]  # a pair for Tucker


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """One way to write a layer as several.

    Attributes:
        kind: "basis", "spatial", "separable" or "tucker".
        site: the layer.
        layers: the unbuilt layers at a rank: `layers(rank, mid_activation)`.
    """

    kind: str
    site: Site
    layers: Callable[..., tuple[keras.Layer, ...]]

    @functools.cached_property
    def _units(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """MACs and parameters of each layer at rank 1."""
        macs, params = [], []
        for shape, _ in self.site.shapes:
            counted, params = [], []
            for layer in self.layers(self.both(1)):
                layer.build(shape)
                after = layer.compute_output_shape(shape)
                counted.append(layer_macs(layer, shape, after))
                # Weights but the bias, which the last layer has before and after.
                params.append(sum(int(np.prod(w.shape)) for w in layer.weights if len(w.shape) > 1))
                shape = after
            macs.append(counted)
        return tuple(map(sum, zip(*macs, strict=True))), tuple(params)

    def both(self, width: int) -> Rank:
        """The rank of this width: for Tucker the same twice."""
        return (width, width) if self.kind == "tucker" else width

    def macs(self, rank: Rank) -> int:
        """Multiply-adds at this rank, over all calls."""
        return _weighted(self._units[0], rank)

    def params(self, rank: Rank) -> int:
        """Parameters at this rank, without the bias."""
        return _weighted(self._units[1], rank)

    def saves(self, rank: Rank) -> bool:
        """Whether this rank saves both multiply-adds and parameters."""
        return self.macs(rank) < self.site.macs and self.params(rank) < self.site.params

    @functools.cached_property
    def break_even(self) -> int:
        """The largest width that saves both multiply-adds and parameters; 0 where none does."""
        low, high = 0, max(self.site.kernel.shape[-2:]) * self.site.kernel.shape[0] + 1
        while self.saves(self.both(high)):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.saves(self.both(middle)) else (low, middle)
        return low

    def describe(self, rank: Rank) -> str:
        """The chain in a few words: "3×1 and 1×3, rank 24"."""
        if self.kind == "separable":
            return f"depthwise and 1×1, multiplier {rank}"
        if self.site.is_dense:
            return f"rank {rank}"
        windows = [times(layer.kernel_size) for layer in self.layers(self.both(1))]
        if self.kind == "tucker":
            return f"{', '.join(windows)}, ranks {rank[0]} and {rank[1]}"
        return f"{' and '.join(windows)}, rank {rank}"

    def new(
        self,
        rank: Rank,
        kernels: Sequence[np.ndarray] | None,
        *,
        offset: np.ndarray | None = None,
        mid_activation: Any = None,
    ) -> list[New]:
        """The chain, ready for `surgery.replace`.

        Args:
            rank: its width.
            kernels: the kernel of each layer, or None for fresh ones.
            offset: what is added to the bias, or None.
            mid_activation: the activation between the layers; None is linear.
        """
        layers = self.layers(rank, mid_activation)
        if kernels is None:
            return [New(layer) for layer in layers]
        weights = [[kernel] for kernel in kernels]
        if self.site.bias is not None:
            weights[-1].append(self.site.bias if offset is None else self.site.bias + offset)
        return [New(layer, w) for layer, w in zip(layers, weights, strict=True)]


def basis(site: Site) -> Chain:
    """To `rank` channels with the whole kernel, then mixed: Zhang et al. 2015 (arXiv 1505.06798)."""

    def layers(rank: int, mid_activation: Any = None) -> tuple[keras.Layer, ...]:
        width = {"units": rank} if site.is_dense else {"filters": rank}
        first = _first(site, "basis", mid_activation, **width)
        second = _last(site) if site.is_dense else _pointwise(site)
        return first, second

    return Chain("basis", site, layers)


def tucker(site: Site) -> Chain:
    """To fewer channels, the whole kernel between them, and back: Kim et al. 2015 (arXiv 1511.06530)."""

    def layers(rank: tuple[int, int], mid_activation: Any = None) -> tuple[keras.Layer, ...]:
        reduced = _first(site, "reduce", mid_activation, filters=rank[0], **_one_by_one(site))
        core = _first(site, "core", mid_activation, filters=rank[1])
        return reduced, core, _pointwise(site)

    return Chain("tucker", site, layers)


def spatial(site: Site) -> Chain:
    """Rows, then columns: Jaderberg et al. 2014 (arXiv 1405.3866); Alvarez & Petersson 2016."""
    layer = site.layer
    (height, width), (down, right) = layer.kernel_size, layer.strides
    dilation = layer.dilation_rate

    def layers(rank: int, mid_activation: Any = None) -> tuple[keras.Layer, ...]:
        vertical = _first(
            site, "vertical", mid_activation,
            filters=rank, kernel_size=(height, 1), strides=(down, 1),
            dilation_rate=(dilation[0], 1),
        )  # fmt: skip
        horizontal = _last(
            site, kernel_size=(1, width), strides=(1, right), dilation_rate=(1, dilation[1])
        )
        return vertical, horizontal

    return Chain("spatial", site, layers)


def separable(site: Site) -> Chain:
    """Each channel by itself, then mixed: Howard et al. 2017 (arXiv 1704.04861)."""
    config = site.layer.get_config()

    def layers(rank: int, mid_activation: Any = None) -> tuple[keras.Layer, ...]:
        depthwise = keras.layers.DepthwiseConv2D(
            kernel_size=site.layer.kernel_size,
            strides=site.layer.strides,
            padding=site.layer.padding,
            dilation_rate=site.layer.dilation_rate,
            depth_multiplier=rank,
            data_format=site.layer.data_format,
            activation=mid_activation,
            use_bias=False,
            depthwise_regularizer=keras.regularizers.get(config["kernel_regularizer"]),
            trainable=site.layer.trainable,
            dtype=site.layer.dtype_policy,
            name=site.name("depthwise"),
        )
        return depthwise, _pointwise(site)

    return Chain("separable", site, layers)


def _first(site: Site, suffix: str, activation: Any, **changes: Any) -> keras.Layer:
    """A layer like that of the site, without bias: only the last one of a chain has it."""
    return _like(
        site, name=site.name(suffix), use_bias=False, activation=keras.activations.get(activation),
        bias_regularizer=None, bias_constraint=None, activity_regularizer=None, **changes,
    )  # fmt: skip


def _last(site: Site, **changes: Any) -> keras.Layer:
    return _like(site, **changes)


def _pointwise(site: Site) -> keras.Layer:
    return _last(site, **_one_by_one(site))


def _one_by_one(site: Site) -> dict[str, Any]:
    """What makes a convolution like that of the site a 1×1 one."""
    one = (1,) * (site.kernel.ndim - 2)
    return {"kernel_size": one, "strides": one, "dilation_rate": one, "padding": "valid"}


def _weighted(units: Sequence[int], rank: Rank) -> int:
    """A cost at a rank, from that of each layer at rank 1: it grows with the widths on both sides."""
    first, last = rank if isinstance(rank, tuple) else (rank, None)
    scales = (first, first) if last is None else (first, first * last, last)
    return sum(unit * scale for unit, scale in zip(units, scales, strict=True))


def _like(site: Site, **changes: Any) -> keras.Layer:
    """An unbuilt layer with the config of the site's, but for the changes."""
    config = {**site.layer.get_config(), "kernel_constraint": None, **changes}
    return type(site.layer).from_config(config)
