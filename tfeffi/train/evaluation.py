"""Loss and accuracy of a Keras model over images."""

import keras
import tensorflow as tf

from tfeffi.data import Images, pipeline
from tfeffi.train import losses


class Evaluator:
    """Evaluates one model again and again without tracing it again.

    Args:
        model: a built model of images.
        loss: `"cross_entropy"` or `"reconstruction"`.
    """

    def __init__(self, model: keras.Model, loss: str = "cross_entropy"):
        self.model, self.loss = model, loss
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
        outputs = self.model(images, training=False)
        loss = losses.per_example(
            self.loss, outputs, images, labels, probabilities=self._probabilities
        )
        return tf.reduce_sum(loss), count_correct(self.loss, outputs, labels)


def count_correct(loss: str, outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """How many of the batch are classified rightly (0 for a reconstruction); int64."""
    if loss != "cross_entropy":
        return tf.constant(0, tf.int64)
    hits = tf.argmax(outputs, -1, output_type=labels.dtype) == labels
    return tf.reduce_sum(tf.cast(hits, tf.int64))


def evaluate(model: keras.Model, data: Images, loss: str = "cross_entropy") -> dict[str, float]:
    """Loss and accuracy of `model` over `data`.

    Example:
        evaluate(model, tfeffi.data.load("fashion_mini", "test"))["accuracy"]
    """
    return Evaluator(model, loss)(data)
