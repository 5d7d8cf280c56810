"""Training a changed model to answer as the original does: images suffice, labels are not needed."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfeffi import layers
from tfeffi.analysis.cost import cost
from tfeffi.compress.prune.activity import batches
from tfeffi.compress.report import Change, Report
from tfeffi.errors import BadInput
from tfeffi.surgery.graph import read
from tfeffi.train import precision
from tfeffi.train.losses import gives_probabilities


def distill(
    model: keras.Model,
    teacher: keras.Model,
    data: Any,
    *,
    epochs: int = 3,
    batch_size: int = 64,
    learning_rate: float = 0.01,
    temperature: float = 1.0,
    freeze_statistics: bool = False,
    seed: int = 0,
) -> tuple[keras.Model, Report]:
    """Trains a model on another's class probabilities, in place of labels.

    The loss is T²·KL(teacher ‖ model), both softened by the temperature T. SGD with Nesterov
    momentum, its rate falling to zero along a cosine. The teacher answers once for each image.

    Args:
        model: what is trained, usually a compressed `teacher`; it is left as it is.
        teacher: a classifier of the same inputs and classes; logits or probabilities.
        data: unlabelled training images: an array, `tfeffi.data.Images`, or a tf.data.Dataset of
            batches; all are kept in memory.
        epochs, batch_size: as ever; a last, smaller batch of an epoch is left out.
        learning_rate: the peak.
        temperature: above 1 the unlikely classes count more.
        freeze_statistics: whether batch normalization keeps its moving statistics: for batches
            too small to have any of their own.
        seed: of the order of the images.

    Returns:
        The trained model in float32, and a report: "before" and "after" of its one change are the
        losses of the first and the last epoch.

    Raises:
        BadInput: outputs of other shapes, too few images, a number out of range, or a loss that is
            not finite.

    Example:
        small, _ = prune(model, Budget(macs=0.5), data=images)
        small, report = distill(small, model, images, epochs=5)

    Source: Hinton et al. 2015, arXiv 1503.02531, section 2.
    """
    _check(model, teacher, epochs, batch_size, learning_rate, temperature)
    images, answers = _answers(teacher, data)
    if len(images) < batch_size:
        raise BadInput(f"distill: {len(images)} images do not fill a batch of {batch_size}")
    working = layers.fuse_batch_normalization(precision.recast(model, "float32"))
    steps = len(images) // batch_size
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
    step = _step(working, optimizer, temperature, not freeze_statistics)
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order, total = random.permutation(len(images)), 0.0
        for start in range(0, steps * batch_size, batch_size):
            rows = order[start : start + batch_size]
            total += float(step(tf.constant(images[rows]), tf.constant(answers[rows])))
        losses.append(total / steps)
        if not np.isfinite(losses[-1]):
            raise BadInput(
                f"distill: the loss is not finite, learning_rate={learning_rate}; lower it"
            )
    counted = cost(model)
    change = Change("loss", f"{losses[0]:.4g}", f"{losses[-1]:.4g}")
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "temperature": temperature,
        "images": len(images),
        "losses": losses,
    }
    made = precision.recast(working, "float32")
    return made, Report("distill", counted, counted, (change,), settings=settings)


def _answers(teacher: keras.Model, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """All images, and the log-probabilities that the teacher gives them up to a constant."""
    probabilities = gives_probabilities(teacher)
    answer = tf.function(lambda x: _scores(teacher(x, training=False), probabilities))
    images, answers = [], []
    for (batch,) in batches(teacher, data, "distill"):
        images.append(batch.numpy())
        answers += [answer(batch[i : i + 64]).numpy() for i in range(0, len(batch), 64)]
    if not images:
        raise BadInput("distill: the data is empty; give it at least one batch")
    return np.concatenate(images), np.concatenate(answers)


def _scores(outputs, probabilities: bool):
    outputs = tf.cast(outputs, tf.float32)
    return tf.math.log(tf.clip_by_value(outputs, 1e-7, 1.0)) if probabilities else outputs


def _step(model, optimizer, temperature: float, training: bool):
    probabilities = gives_probabilities(model)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(images, wanted):
        wanted = tf.nn.log_softmax(wanted / temperature)
        with tf.GradientTape() as tape:
            scores = _scores(model(images, training=training), probabilities)
            given = tf.nn.log_softmax(scores / temperature)
            each = tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=-1)
            loss = temperature**2 * tf.reduce_mean(each)
        variables = [v.value for v in model.trainable_variables]
        optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)
        return loss

    return step


def _check(model, teacher, epochs, batch_size, learning_rate, temperature) -> None:
    graphs = [read(one).model for one in (model, teacher)]
    shapes = [(one.input_shape, one.output_shape) for one in graphs]
    if any(len(one.inputs) != 1 for one in graphs):
        raise BadInput("distill: a model of several inputs; it trains classifiers of one")
    output = shapes[0][1]
    if shapes[0] != shapes[1] or not isinstance(output, tuple) or len(output) != 2 or output[1] < 2:
        raise BadInput(
            f"distill: the model maps {shapes[0][0]} to {shapes[0][1]}, the teacher {shapes[1][0]} "
            f"to {shapes[1][1]}; both must be classifiers of the same images and classes"
        )
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadInput(f"distill: {name}={value!r}; give a whole number from 1 on")
    for name, value in (("learning_rate", learning_rate), ("temperature", temperature)):
        if not (np.isfinite(value) and value > 0):
            raise BadInput(f"distill: {name}={value!r}; give a number above 0")
