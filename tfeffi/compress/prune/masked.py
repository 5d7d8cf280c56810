"""Scores of a model with some channels masked: compiled once, whatever is masked."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfeffi.compress.prune.batches import labelled
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling
from tfeffi.surgery.forward import Forward


class Masked:
    """The score of a model whose dropped channels are zero where they are read.

    Args:
        coupling: the labelled model.
        data: inputs, and labels for "accuracy", see `batches.labelled`.
        score: "fidelity", "agreement" or "accuracy".

    Raises:
        BadInput: empty data, missing labels, a model that is no classifier for the last two.

    Example:
        score = Masked(coupling, images, "agreement")
        score(kept)     # kept: (classes,) bool
    """

    def __init__(self, coupling: Coupling, data, score: str):
        self._reads = {
            id(site.call): (site.source.channels.axis, coupling.classes_of(site.source.channels))
            for site, rule in coupling.sites
            if rule.reads and rule.incoming(site, [np.zeros(0)]) is not None
        }
        model = coupling.graph.model
        forward = Forward(coupling.graph, coupling.graph.outputs)
        signature = [tf.TensorSpec((None, *i.shape[1:]), i.dtype) for i in model.inputs]

        @tf.function(
            input_signature=[signature, tf.TensorSpec((None,), tf.float32)], autograph=False
        )
        def outputs(inputs, mask):
            return forward(inputs, lambda call, given: self._masked(call, given, mask))

        self._outputs, self._compare = outputs, SCORES[score]
        self._batches = [(x, y) for x, y in labelled(model, data, "prune")]
        if not self._batches:
            raise BadInput("prune: the data is empty; give it at least one batch")
        whole = np.ones(coupling.classes.count, np.float32)
        self._own = self._run(whole)
        if score != "fidelity" and (self._own[0].ndim != 2 or self._own[0].shape[1] < 2):
            raise BadInput(f'prune: "{score}" is of classifiers; "fidelity" is of any model')
        self._labels = None
        if score == "accuracy":
            if any(y is None for _, y in self._batches):
                raise BadInput('prune: "accuracy" needs labels; "agreement" needs none')
            labels = np.concatenate([np.asarray(y) for _, y in self._batches])
            self._labels = labels.argmax(-1) if labels.ndim == 2 and labels.shape[1] > 1 else labels

    def __call__(self, kept: np.ndarray) -> float:
        """The score of what is kept, (classes,) bool."""
        found = self._run(kept.astype(np.float32))
        return float(self._compare(self._own, found, self._labels))

    def _run(self, mask: np.ndarray) -> list[np.ndarray]:
        """The outputs on all data, one array each."""
        parts = [self._outputs(inputs, mask) for inputs, _ in self._batches]
        return [np.concatenate([np.asarray(p) for p in one]) for one in zip(*parts, strict=True)]

    def _masked(self, call, given: list, mask) -> list:
        if id(call) not in self._reads:
            return given
        axis, classes = self._reads[id(call)]
        shape = [1] * len(given[0].shape)
        shape[axis] = len(classes)
        factors = tf.reshape(tf.gather(mask, classes), shape)
        return [given[0] * tf.cast(factors, given[0].dtype), *given[1:]]


def fidelity(own: list[np.ndarray], found: list[np.ndarray], _) -> float:
    """1 − Σ(y − ŷ)²/Σ(y − mean y)², over all outputs: 1 for the same, 0 for a constant."""
    error = sum(np.square(a.astype(np.float64) - b).sum() for a, b in zip(own, found, strict=True))
    spread = sum(np.square(a.astype(np.float64) - a.mean(0, np.float64)).sum() for a in own)
    return 1.0 - error / max(spread, 1e-30)


def agreement(own: list[np.ndarray], found: list[np.ndarray], _) -> float:
    """How often the likeliest class is the same."""
    return float(np.mean(own[0].argmax(1) == found[0].argmax(1)))


def accuracy(_, found: list[np.ndarray], labels: np.ndarray) -> float:
    """How often the likeliest class is the label's."""
    return float(np.mean(found[0].argmax(1) == np.ravel(labels)))


SCORES: dict[str, Callable] = {
    "fidelity": fidelity,
    "agreement": agreement,
    "accuracy": accuracy,
}
