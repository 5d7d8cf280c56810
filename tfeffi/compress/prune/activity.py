"""How active each channel is on a data set, measured where it is read.

A channel counts where a layer sums over it: the input of a convolution or dense layer, after
batch normalization, activation, addition and pooling have done their work. Coupled channels are
read at several places; their counts are added. "Active" means not zero: after a ReLU that is
positive, and elsewhere it is what makes a channel that is never active one that can go exactly.
"""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import tensorflow as tf

from tfeffi.compress.prune.batches import batches
from tfeffi.compress.prune.scores import Place, Scores, normalize, reduce
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling
from tfeffi.surgery.forward import Forward


@dataclasses.dataclass(frozen=True, eq=False)
class Activity:
    """What was measured, for each class of coupled channels.

    Attributes:
        active: (classes,) how often an activation was not zero, over examples and positions.
        total: (classes,) how many activations there were.
        magnitude: (classes,) the sum of their absolute values.
        examples: how many examples were seen.
        places: the same for each layer that reads, by its path; their sums are the above.
    """

    active: np.ndarray
    total: np.ndarray
    magnitude: np.ndarray
    examples: int
    places: tuple[tuple[str, "Activity"], ...] = ()

    @property
    def share(self) -> np.ndarray:
        """The share of activations that are not zero: 1 - APoZ; 1 where nothing reads."""
        return np.where(self.total > 0, self.active / np.maximum(self.total, 1), 1.0)

    @property
    def mean(self) -> np.ndarray:
        """The mean absolute activation; infinite where nothing reads."""
        return np.where(self.total > 0, self.magnitude / np.maximum(self.total, 1), np.inf)

    def reduced(self, quantity: str, reduction: str | None) -> np.ndarray:
        """(classes,) the "active", "share" or "mean" of all places together, or reduced over them.

        Args:
            quantity: the name of the attribute.
            reduction: None for the sums over all places, else see `scores.reduce`.
        """
        if reduction is None:
            return np.where(self.total > 0, getattr(self, quantity), np.inf)
        places = []
        for path, one in self.places:
            classes = np.flatnonzero(one.total)
            places.append(Place(path, classes, getattr(one, quantity)[classes].astype(float)))
        return reduce(len(self.total), places, reduction)


def measure(coupling: Coupling, data) -> Activity:
    """Runs the model over the data and counts.

    Args:
        coupling: the labelled model, `Coupling.of(model)`.
        data: a tf.data.Dataset of batches (inputs, or inputs and labels), an array of inputs, a
            list or a dict of arrays for several inputs, or `tfeffi.data.Images`.

    Returns:
        Counts for each class of channels, over the whole data.

    Raises:
        BadInput: the data is empty, or of another shape than the model takes, or activations
            overflow on it.

    Source: Network Trimming (Hu et al. 2016, arXiv 1607.03250), equation 1, counted where the
    channel is read.
    """
    reads: dict[int, tuple[str, np.ndarray]] = {}
    for path, tensor, classes in coupling.reads:
        reads.setdefault(tensor, (path, classes))  # what several layers read counts once
    axes = [coupling.channels[tensor].axis for tensor in reads]
    model = coupling.graph.model
    forward = Forward(coupling.graph, list(reads))
    signature = [tf.TensorSpec((None, *i.shape[1:]), i.dtype) for i in model.inputs]

    @tf.function(input_signature=[signature], autograph=False)
    def count(inputs):
        found = []
        for value, axis in zip(forward(inputs), axes, strict=True):
            others = [a for a in range(len(value.shape)) if a != axis]
            active = tf.math.count_nonzero(value, others)
            magnitude = tf.reduce_sum(tf.abs(tf.cast(value, tf.float32)), others)
            found.append((active, magnitude, tf.size(value, tf.int64)))
        return found

    sums, examples = None, 0
    for inputs in batches(model, data, "prune"):
        examples += len(inputs[0])
        now = [tuple(np.asarray(v, np.float64) for v in one) for one in count(inputs)]
        sums = now if sums is None else [_add(a, b) for a, b in zip(sums, now, strict=True)]
    if not examples:
        raise BadInput("prune: the data is empty; give it at least one batch")
    return _by_class(coupling.classes.count, reads.values(), sums, examples)


