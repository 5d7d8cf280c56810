"""Keras optimizers by name, with decoupled weight decay kept off biases and normalization."""

from collections.abc import Mapping
from typing import Any

import keras

from tfeffi.errors import BadInput, near
from tfeffi.train.muon import ConvolutionMuon

OPTIMIZERS = {
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "convolution_muon": ConvolutionMuon,
}

# the schedule and what methods do at a step count every batch; averages and scales are the loop's own
UNSUPPORTED = ("gradient_accumulation_steps", "use_ema", "loss_scale_factor")


def build(
    settings: Mapping[str, Any], schedule: keras.optimizers.schedules.LearningRateSchedule,
    model: keras.Model,
) -> keras.optimizers.Optimizer:  # fmt: skip
    """Builds and binds the optimizer of `{"name": "sgd", "momentum": 0.9, ...}`.

    Args:
        settings: the name and Keras's own arguments for that class.
        schedule: the learning rate.
        model: the built model whose trainable variables get slots.

    Raises:
        BadInput: an unknown name or argument, or one of `UNSUPPORTED`.
    """
    rest = dict(settings)
    name = rest.pop("name", None)
    if name not in OPTIMIZERS:
        raise BadInput(f'optimizer "{name}" is not known; {near(str(name), OPTIMIZERS)}')
    for key in UNSUPPORTED:
        if rest.get(key):
            raise BadInput(f"optimizer {name}: {key} is not done by this loop; leave it out")
    try:
        optimizer = OPTIMIZERS[name](learning_rate=schedule, **rest)
    except (TypeError, ValueError) as error:
        raise BadInput(f"optimizer {name}: {error}") from error
    if optimizer.weight_decay:
        undecayed = [v for v in model.trainable_variables if len(v.shape) < 2]
        if undecayed:
            optimizer.exclude_from_weight_decay(var_list=undecayed)
    optimizer.build(model.trainable_variables)
    return optimizer
