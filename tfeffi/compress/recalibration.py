"""New statistics for batch normalization: what a changed model's layers see is no longer what was
averaged over in training. Images suffice for it; labels and gradients are not needed.
"""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfeffi import derived
from tfeffi.analysis.cost import cost
from tfeffi.compress.prune.activity import batches
from tfeffi.compress.report import Change, Report
from tfeffi.errors import BadInput
from tfeffi.surgery.graph import read


class _Estimating(keras.layers.BatchNormalization):
    """Normalizes by the batch always, and averages what it saw, each example counting alike."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=True, mask=mask)


def recalibrate(
    model: keras.Model, data: Any, *, input_shape: Any = None
) -> tuple[keras.Model, Report]:
    """Measures the moving means and variances of all batch normalizations anew, in nested models too.

    Each layer normalizes by the batch while it is measured, so that what follows sees what it would
    see with the new statistics. All else, dropout too, works as in inference.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        data: unlabelled training images: a tf.data.Dataset of batches, an array, or
            `tfeffi.data.Images`. Batches should be of 16 images or more, and shuffled; a last,
            smaller one counts for as much less.
        input_shape: the shape of one example, if the model leaves it open.

    Returns:
        The model with new statistics, and a report: its "before" and "after" are the mean moving
        variance of each layer.

    Raises:
        BadInput: there is no batch normalization, or no data; a subclassed or unbuilt model.

    Example:
        small, _ = prune(model, Budget(macs=0.5), importance="l2")
        small, report = recalibrate(small, images)

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1; for pruned networks Li et al. 2020,
    EagleEye, arXiv 2007.02491, section 3.3.
    """
    read(model)
    estimator = keras.models.clone_model(model, clone_function=_estimating, recursive=True)
    estimator.set_weights(model.get_weights())
    derived.renew(estimator)
    layers = [layer for layer in _all_layers(estimator) if isinstance(layer, _Estimating)]
    if not layers:
        raise BadInput(f'recalibrate: model "{model.name}" has no batch normalization')
    _estimate(estimator, layers, batches(model, data, "recalibrate"))
    made = keras.models.clone_model(model)
    made.set_weights(estimator.get_weights())
    derived.renew(made)
    old = {layer.name: layer for layer in _all_layers(model)}
    changed = tuple(
        Change(layer.name, f"variance {_variance(old[layer.name]):.3g}", f"{_variance(layer):.3g}")
        for layer in layers
    )
    counted = cost(model, input_shape)
    return made, Report("recalibrate", counted, counted, changed)


def _estimate(estimator: keras.Model, layers: list[keras.Layer], data) -> None:
    momentum = tf.Variable(0.0)
    for layer in layers:
        layer.momentum = momentum  # a variable: one trace serves all batches
    signature = [tf.TensorSpec((None, *i.shape[1:]), i.dtype) for i in estimator.inputs]

    @tf.function(input_signature=[signature])
    def look(inputs):
        return estimator(inputs if len(inputs) > 1 else inputs[0], training=False)

    seen = 0
    for inputs in data:
        count = len(inputs[0])
        momentum.assign(seen / (seen + count))
        look(inputs)
        seen += count
    if not seen:
        raise BadInput("recalibrate: the data is empty; give it at least one batch")
    for layer in layers:
        if not math.isfinite(_variance(layer)):
            raise BadInput(
                f'recalibrate: the input of "{layer.name}" is not finite on this data; look at the '
                "data's range and the model's weights"
            )


def _estimating(layer: keras.Layer) -> keras.Layer:
    if isinstance(layer, keras.layers.BatchNormalization):
        config = layer.get_config()
        return _Estimating.from_config({**config, "trainable": True})
    return type(layer).from_config(layer.get_config())


def _all_layers(model: keras.Model) -> list[keras.Layer]:
    found = []
    for layer in model.layers:
        found += _all_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _variance(layer: keras.Layer) -> float:
    return float(np.mean(keras.ops.convert_to_numpy(layer.moving_variance)))