def activations(
    coupling: Coupling, data, *, reduction: str | None = None, normalization: str = "none"
) -> Scores:
    """How often a channel is active; ranked by share, ties by mean absolute activation.

    Args:
        coupling: the labelled model, `Coupling.of(model)`.
        data: what to measure on, see `measure`.
        reduction: None adds the counts of all layers that read the channel; otherwise each has its
            own count, and these are reduced, see `scores.reduce`.
        normalization: of the shares, see `scores.normalize`. A threshold is compared with counts.

    Source: Network Trimming (Hu et al. 2016, arXiv 1607.03250); Çallı 2017 counts the same.
    """
    found = measure(coupling, data)
    values = found.reduced("active", reduction)
    return _ranked(coupling, found, values, reduction, normalization)


def apoz(
    coupling: Coupling, data, *, reduction: str | None = None, normalization: str = "none"
) -> Scores:
    """The share of activations that are not zero, 1 - APoZ (Hu et al. 2016, equation 1).

    The arguments are those of `activations`.
    """
    found = measure(coupling, data)
    values = found.reduced("share", reduction)
    return _ranked(coupling, found, values, reduction, normalization)


def mean_activation(
    coupling: Coupling, data, *, reduction: str | None = None, normalization: str = "mean"
) -> Scores:
    """The mean absolute activation; the arguments are those of `activations`."""
    values = measure(coupling, data).reduced("mean", reduction)
    rank = normalize(coupling, values, normalization)
    return Scores(values, rank, rank)


def outliers(coupling: Coupling, data, *, reduction: str | None = None) -> Scores:
    """How many standard deviations the count of a channel is from the mean of its layer.

    `prune(model, importance="outliers", data=data)` removes the channels whose activation count is
    below mean − 2·std of the channels that the layer still has (population std), and nothing where
    std is zero. Another `threshold` is another multiple.

    Args:
        coupling: the labelled model.
        data: what to measure on, see `measure`.
        reduction: of the counts, as in `activations`.

    Source: the outlier rule of Çallı 2017.
    """
    counts = measure(coupling, data).reduced("active", reduction)
    found = np.full(len(counts), np.inf)
    for group in coupling.groups:
        finite = group.classes[np.isfinite(counts[group.classes])]
        exact = [Fraction(float(x)) for x in counts[finite]]
        mean = sum(exact) / max(1, len(exact))
        squares = [(x - mean) ** 2 for x in exact]
        variance = sum(squares) / max(1, len(exact))
        away = [math.sqrt(s / variance) if variance else 0.0 for s in squares]
        found[finite] = np.copysign(away, [float(x - mean) for x in exact])
    # "below" is strict and a threshold is not: a hair above -2 stays where exactly -2 does
    return Scores(np.nextafter(found, np.inf), found, found)


def _ranked(coupling: Coupling, found: Activity, values, reduction, normalization) -> Scores:
    rank = normalize(coupling, found.reduced("share", reduction), normalization)
    ties = normalize(coupling, found.reduced("mean", reduction), "mean")
    return Scores(values, rank, ties)


def _add(one, other):
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _by_class(count: int, reads, sums, examples: int) -> Activity:
    places = []
    for (path, classes), (nonzero, absolute, size) in zip(reads, sums, strict=True):
        if not np.isfinite(absolute).all():
            raise BadInput(f'prune: what layer "{path}" reads is not finite on this data')
        sizes = np.full(len(classes), size / len(classes))
        active, total, magnitude = (
            np.bincount(classes, values, count) for values in (nonzero, sizes, absolute)
        )
        active, total = np.rint(active).astype(np.int64), np.rint(total).astype(np.int64)
        places.append((path, Activity(active, total, magnitude, examples)))
    zero = np.zeros(count, np.int64)
    return Activity(
        sum((one.active for _, one in places), zero),
        sum((one.total for _, one in places), zero),
        sum((one.magnitude for _, one in places), np.zeros(count)),
        examples,
        tuple(places),
    )
