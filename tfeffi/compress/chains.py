"""A layer written as a chain of cheaper ones, at any rank: the layers, their weights, their cost.

    basis      kh×kw conv to `rank` channels, then 1×1; Dense to `rank`, then Dense
    spatial    kh×1 to `rank` channels, then 1×kw
    separable  depthwise kh×kw with multiplier `rank`, then 1×1

The last layer of a chain keeps the name, the bias and the activation of the layer it stands for, so
that outputs keep their names; regularizers and dtypes go to all. Strides and dilation are split
(s, 1), (1, s) for the spatial chain, and stay with the first layer in the others. Padding splits
as well: a kernel's rows and columns are padded independently, and nothing is added in between.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfeffi.analysis.cost import layer_macs
from tfeffi.compress.sites import Site
from tfeffi.surgery import New


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """One way to write a layer as several.

    Attributes:
        kind: "basis", "spatial" or "separable".
        site: the layer.
        layers: the unbuilt layers at a rank: `layers(rank, mid_activation)`.
    """

    kind: str
    site: Site
    layers: Callable[..., tuple[keras.Layer, ...]]

    @functools.cached_property
    def _unit(self) -> tuple[int, int]:
        """MACs and parameters per rank, counted on the chain of rank 1; both grow linearly."""
        macs, params = 0, 0
        for shape, _ in self.site.shapes:
            params = 0
            for layer in self.layers(1):
                layer.build(shape)
                after = layer.compute_output_shape(shape)
                macs += layer_macs(layer, shape, after)
                # Weights but the bias, which the last layer has before and after.
                params += sum(int(np.prod(w.shape)) for w in layer.weights if len(w.shape) > 1)
                shape = after
        return macs, params

    def macs(self, rank: int) -> int:
        """Multiply-adds at this rank, over all calls."""
        return rank * self._unit[0]

    def params(self, rank: int) -> int:
        """Parameters at this rank, without the bias."""
        return rank * self._unit[1]

    @property
    def break_even(self) -> int:
        """The largest rank that saves both multiply-adds and parameters; 0 where none does."""
        macs, params = self._unit
        return min((self.site.macs - 1) // macs, (self.site.params - 1) // params)

    def describe(self, rank: int) -> str:
        """The chain in a few words: "3×1 and 1×3, rank 24"."""
        if self.kind == "separable":
            return f"depthwise and 1×1, multiplier {rank}"
        if self.site.is_dense:
            return f"rank {rank}"
        first, second = (layer.kernel_size for layer in self.layers(1))
        return f"{first[0]}×{first[1]} and {second[0]}×{second[1]}, rank {rank}"

    def new(
        self,
        rank: int,
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
    return _last(
        site, kernel_size=(1, 1), strides=(1, 1), dilation_rate=(1, 1), padding="valid"
    )  # fmt: skip


def _like(site: Site, **changes: Any) -> keras.Layer:
    """An unbuilt layer with the config of the site's, but for the changes."""
    config = {**site.layer.get_config(), "kernel_constraint": None, **changes}
    return type(site.layer).from_config(config)
