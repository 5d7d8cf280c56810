"""What is minimised: the loss of the outputs, and the penalty on the weights. All in float32."""

import keras
import tensorflow as tf

from tfeffi.errors import BadInput
from tfeffi.train.precision import makers_of

_RESHAPING = (
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.Reshape,
)


def gives_probabilities(model: keras.Model) -> bool:
    """Whether the model ends in a softmax (or sigmoid), so that its outputs are not logits."""
    makers = makers_of(model)
    layer = makers.get(id(model.outputs[0]), model.layers[-1])
    while isinstance(layer, _RESHAPING) and id(layer.input) in makers:
        layer = makers[id(layer.input)]
    if isinstance(layer, keras.Model):
        return gives_probabilities(layer)
    activation = layer.get_config().get("activation", type(layer).__name__.lower())
    return activation in ("softmax", "sigmoid")


def per_example(loss: str, outputs, images, labels, label_smoothing=0.0, probabilities=False):
    """The loss of each example.

    Args:
        loss: `"cross_entropy"` or `"reconstruction"`.
        outputs: (n, classes) logits or probabilities, or (n, h, w, c) reconstructed images.
        images, labels: the batch; labels are integers (n,), or probabilities (n, classes), of
            which it is the cross entropy, and no smoothing of them.
        label_smoothing: s: targets are (1 − s)·onehot + s/classes (Szegedy et al. 2016, §7).
        probabilities: whether `outputs` went through a softmax already.

    Returns:
        float32 of shape (n,).
    """
    outputs = tf.cast(outputs, tf.float32)
    if loss == "reconstruction":
        return tf.reduce_mean(tf.square(outputs - images), axis=[1, 2, 3])
    if probabilities:
        outputs = tf.math.log(tf.clip_by_value(outputs, 1e-7, 1.0))
    if len(labels.shape) == 2:
        return tf.nn.softmax_cross_entropy_with_logits(labels, outputs)
    if not label_smoothing:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs)
    classes = outputs.shape[-1]
    targets = tf.one_hot(labels, classes) * (1.0 - label_smoothing) + label_smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(targets, outputs)


def penalty(model: keras.Model, l1: float = 0.0, l2: float = 0.0):
    """l1·Σ|w| + l2·Σw² over the trainable kernels (rank 2 or more), a float32 scalar."""
    kernels = [v.value for v in model.trainable_variables if len(v.shape) >= 2]
    terms = [l2 * 2.0 * tf.nn.l2_loss(w) for w in kernels if l2]
    terms += [l1 * tf.reduce_sum(tf.abs(w)) for w in kernels if l1]
    terms += [tf.cast(x, tf.float32) for x in model.losses]  # the layers' own regularizers
    return tf.add_n(terms) if terms else tf.constant(0.0)


def check_outputs(model: keras.Model, loss: str, image_shape: tuple, num_classes: int) -> None:
    """Raises BadInput unless the model takes these images and its output suits the loss."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise BadInput(
            f'fit: model "{model.name}" has {len(model.inputs)} inputs and {len(model.outputs)} '
            "outputs; the loop trains models with one of each"
        )
    wanted = tuple(model.inputs[0].shape[1:])
    if len(wanted) != 3 or any(
        w not in (None, g) for w, g in zip(wanted, image_shape, strict=True)
    ):
        raise BadInput(
            f'fit: model "{model.name}" takes images of shape {wanted}, the data has {image_shape}'
        )
    output = tuple(model.outputs[0].shape[1:])
    if loss == "cross_entropy" and output != (num_classes,):
        raise BadInput(
            f'fit: model "{model.name}" gives outputs of shape {output}, the data has '
            f"{num_classes} classes; build it with num_classes={num_classes}"
        )
    if loss == "reconstruction" and any(
        o not in (None, g) for o, g in zip(output, image_shape, strict=False)
    ):
        raise BadInput(f"fit: reconstruction needs outputs of shape {image_shape}, got {output}")
