"""What a rule is: how a layer passes channel labels on, and how its weights and config follow.

A rule answers three questions, each a small method:

- `label`: given its inputs' labels, which labels do its outputs carry? Here a layer mints, ties and
  pins.
- `route`: given which old positions of the inputs' channels are kept, in order, which old positions
  of the outputs' channels are kept? Layers that mint are told instead.
- `edit`: given both, which weights are gathered along which axes, and what in the config changes?
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfeffi.errors import BadInput
from tfeffi.surgery.channels import Channels, Labels, Tensor
from tfeffi.surgery.graph import Call, Layer

Index = np.ndarray | None  # old positions kept along the labelled axis; None: all of a fixed tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """One call of a layer with what its tensors carry."""

    call: Call
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()

    @property
    def layer(self) -> Layer:
        return self.call.layer

    @property
    def config(self) -> dict[str, Any]:
        return self.call.layer.config

    @property
    def source(self) -> Tensor:
        """The first input."""
        return self.inputs[0]

    @property
    def rank(self) -> int:
        """The rank of the first input; 0 if it is not recorded."""
        return self.source.rank or 0


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """One axis of a weight, gathered.

    Attributes:
        axis: the axis.
        index: (n,) the old positions kept, in their new order.
        shared: whether the axis is summed over, so that repeated positions share their weight.
    """

    axis: int
    index: np.ndarray
    shared: bool = False

    def take(self, array: np.ndarray, *, share: bool = True) -> np.ndarray:
        """The gathered array; where a position is repeated and summed over, its share."""
        taken = np.take(array, self.index, axis=self.axis)
        repeats = np.bincount(self.index)[self.index]
        if not (share and self.shared) or repeats.max(initial=1) == 1:
            return taken
        if np.issubdtype(array.dtype, np.integer):
            raise BadInput(
                "surgery: a quantized weight that reads a repeated channel has whole numbers, which "
                "cannot be shared out; repeat channels before you quantize"
            )
        shape = [1] * taken.ndim
        shape[self.axis] = -1
        return (taken / repeats.reshape(shape)).astype(array.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Edit:
    """What changes in a layer.

    Attributes:
        config: the keys of its config that change.
        cuts: the cuts of its weights, by name.
        arguments: the new arguments of its call, as `Call.arguments` has them; None: as they were.
    """

    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cuts: Mapping[str, tuple[Cut, ...]] = dataclasses.field(default_factory=dict)
    arguments: Any = None

    @property
    def empty(self) -> bool:
        return not self.config and not self.cuts and self.arguments is None


class Rule:
    """Base of the rules: a layer that passes the channels of its one input on unchanged."""

    mints = False  # makes new channels: the caller says which are kept
    reads = False  # sums over the channels of its input: the place where a channel counts
    tied_calls = False  # its weights or config depend on its inputs' channels: shared calls agree
    parts = False  # gives parts of its input's channels: none of them may be left empty

    def label(self, site: Site, labels: Labels) -> list[Channels | None]:
        return [site.source.channels]

    def route(self, site: Site, read: Sequence[Index]) -> list[Index]:
        return [read[0]]

    def edit(self, site: Site, read: Sequence[Index], written: Sequence[Index]) -> Edit:
        return Edit()

    def incoming(self, site: Site, read: Sequence[Index]) -> Index:
        """For a layer that reads: the kept positions of its input along the axis it sums over."""
        return read[0]

    def choose(self, site: Site) -> "Rule":
        """The rule for this very call: a rule may hand over to a more particular one."""
        return self


class Opaque(Rule):
    """A layer that surgery cannot see through: the channels of its inputs stay as they are."""

    def __init__(self, reason: str = "{layer} has no rule"):
        self.reason = reason

    def label(self, site, labels):
        for tensor in site.inputs:
            labels.pin(tensor.channels, self.reason.format(layer=site.layer))
        return [None] * len(site.call.outputs)

    def route(self, site, read):
        return [None] * len(site.call.outputs)


def cuts(**axes: Cut | Sequence[Cut] | None) -> dict[str, tuple[Cut, ...]]:
    """The cuts that are there, by weight: `cuts(kernel=[cut(...), None], bias=None)`."""
    found = {}
    for weight, given in axes.items():
        several = given if isinstance(given, (list, tuple)) else [given]
        present = tuple(one for one in several if one is not None)
        if present:
            found[weight] = present
    return found


def cut(axis: int, index: Index, *, shared: bool = False) -> Cut | None:
    """A cut, or None for a fixed axis."""
    return None if index is None else Cut(axis, index, shared)


def channel_axis(site: Site) -> int:
    """The channel axis of the first input by the layer's `data_format`."""
    return 1 if site.config.get("data_format") == "channels_first" else site.rank - 1


def same(site: Site, indices: Sequence[Index]) -> Index:
    """The one index that all tensors agree on."""
    given = [index for index in indices if index is not None]
    for other in given[1:]:
        if not np.array_equal(given[0], other):
            raise BadInput(
                f"reindex: the channels that meet in {site.layer} would be in different orders; "
                "keep them in ascending order"
            )
    return given[0] if given else None


def expand(index: Index, factor: int) -> Index:
    """Positions of channels, each made of `factor` consecutive parts, as positions of parts."""
    if index is None:
        return None
    return (index[:, None] * factor + np.arange(factor)).ravel()


def known_size(shape: Sequence[int | None]) -> int | None:
    """The product of the dimensions, or None if one is open."""
    return None if any(d is None for d in shape) else math.prod(shape)
