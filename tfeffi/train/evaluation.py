"""Loss and accuracy of a Keras model over images."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfeffi.data import Images, pipeline
from tfeffi.train import losses


def seen(images: Any, views: str = "one") -> list[Any]:
    """Several views of the same images.

    Args:
        images: (n, h, w, c); a tensor, or the input of a functional model that is being built.
        views: "one"; "flip": as they are and mirrored; "flip_and_move": these two, and both of them
            moved by a pixel up and left, and down and right, the edge reflected (Jordan 2024, arXiv
            2404.00498, section 3.5).
    """
    if views == "one":
        return [images]
    if views == "flip":
        return [images, images[:, :, ::-1]]
    padded = keras.ops.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "reflect")
    return [
        one for i in (images, padded[:, :-2, :-2], padded[:, 2:, 2:]) for one in (i, i[:, :, ::-1])
    ]


def average(outputs: Any) -> Any:
    """The mean of what was said to the views of `seen`; those that were moved have half the weight.

    Args:
        outputs: (views, n, classes).
    """
    if outputs.shape[0] <= 2:
        return keras.ops.mean(outputs, axis=0)
    unmoved, moved = (
        keras.ops.mean(outputs[:2, ...], axis=0),
        keras.ops.mean(outputs[2:, ...], axis=0),
    )
    return (unmoved + moved) / 2


def averaged(call: Callable, images: tf.Tensor, views: str = "one") -> tf.Tensor:
    """The outputs averaged over several views of the same images.

    Args:
        call: images (n, h, w, c) to outputs.
        images: as they are.
        views: see `seen`.
    """
    if views == "one":
        return call(images)
    return average(tf.stack([call(one) for one in seen(images, views)]))


class Evaluator:
    """Evaluates one model again and again without tracing it again.

    Args:
        model: a built model of images.
        loss: `"cross_entropy"` or `"reconstruction"`.
        views: of each image, see `averaged`.
    """

    def __init__(self, model: keras.Model, loss: str = "cross_entropy", views: str = "one"):
        self.model, self.loss, self.views = model, loss, views
        self._probabilities = losses.gives_probabilities(model)
        self._batch = tf.function(self._evaluate_batch, reduce_retracing=True)

    def __call__(self, data: Images, batch_size: int = 500) -> dict[str, float]:
        """`{"loss": mean, "accuracy": fraction}`; a reconstruction has no accuracy."""
        loss, correct = 0.0, 0
        for images, labels in pipeline(data, min(batch_size, len(data))):
            batch_loss, batch_correct = self._batch(images, labels)
            loss, correct = loss + float(batch_loss), correct + int(batch_correct)
        measured = {"loss": loss / len(data)}
        if self.loss == "cross_entropy":
            measured["accuracy"] = correct / len(data)
        return measured

    def _evaluate_batch(self, images, labels):
        outputs = averaged(lambda x: self.model(x, training=False), images, self.views)
        loss = losses.per_example(
            self.loss, outputs, images, labels, probabilities=self._probabilities
        )
        return tf.reduce_sum(loss), count_correct(self.loss, outputs, labels)


def count_correct(loss: str, outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """How many of the batch are classified rightly (0 for a reconstruction); int64.

    Where labels are probabilities (n, classes), the likeliest class is the right one.
    """
    if loss != "cross_entropy":
        return tf.constant(0, tf.int64)
    if len(labels.shape) == 2:
        labels = tf.argmax(labels, -1)
    hits = tf.argmax(outputs, -1, output_type=labels.dtype) == labels
    return tf.reduce_sum(tf.cast(hits, tf.int64))


def evaluate(
    model: keras.Model, data: Images, loss: str = "cross_entropy", views: str = "one"
) -> dict[str, float]:
    """Loss and accuracy of `model` over `data`, each image seen in one or several `views`.

    Example:
        evaluate(model, tfeffi.data.load("fashion_mini", "test"))["accuracy"]
    """
    return Evaluator(model, loss, views)(data)


def score(
    model: keras.Model, data: Images, loss: str = "cross_entropy", views: str = "one"
) -> dict[str, float]:
    """`evaluate`, and beside the accuracy of several views that of one as `accuracy_one_view`."""
    found = evaluate(model, data, loss, views)
    if views != "one":
        found["accuracy_one_view"] = evaluate(model, data, loss)["accuracy"]
    return found
