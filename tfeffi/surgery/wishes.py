"""What a caller wants kept, checked and completed for the layers that are coupled."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfeffi.errors import BadInput, near

if TYPE_CHECKING:
    from tfeffi.surgery.coupling import Coupling


@dataclasses.dataclass(frozen=True, eq=False)
class Wish:
    """How often each class is kept, and in which order where the caller said so.

    Attributes:
        coupling: the labelled model.
        counts: (classes,) how often each class is kept.
        orders: by the classes of a tensor (as bytes), the positions the caller gave.
    """

    coupling: "Coupling"
    counts: np.ndarray
    orders: dict[bytes, np.ndarray]

    @classmethod
    def of(cls, coupling: "Coupling", index_map: Mapping[str, Sequence[int]]) -> "Wish":
        """Reads and checks `{layer: positions}`."""
        if not isinstance(index_map, Mapping):
            raise BadInput(f"reindex: expected {{layer: channels to keep}}, got {index_map!r:.60}")
        check_names(coupling.graph.layers, index_map)
        counts = np.ones(coupling.classes.count, np.int64)
        said: dict[int, str] = {}
        orders: dict[bytes, np.ndarray] = {}
        for name, index in index_map.items():
            classes = coupling.written.get(name)
            if classes is None:
                raise BadInput(
                    f'reindex: the channels of "{name}" cannot change: {_why(coupling, name)}'
                )
            index = _positions(name, index, len(classes))
            _count(name, classes, index, counts, said, coupling)
            if not np.array_equal(index, _ascending(classes, counts)):
                if coupling.classes.pinned.keys() & set(classes.tolist()):
                    one = (coupling.classes.pinned.keys() & set(classes.tolist())).pop()
                    raise BadInput(
                        f'reindex: the order of "{name}" cannot change: '
                        f"{coupling.classes.pinned[one]}"
                    )
                known = orders.setdefault(classes.tobytes(), index)
                if not np.array_equal(known, index):
                    raise BadInput(f'reindex: "{name}" is coupled to a layer in another order')
        wish = cls(coupling, counts, orders)
        wish.check_filled()
        return wish

    def index(self, path: str) -> np.ndarray:
        """The positions of a writer that are kept, in order."""
        classes = self.coupling.writers[path]
        given = self.orders.get(classes.tobytes())
        return _ascending(classes, self.counts) if given is None else given

    def check_filled(self) -> None:
        for path, classes in self.coupling.writers.items():
            if not self.counts[classes].any():
                raise BadInput(f'reindex: no channel of "{path}" would be left; keep at least one')


def check_names(known, names) -> None:
    """Raises BadInput if a layer is not in the model."""
    for name in names:
        if name not in known:
            raise BadInput(f'surgery: layer "{name}" is not in the model; {near(name, known)}')


def _ascending(classes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(classes)), counts[classes])


def _positions(name: str, index, size: int) -> np.ndarray:
    found = np.asarray(index)
    if found.size == 0:
        raise BadInput(f'reindex: no channel of "{name}" would be left; keep at least one')
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise BadInput(
            f'reindex: the channels of "{name}" are {index!r:.60}; give a list of whole numbers'
        )
    outside = found[(found < 0) | (found >= size)]
    if outside.size:
        raise BadInput(
            f'reindex: channel {outside[0]} of "{name}" is not there; it has 0 to {size - 1}'
        )
    return found.astype(np.int64)


def _count(name, classes, index, counts, said, coupling) -> None:
    """Notes how often each class is kept, if the positions agree with it and with each other."""
    often = np.bincount(index, minlength=len(classes))
    for one in np.unique(classes):
        here = np.unique(often[classes == one])
        if len(here) > 1:
            where = np.flatnonzero(classes == one)[:4].tolist()
            raise BadInput(
                f'reindex: channels {where} of "{name}" live or die together; keep them alike'
            )
        if one in said and counts[one] != here[0]:
            raise BadInput(
                f'reindex: "{name}" is coupled to "{said[one]}" and must keep the same channels'
            )
        if here[0] != 1 and int(one) in coupling.classes.pinned:
            channel = int(np.flatnonzero(classes == one)[0])
            raise BadInput(
                f'reindex: channel {channel} of "{name}" must stay: '
                f"{coupling.classes.pinned[int(one)]}"
            )
        counts[one], said[one] = here[0], name


def _why(coupling: "Coupling", name: str) -> str:
    site = next(site for site, _ in coupling.sites if site.layer.path == name)
    return "it is an input of the model" if not site.inputs else "its input cannot change"
