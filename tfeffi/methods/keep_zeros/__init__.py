"""Holds the zeros of a sparse model's kernels at zero while it is fine-tuned.

After `tfeffi.compress.sparsify`: a weight that is zero when training begins gets no gradient, so that
momentum, Adam's moments and decay of it are zero, and is set to zero after each step, as an optimizer may
mix the weights of a kernel (Muon). No step gets faster.

Source: Han et al. 2015, arXiv 1506.02626, section 3.
"""

import warnings
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfeffi.errors import BadInput
from tfeffi.methods.method import CHANGE_CHANNELS, Method, NoEffectWarning, places


def masked(values: Sequence, masks: Sequence[np.ndarray | None]) -> list:
    """Gradients or weights, zero where the mask is false.

    Args:
        values: tensors.
        masks: for each a boolean array of its shape, or None to leave it as it is.

    Raises:
        BadInput: a mask of another shape: the model was changed during training.
    """
    found = []
    for value, mask in zip(values, masks, strict=True):
        if mask is not None and tuple(value.shape) != mask.shape:
            raise BadInput(
                f"keep_zeros: a kernel is {tuple(value.shape)} now and was {mask.shape} at the "
                "start; leave out the method that changes the model's channels"
            )
        found.append(value if mask is None else value * keras.ops.cast(mask, value.dtype))
    return found


class KeepZeros(Method):
    """`masked`, with the masks of the kernels as they are when training begins."""

    def on_model(self, run) -> None:
        self.masks = {}  # by the variable's place
        for place, variable in zip(places(run.model), run.model.trainable_variables, strict=True):
            values = keras.ops.convert_to_numpy(variable)
            if variable.name.endswith("kernel") and not values.all():
                self.masks[place] = values != 0
        if not self.masks:
            warnings.warn(
                "keep_zeros: no kernel has a zero; sparsify the model first",
                NoEffectWarning,
                stacklevel=2,
            )

    def on_gradients(self, run, gradients: list) -> list:
        return masked(gradients, self._masks(run))

    def after_step(self, run) -> None:
        for variable, mask in zip(run.model.trainable_variables, self._masks(run), strict=True):
            if mask is not None:
                variable.assign(*masked([tf.convert_to_tensor(variable)], [mask]))

    def _masks(self, run) -> list[np.ndarray | None]:
        """Of the trainable variables: a method behind this one may have frozen some."""
        return [self.masks.get(place) for place in places(run.model)]

    def excludes(self) -> dict[str, str]:
        return dict.fromkeys(CHANGE_CHANNELS, "the zeros' places move when channels come or go")


def build() -> KeepZeros:
    """The method; it has no settings."""
    return KeepZeros()
