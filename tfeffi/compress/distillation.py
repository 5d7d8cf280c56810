"""Training a changed model to answer as the original does: images suffice, labels may help."""

import types
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfeffi.analysis.cost import cost
from tfeffi.compress import by_name
from tfeffi.compress.prune.batches import labelled
from tfeffi.compress.report import Change, Report
from tfeffi.errors import BadInput
from tfeffi.surgery.graph import read
from tfeffi.train import Settings, precision
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
    alpha: float = 1.0,
    freeze_statistics: bool = False,
    seed: int = 0,
) -> tuple[keras.Model, Report]:
    """Trains a model on another's class probabilities, in place of labels.

    The loss is α·T²·KL(teacher ‖ model), both softened by the temperature T, and (1 − α) times the
    cross entropy with the labels. SGD with Nesterov momentum, its rate falling to zero along a
    cosine. The teacher answers once for each image. Zeros and shared values of the model's kernels
    stay: it is a fine-tuning for `sparsify` and `cluster`, too.

    Args:
        model: what is trained, usually a compressed `teacher`; it is left as it is.
        teacher: a classifier of the same inputs and classes; logits or probabilities.
        data: training images: an array, `tfeffi.data.Images`, or a tf.data.Dataset of batches; all
            are kept in memory. Labels are looked at below an alpha of 1 only.
        epochs, batch_size: as ever; a last, smaller batch of an epoch is left out.
        learning_rate: the peak.
        temperature: above 1 the unlikely classes count more.
        alpha: from 0 to 1, the teacher's share of the loss.
        freeze_statistics: whether batch normalization keeps its moving statistics: for batches
            too small to have any of their own.
        seed: of the order of the images.

    Returns:
        The trained model in float32, and a report: "before" and "after" of its one change are the
        losses of the first and the last epoch.

    Raises:
        BadInput: outputs of other shapes, too few images, an alpha below 1 without labels, a number
            out of range, or a loss that is not finite.

    Example:
        small, _ = prune(model, Budget(macs=0.5), data=images)
        small, report = distill(small, model, images, epochs=5)

    Source: Hinton et al. 2015, arXiv 1503.02531, section 2.
    """
    check_numbers(epochs, batch_size, learning_rate, temperature, alpha)
    check_teacher(model, teacher)
    images, answers, labels = _answers(teacher, data, alpha < 1)
    if len(images) < batch_size:
        raise BadInput(f"distill: {len(images)} images do not fill a batch of {batch_size}")
    working = precision.fused(precision.recast(model, "float32"), Settings(fuse_activations=False))
    steps = len(images) // batch_size
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
    step = _step(working, optimizer, temperature, alpha, not freeze_statistics)
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order, total = random.permutation(len(images)), 0.0
        for start in range(0, steps * batch_size, batch_size):
            rows = order[start : start + batch_size]
            total += float(step(*(tf.constant(one[rows]) for one in (images, answers, labels))))
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
        "alpha": alpha,
        "images": len(images),
        "losses": losses,
    }
    made = precision.recast(working, "float32")
    return made, Report("distill", counted, counted, (change,), settings=settings)


def _answers(teacher: keras.Model, data: Any, needs_labels: bool) -> tuple[np.ndarray, ...]:
    """All images, the log-probabilities that the teacher gives them up to a constant, the labels."""
    probabilities, classes = gives_probabilities(teacher), teacher.output_shape[-1]
    answer = tf.function(lambda x: _scores(teacher(x, training=False), probabilities))
    images, answers, labels = [], [], []
    for (batch,), given in labelled(teacher, data, "distill"):
        images.append(batch.numpy())
        answers += [answer(batch[i : i + 64]).numpy() for i in range(0, len(batch), 64)]
        if needs_labels and given is None:
            raise BadInput("distill: alpha below 1 needs labels; give images with labels, or 1")
        found = np.asarray(given).reshape(-1) if needs_labels else np.zeros(len(batch))
        if needs_labels and (found.dtype.kind not in "iu" or not np.all(found == found % classes)):
            raise BadInput(f"distill: labels must be whole numbers from 0 to {classes - 1}")
        labels.append(found.astype(np.int64))
    if not images:
        raise BadInput("distill: the data is empty; give it at least one batch")
    return tuple(np.concatenate(one) for one in (images, answers, labels))


def _scores(outputs, probabilities: bool):
    outputs = tf.cast(outputs, tf.float32)
    return tf.math.log(tf.clip_by_value(outputs, 1e-7, 1.0)) if probabilities else outputs


def _step(model, optimizer, temperature: float, alpha: float, training: bool):
    probabilities = gives_probabilities(model)
    optimizer.build(model.trainable_variables)
    run = types.SimpleNamespace(model=model, methods=(), settings=Settings())  # SGD, as here
    held = by_name.holding(None, model)
    for method in held:
        method.on_model(run)

    @tf.function
    def step(images, wanted, labels):
        wanted = tf.nn.log_softmax(wanted / temperature)
        with tf.GradientTape() as tape:
            scores = _scores(model(images, training=training), probabilities)
            given = tf.nn.log_softmax(scores / temperature)
            each = (
                alpha * temperature**2 * tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=-1)
            )
            if alpha < 1:
                each += (1 - alpha) * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
            loss = tf.reduce_mean(each)
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        for method in held:
            gradients = method.on_gradients(run, gradients)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step


def check_numbers(
    epochs: int = 3,
    batch_size: int = 64,
    learning_rate: float = 0.01,
    temperature: float = 1.0,
    alpha: float = 1.0,
    who: str = "distill",
) -> None:
    """Raises BadInput, beginning with `who`, for a number that `distill` or `taught` does not take."""
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadInput(f"{who}: {name}={value!r}; give a whole number from 1 on")
    numbers = {"learning_rate": learning_rate, "temperature": temperature, "alpha": alpha}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadInput(f"{who}: {name}={value!r}; give a number")
        if name != "alpha" and not (np.isfinite(value) and value > 0):
            raise BadInput(f"{who}: {name}={value!r}; give a number above 0")
    if not 0 <= alpha <= 1:
        raise BadInput(f"{who}: alpha={alpha!r}; give the teacher's share of the loss, from 0 to 1")


def check_teacher(model: keras.Model, teacher: keras.Model) -> None:
    """Raises BadInput unless both classify the same images into as many classes."""
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
