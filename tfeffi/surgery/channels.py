"""Labels for channels, tied by union-find and pinned with reasons.

Every channel that a layer makes gets a number of its own, a label. Where tensors meet elementwise
their labels are tied; channels whose labels are tied live or die together and form one *class*.
A label is pinned where something depends on it that surgery cannot follow.
"""

import dataclasses
from collections.abc import Hashable

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclasses.dataclass(frozen=True, eq=False)
class Channels:
    """The labelled axis of a tensor.

    Attributes:
        axis: which axis, counted with the batch.
        labels: (n,) int64, one for each position along it.
    """

    axis: int
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """What a rule sees of a tensor.

    Attributes:
        shape: with the batch; None for an open dimension; None as a whole if it is not recorded.
        channels: its labelled axis, or None if no axis of it may change.
    """

    shape: tuple[int | None, ...] | None
    channels: Channels | None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)


class Labels:
    """Where the rules write while a model is labelled.

    Args:
        inexact: whether channels may go although a layer takes statistics over them.
    """

    def __init__(self, *, inexact: bool = False):
        self.inexact = inexact
        self.mixing: dict[str, str] = {}  # by the path of a layer: why surgery on it is not exact
        self._count = 0
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []
        self._pins: list[tuple[np.ndarray, str]] = []
        self._minted: dict[Hashable, np.ndarray] = {}

    def mint(self, owner: Hashable, count: int) -> np.ndarray:
        """Fresh labels; the same ones again for an owner that is called again."""
        if owner not in self._minted:
            self._minted[owner] = np.arange(self._count, self._count + count)
            self._count += count
        return self._minted[owner]

    def tie(self, first: np.ndarray, second: np.ndarray) -> None:
        """The channels of `first` live or die with those of `second`, position by position."""
        self._ties.append(np.broadcast_arrays(first, second))

    def pin(self, channels: Channels | np.ndarray | None, reason: str) -> None:
        """The channels must stay as they are."""
        if channels is not None:
            labels = channels.labels if isinstance(channels, Channels) else channels
            self._pins.append((np.asarray(labels).ravel(), reason))

    def mixes(self, path: str, channels: Channels, reason: str) -> bool:
        """A layer takes statistics over channels: pins them, or notes that surgery is inexact.

        Returns:
            Whether the channels may go all the same.
        """
        if self.inexact:
            self.mixing.setdefault(path, reason)
        else:
            self.pin(channels, reason)
        return self.inexact

    def along(self, tensor: Tensor, axis: int, reason: str) -> Channels | None:
        """The channels of a tensor along `axis`; on another axis they are pinned, with the reason."""
        channels = tensor.channels
        if channels is not None and channels.axis != axis:
            self.pin(channels, reason)
            return None
        return channels

    def settle(self) -> "Classes":
        """The classes that the ties make."""
        size = self._count
        if self._ties:
            first = np.concatenate([a.ravel() for a, _ in self._ties])
            second = np.concatenate([b.ravel() for _, b in self._ties])
        else:
            first = second = np.zeros(0, np.int64)
        graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(size, size))
        count, of_label = connected_components(graph, directed=False) if size else (0, first)
        reasons: dict[int, str] = {}
        for labels, reason in self._pins:
            for one in np.unique(of_label[labels]):
                reasons.setdefault(int(one), reason)
        return Classes(count, of_label, reasons)


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
    """Which channels live or die together.

    Attributes:
        count: how many classes there are; they are numbered from 0.
        of_label: the class of each label.
        pinned: the reason why a class must stay, for those that must.
    """

    count: int
    of_label: np.ndarray
    pinned: dict[int, str]
