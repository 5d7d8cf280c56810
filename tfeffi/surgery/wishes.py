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
        wanted: the positions the caller gave, by layer.
        orders: the same, by the classes of the layer's channels (as bytes).
    """

    coupling: "Coupling"
    counts: np.ndarray
    wanted: dict[str, np.ndarray]
    orders: dict[bytes, np.ndarray]

    @classmethod
    def of(cls, coupling: "Coupling", index_map: Mapping[str, Sequence[int]]) -> "Wish":
        """Reads and checks `{layer: positions}`."""
        if not isinstance(index_map, Mapping):
            raise BadInput(f"reindex: expected {{layer: channels to keep}}, got {index_map!r:.60}")
        check_names(coupling.graph.layers, index_map)
        counts = np.ones(coupling.classes.count, np.int64)
        said: dict[int, str] = {}
        wanted: dict[str, np.ndarray] = {}
        for name, index in index_map.items():
            classes = coupling.written.get(name)
            if classes is None:
                raise BadInput(
                    f'reindex: the channels of "{name}" cannot change: {_why(coupling, name)}'
                )
            wanted[name] = _positions(name, index, len(classes))
            _count(name, classes, wanted[name], counts, said, coupling)
        wish = cls(coupling, counts, wanted, {})
        wish.check_filled()
        for name, index in wanted.items():
            wish.note_order(name, index)
        return wish

    def note_order(self, name: str, index: np.ndarray) -> None:
        """Remembers the order given to a layer, for all that carry the same channels."""
        classes = self.coupling.written[name]
        moved = not np.array_equal(index, _ascending(self.coupling, name, classes, self.counts))
        for one in classes if moved else ():
            if int(one) in self.coupling.classes.pinned:
                why = self.coupling.classes.pinned[int(one)]
                raise BadInput(f'reindex: the order of "{name}" must stay: {why}')
        if not np.array_equal(self.orders.setdefault(classes.tobytes(), index), index):
            raise BadInput(
                f'reindex: "{name}" is coupled to a layer that is given another order; '
                "give both the same"
            )

    def index(self, path: str) -> np.ndarray:
        """The positions of a writer that are kept, in order."""
        classes = self.coupling.writers[path]
        given = self.orders.get(classes.tobytes())
        if given is not None:
            return given
        return _ascending(self.coupling, path, classes, self.counts)

    def check_filled(self) -> None:
        for path, classes in (*self.coupling.writers.items(), *self.coupling.parts):
            if not self.counts[classes].any():
                raise BadInput(f'reindex: no channel of "{path}" would be left; keep at least one')


def check_names(known, names) -> None:
    """Raises BadInput if a layer is not in the model."""
    for name in names:
        if name not in known:
            raise BadInput(f'surgery: layer "{name}" is not in the model; {near(name, known)}')


def _ascending(coupling: "Coupling", path: str, classes: np.ndarray, counts) -> np.ndarray:
    """The order nobody asked for: each channel where it was, its copies beside it.

    Consecutive channels of one class come from a depthwise multiplier, which copies them as a
    block: a b a b. The groups of a grouped convolution copy each by itself: a a b b.
    """
    positions = np.arange(len(classes))
    config = coupling.graph.layers[path].config
    config = config.get("layer", {}).get("config", config)  # of the layer inside a wrapper
    if config.get("groups", 1) > 1:
        return np.repeat(positions, counts[classes])
    starts = np.flatnonzero(np.diff(classes)) + 1
    runs = np.split(positions, starts)
    return np.concatenate([np.tile(run, counts[classes[run[0]]]) for run in runs])


def _positions(name: str, index, size: int) -> np.ndarray:
    try:
        found = np.asarray(index)
    except ValueError:  # lists of several lengths
        found = np.asarray(None)
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
