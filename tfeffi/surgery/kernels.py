"""Where channels stand in kernels: the axis along which a layer makes or reads them.

A kernel speaks for the channels it makes (its output axis) or reads (its input axis). Kernels that
keep channels apart (depthwise ones) and vectors (biases) say nothing.
"""

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np

from tfeffi.surgery.coupling import Coupling


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """One axis of a kernel, with the class of each of its positions.

    Attributes:
        layer: the path of the layer.
        variable: the kernel.
        axis: which of its axes, counted from 0.
        classes: (n,) their numbers in `Coupling.classes`; several positions may have the same.
        reads: whether the channels are read here; else they are made.
    """

    layer: str
    variable: keras.Variable
    axis: int
    classes: np.ndarray
    reads: bool

    def rows(self) -> np.ndarray:
        """(n, weights of a position), float32: what stands at each position."""
        values = keras.ops.convert_to_numpy(keras.ops.cast(self.variable, "float32"))
        values = np.moveaxis(values, self.axis, 0)
        return values.reshape(len(values), -1)


def made(coupling: Coupling) -> Iterator[Side]:
    """The sides of all kernels on which channels are made, in the order of the model."""
    for site, rule in coupling.sites:
        if rule.mints and not site.call.index:
            all_made = np.arange(len(site.outputs[0].channels))
            classes = coupling.classes_of(site.outputs[0].channels)
            for variable, one in _cuts(site, rule, all_made):
                if one.index is all_made:
                    yield _side(site, variable, one.axis, classes, reads=False)


def read(coupling: Coupling) -> Iterator[Side]:
    """The sides of all kernels on which channels are read, in the order of the model."""
    for site, rule in coupling.sites:
        if rule.reads and not site.call.index and rule.incoming(site, [np.zeros(0)]) is not None:
            all_made = np.arange(len(site.outputs[0].channels))
            classes = coupling.classes_of(site.source.channels)
            for variable, one in _cuts(site, rule, all_made):
                if one.shared:
                    count = variable.shape[one.axis]
                    # more rows than channels: a multiplier; fewer: groups, whose channels are tied
                    at = np.arange(count) // max(1, count // len(classes))
                    yield _side(site, variable, one.axis, classes[at], reads=True)


def _side(site, variable, axis: int, classes: np.ndarray, *, reads: bool) -> Side:
    return Side(site.layer.path, variable, axis % len(variable.shape), classes, reads)


def _cuts(site, rule, all_made: np.ndarray):
    """(kernel, cut) of the kernels of a layer, with every channel kept."""
    whole = [None if t.channels is None else np.arange(len(t.channels)) for t in site.inputs]
    for weight, several in rule.edit(site, whole, [all_made]).cuts.items():
        if len(site.layer.shapes.get(weight, ())) > 1:
            variable = next(v for v in site.layer.live.variables if v.name == weight)
            for one in several:
                yield variable, one
