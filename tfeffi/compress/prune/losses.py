"""The loss that gradient importances differentiate: one number for each example.

Cross-entropy reads the model's head: a softmax gives probabilities, a layer without activation gives
logits, one sigmoid unit gives the probability of the second of two classes. Where there are no
labels, the model's own predictions can stand for them.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfeffi.errors import BadInput, near
from tfeffi.surgery.graph import Graph

NAMES = ("cross_entropy", "self", "argmax", "sampled", "reconstruction")

_PASSING = ("Identity", "Reshape", "Flatten", "Dropout", "ops.Reshape", "ops.Squeeze", "ops.Cast")
_AVERAGING = tuple(f"{scope}AveragePooling{n}D" for scope in ("", "Global") for n in (1, 2, 3))
_LEAST = 1e-30  # a probability that underflows still has a logarithm


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """What is differentiated.

    Attributes:
        targets: where they come from: "labels", "argmax", "sampled" or "inputs".
        head: "logits", "probabilities", "binary", or None where the function takes outputs as
            they are.
        function: `(targets, outputs) -> (n,)` losses; None for cross-entropy.
    """

    targets: str
    head: str | None = None
    function: Callable | None = None

    @classmethod
    def of(cls, graph: Graph, loss, own: str) -> "Loss":
        """Reads an argument `loss`.

        Args:
            graph: the model.
            loss: "cross_entropy" against labels; "argmax" or "sampled": cross-entropy against the
                class that the model thinks likeliest, or against classes drawn from its prediction;
                "self": one of the two, as the importance needs; "reconstruction": mean squared
                difference of output and input; or a function `(labels, outputs) -> (n,)`, such as
                `keras.losses.sparse_categorical_crossentropy`.
            own: what "self" is.

        Raises:
            BadInput: an unknown name; a model of several outputs; cross-entropy of a head that
                gives neither logits nor probabilities.
        """
        if not callable(loss) and loss not in NAMES:
            raise BadInput(f'prune: no loss "{loss}"; {near(loss, NAMES)}, or give a function')
        if len(graph.outputs) != 1:
            raise BadInput(
                f"prune: the model has {len(graph.outputs)} outputs, and importances by gradient "
                'take one; "l2" or "activations" take any'
            )
        if callable(loss):
            return cls("labels", function=loss)
        if loss == "reconstruction":
            return cls("inputs", function=_squared_difference)
        targets = {"cross_entropy": "labels", "self": own}.get(loss, loss)
        return cls(targets, head=head(graph))

    def check(self, labels, outputs) -> np.ndarray:
        """Labels as the loss takes them.

        Args:
            labels: of a batch, or None if the data has none.
            outputs: (n, ..., classes) the shape of the model's outputs for this batch.

        Returns:
            For cross-entropy int64 (n, ...), or float32 (n, ..., classes) if they are one-hot or
            shares; for a function the labels as they are.

        Raises:
            BadInput: no labels, or labels that do not fit the outputs.
        """
        if labels is None:
            raise BadInput(
                "prune: this importance needs labels; give data of (inputs, labels) batches or "
                'tfeffi.data.Images, or loss="self", which takes the model\'s own predictions'
            )
        labels = np.asarray(labels)
        if self.function is not None:
            return labels
        classes = 2 if self.head == "binary" else outputs[-1]
        if labels.shape == tuple(outputs) and classes > 1 and self.head != "binary":
            return labels.astype(np.float32)
        if labels.shape == (*outputs[:-1], 1):
            labels = labels[..., 0]
        if labels.shape != tuple(outputs[:-1]):
            raise BadInput(
                f"prune: labels of shape {labels.shape} do not fit outputs of shape {outputs}; "
                "give a whole number or one-hot classes for each example"
            )
        wrong = (labels != np.rint(labels)) | (labels < 0) | (labels >= classes)
        if wrong.any():
            raise BadInput(
                f"prune: label {labels[wrong][0]} is not one of the {classes} classes "
                f"0 … {classes - 1} of the model's output"
            )
        return labels.astype(np.int64)

    def per_example(self, outputs: tf.Tensor, given: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
        """The loss of each example, (n,) float32.

        Args:
            outputs: of the model.
            given: checked labels; for sampled targets uniform numbers in [0, 1), one a label.
            inputs: of the model, the first of them.
        """
        outputs = tf.cast(outputs, tf.float32)
        if self.function is not None:
            found = self.function(inputs if self.targets == "inputs" else given, outputs)
            if found.shape.rank != 1:
                raise BadInput(
                    f"prune: the loss must give one number for each example, shape (n,), not "
                    f"{found.shape}; a keras.losses.Loss does with reduction=None"
                )
            return tf.cast(found, tf.float32)
        logs = self._log_probabilities(outputs)
        targets = self._targets(logs, given)
        if targets.dtype.is_integer:
            targets = tf.one_hot(targets, logs.shape[-1])
        losses = -tf.reduce_sum(targets * logs, -1)
        return tf.reduce_mean(tf.reshape(losses, (tf.shape(losses)[0], -1)), 1)

    def _log_probabilities(self, outputs):
        if self.head == "logits":
            return tf.nn.log_softmax(outputs)
        if self.head == "binary":
            outputs = tf.concat([1 - outputs, outputs], -1)
        return tf.math.log(tf.maximum(outputs, _LEAST))

    def _targets(self, logs, given):
        if self.targets == "argmax":
            return tf.argmax(logs, -1)
        if self.targets == "sampled":
            below = tf.cumsum(tf.stop_gradient(tf.exp(logs)), axis=-1) < given[..., None]
            drawn = tf.reduce_sum(tf.cast(below, tf.int64), -1)
            return tf.minimum(
                drawn, logs.shape[-1] - 1
            )  # the sum of float32 shares may stay below 1
        return given


def head(graph: Graph) -> str:
    """What the one output of a classifier is: "logits", "probabilities" or "binary".

    Raises:
        BadInput: none of these, as far as its layers tell.
    """
    makers = {tensor: call for call in graph.calls for tensor in call.outputs}
    call = last = makers[graph.outputs[0]]
    classes = (graph.shapes[graph.outputs[0]] or (None,))[-1]
    while call.inputs and (
        call.layer.kind in (*_PASSING, *_AVERAGING, "InputLayer") or _is_linear_activation(call)
    ):
        call = makers[call.inputs[0]]
    kind, config = call.layer.kind, call.layer.config
    activation = _activation(call)
    if config.get("data_format") != "channels_first" or len(graph.shapes[graph.outputs[0]]) == 2:
        if activation == "softmax" and config.get("axis", -1) in (-1, [-1]) and classes != 1:
            return "probabilities"
        if activation == "linear" and kind != "Activation" and classes != 1:
            return "logits"
        if activation == "sigmoid" and classes == 1:
            return "binary"
    raise BadInput(
        f"prune: cross-entropy needs logits or probabilities, and the output of {last.layer} with "
        f"{classes} values and activation {activation} may be neither; give loss=function, a "
        "function (labels, outputs) -> (n,) losses"
    )


def _activation(call) -> str | None:
    kind = call.layer.kind
    if kind in ("Softmax", "ops.Softmax", "Sigmoid", "ops.Sigmoid"):
        return kind.removeprefix("ops.").lower()
    found = call.layer.config.get("activation", "none")
    if isinstance(found, dict):
        found = found.get("config") if found.get("class_name") == "function" else "of its own"
    return found or "linear"


def _is_linear_activation(call) -> bool:
    return call.layer.kind == "Activation" and _activation(call) == "linear"


def _squared_difference(inputs, outputs):
    """The mean squared difference of each example."""
    if inputs.shape.rank != outputs.shape.rank or inputs.shape[1:] != outputs.shape[1:]:
        raise BadInput(
            f"prune: reconstruction compares outputs of shape {outputs.shape} with inputs of shape "
            f"{inputs.shape}; give a model whose output is like its input, or another loss"
        )
    difference = tf.square(outputs - tf.cast(inputs, tf.float32))
    return tf.reduce_mean(difference, list(range(1, outputs.shape.rank)))
