"""What the loss loses when a channel goes, by its gradient: Taylor and Fisher importances.

Put a gate m = 1 before every layer that reads a channel, one for each class of coupled channels. The
gradient of the loss with respect to it costs one backward pass for all of them together:

    g_nc = −∂L_n/∂m_c = −Σ a·∂L_n/∂a

over the positions where the channel of class c is read in example n. Closing the gate changes the
loss by g_nc to first order. Examples do not see each other at inference, so the gates of each have
their own gradient, and nothing depends on how the data is batched.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfeffi.compress.prune.batches import labelled
from tfeffi.compress.prune.losses import Loss
from tfeffi.compress.prune.scores import Place, Scores, finish, normalize
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling
from tfeffi.surgery.forward import Forward

FLOATS = 1 << 27  # of activations that a backward pass may hold


@dataclasses.dataclass(frozen=True, eq=False)
class Gates:
    """Sums over the examples of the gate gradients of each class.

    Attributes:
        signed: (classes,) Σ_n g_nc: what the summed loss changes by when the class goes, to first
            order.
        absolute: (classes,) Σ_n |g_nc|.
        squares: (classes,) Σ_n g_nc².
        count: (classes,) how many activations there were, over examples and positions.
        examples: how many examples were seen.
        places: the same for each layer that reads, with a gate of its own, by its path.
    """

    signed: np.ndarray
    absolute: np.ndarray
    squares: np.ndarray
    count: np.ndarray
    examples: int
    places: tuple[tuple[str, "Gates"], ...] = ()

    def scores(self, coupling: Coupling, of, reduction: str | None, normalization: str) -> Scores:
        """Scores from `of(gates) -> (classes,)`, of one gate a class or reduced over places."""
        if reduction is None:
            values = np.where(self.count > 0, of(self), np.inf)
            rank = normalize(coupling, values, normalization)
            return Scores(values, rank, rank)
        places = []
        for path, one in self.places:
            classes = np.flatnonzero(one.count)
            places.append(Place(path, classes, of(one)[classes]))
        return finish(coupling, places, reduction, normalization)


def taylor(
    coupling: Coupling,
    data,
    *,
    loss="cross_entropy",
    reduction: str | None = None,
    normalization: str = "l2",
    seed: int = 0,
) -> Scores:
    """|mean of a·∂L/∂a| over examples and positions: the first-order change of the loss.

    Args:
        coupling: the labelled model, `Coupling.of(model)`.
        data: inputs and labels, see `batches.labelled`.
        loss: see `losses.Loss.of`; "self" is "argmax": with sampled classes the mean would vanish.
        reduction: None for one gate for all layers that read a channel; otherwise each layer has
            its own, and their importances are reduced, see `scores.reduce`.
        normalization: "l2" makes layers comparable as in the paper, see `scores.normalize`.
        seed: of sampled classes.

    Raises:
        BadInput: no labels, or labels or a head that do not suit the loss.

    Source: Molchanov et al. 2017 (arXiv 1611.06440), the magnitude taken of the
    mean over all examples.
    """
    found = measure(coupling, data, loss=loss, own="argmax", seed=seed)
    return found.scores(
        coupling,
        lambda one: np.abs(one.signed) / np.maximum(one.count, 1),
        reduction,
        normalization,
    )


def taylor_abs(
    coupling: Coupling,
    data,
    *,
    loss="cross_entropy",
    reduction: str | None = None,
    normalization: str = "l2",
    seed: int = 0,
) -> Scores:
    """The mean over examples of |mean of a·∂L/∂a over positions|.

    Unlike in `taylor`, examples that a channel helps and examples that it harms do not cancel. The
    arguments are those of `taylor`.

    Source: Molchanov et al. 2017 (arXiv 1611.06440), the magnitude taken of each
    example.
    """
    found = measure(coupling, data, loss=loss, own="argmax", seed=seed)
    return found.scores(
        coupling, lambda one: one.absolute / np.maximum(one.count, 1), reduction, normalization
    )


def fisher(
    coupling: Coupling,
    data,
    *,
    loss="cross_entropy",
    reduction: str | None = None,
    normalization: str = "none",
    seed: int = 0,
) -> Scores:
    """Δ_c = 1/(2N)·Σ_n g_nc²: the second-order change of the loss, by the diagonal Fisher.

    The arguments are those of `taylor`; loss="self" is "sampled": classes drawn from the model's
    own prediction give its true Fisher information, those of the data the empirical one. The paper
    divides by cost: `prune(..., per="macs")`.

    Source: Theis et al. 2018 (arXiv 1801.05787).
    """
    found = measure(coupling, data, loss=loss, own="sampled", seed=seed)
    return found.scores(
        coupling, lambda one: one.squares / (2 * one.examples), reduction, normalization
    )


def measure(
    coupling: Coupling, data, *, loss="cross_entropy", own: str = "argmax", seed: int = 0
) -> Gates:
    """Runs the model over the data, forwards and backwards, and sums up the gradients of the gates.

    Args:
        coupling: the labelled model.
        data: inputs and labels, see `batches.labelled`.
        loss: see `losses.Loss.of`.
        own: what loss="self" is, "argmax" or "sampled".
        seed: of sampled classes.

    Raises:
        BadInput: the data is empty or does not suit the model and the loss; gradients overflow.
    """
    graph = coupling.graph
    chosen = Loss.of(graph, loss, own)
    readers = {
        site.call: (site.layer.path, site.source.channels)
        for site, rule in coupling.sites
        if rule.reads and rule.incoming(site, [np.zeros(0)]) is not None
    }
    step = tf.function(_step(coupling, chosen, readers), autograph=False, reduce_retracing=True)
    random, size, sums = np.random.default_rng(seed), _batch_size(coupling), None
    for inputs, labels in labelled(graph.model, data, "prune"):
        outputs = _output_shape(graph.model, inputs)
        if chosen.targets == "labels":
            given = chosen.check(labels, outputs)
        else:  # one number a label, drawn in the order of the examples
            given = random.random(outputs[:-1]).astype(np.float32)
        for start in range(0, len(inputs[0]), size):
            part = slice(start, start + size)
            found = step([one[part] for one in inputs], tf.constant(given[part]))
            sums = sums or _Sums(coupling, readers)
            sums.add([(g.numpy().astype(np.float64), int(n)) for g, n in found])
    if sums is None:
        raise BadInput("prune: the data is empty; give it at least one batch")
    return sums.gates()


def _step(coupling: Coupling, loss: Loss, readers):
    """A function from a batch to the gate gradients at each reader: ((n, channels), positions)."""
    output = coupling.graph.outputs[0]
    forward = Forward(coupling.graph, [output, *(call.outputs[0] for call in readers)])

    def step(inputs, given):
        seen = {}

        def entering(call, tensors):
            if call not in readers:
                return tensors
            seen[call] = tf.identity(tensors[0])  # what this layer reads, and no other
            tape.watch(seen[call])
            return [seen[call], *tensors[1:]]

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            losses = loss.per_example(forward(inputs, entering)[0], given, inputs[0])
        values = [seen[call] for call in readers]
        gradients = tape.gradient(losses, values, unconnected_gradients="zero")
        found = []
        for value, gradient, (_, channels) in zip(values, gradients, readers.values(), strict=True):
            others = [a for a in range(1, len(value.shape)) if a != channels.axis]
            product = tf.cast(value, tf.float32) * tf.cast(gradient, tf.float32)
            positions = tf.size(value) // (tf.shape(value)[0] * len(channels))
            found.append((-tf.reduce_sum(product, others), positions))
        return found

    return step


class _Sums:
    """Adds up gate gradients over batches, for all places together and for each.

    Args:
        coupling: the labelled model.
        readers: (layer, channels) of each call that reads.
    """

    def __init__(self, coupling: Coupling, readers):
        self.count, self.examples = coupling.classes.count, 0
        self.paths = [path for path, _ in readers.values()]
        self.classes = [coupling.classes_of(channels) for _, channels in readers.values()]
        self.together = np.zeros((4, self.count))
        self.places = [np.zeros((4, self.count)) for _ in self.paths]

    def add(self, found) -> None:
        """Adds a batch: for each reader its (n, channels) gradients and how many positions."""
        examples = len(found[0][0]) if found else 0
        joint, count = np.zeros((examples, self.count)), np.zeros(self.count)
        for (gradients, positions), classes, sums in zip(
            found, self.classes, self.places, strict=True
        ):
            order = np.argsort(classes, kind="stable")
            unique, first, times = np.unique(classes[order], return_index=True, return_counts=True)
            here = np.add.reduceat(gradients[:, order], first, axis=1)
            joint[:, unique] += here
            count[unique] += examples * positions * times
            sums[:, unique] += _sums(here, examples * positions * times)
        self.together += _sums(joint, count)
        self.examples += examples

    def gates(self) -> Gates:
        for path, sums in zip(self.paths, self.places, strict=True):
            if not np.isfinite(sums).all():
                raise BadInput(
                    f'prune: the gradients of what layer "{path}" reads are not finite on this data'
                )
        places = [Gates(*sums, self.examples) for sums in self.places]
        return Gates(*self.together, self.examples, tuple(zip(self.paths, places, strict=True)))


def _sums(gradients: np.ndarray, count: np.ndarray) -> np.ndarray:
    squares = np.square(gradients).sum(0)
    return np.stack([gradients.sum(0), np.abs(gradients).sum(0), squares, count])


def _output_shape(model, inputs) -> tuple[int, ...]:
    shape = (len(inputs[0]), *model.outputs[0].shape[1:])
    if None in shape:  # of a model that leaves its size open
        given = [tuple(one.shape) for one in inputs]
        shape = tuple(model.compute_output_shape(given if len(given) > 1 else given[0]))
    return shape


def _batch_size(coupling: Coupling) -> int:
    """How many examples' activations a backward pass may hold at once."""
    shapes = [shape[1:] for shape in coupling.graph.shapes if shape is not None]
    if any(None in shape for shape in shapes):
        return 16
    return max(1, FLOATS // max(1, sum(map(math.prod, shapes))))
