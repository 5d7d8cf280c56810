"""Holds the zeros of a sparse model's kernels at zero while it is fine-tuned.

After `tfeffi.compress.sparsify`: a weight that is zero when training begins gets no gradient, so that no
optimizer moves it (momentum, Adam's moments and decay of a zero are zero). No step gets faster.

Source: Han et al. 2015, arXiv 1506.02626, section 3.
"""

import warnings
from collections.abc import Sequence

import keras
import numpy as np

from tfeffi.errors import BadInput
from tfeffi.methods.method import CHANGE_CHANNELS, Method, NoEffectWarning


def masked(gradients: Sequence, masks: Sequence[np.ndarray | None]) -> list:
    """The gradients, zero where the mask is false.

    Args:
        gradients: tensors.
        masks: for each a boolean array of its shape, or None to leave it as it is.

    Raises:
        BadInput: a mask of another shape: the model was changed during training.
    """
    found = []
    for gradient, mask in zip(gradients, masks, strict=True):
        if mask is not None and tuple(gradient.shape) != mask.shape:
            raise BadInput(
                f"keep_zeros: a kernel is {tuple(gradient.shape)} now and was {mask.shape} at the "
                "start; leave out the method that changes the model's channels"
            )
        found.append(gradient if mask is None else gradient * keras.ops.cast(mask, gradient.dtype))
    return found


class KeepZeros(Method):
    """`masked`, with the masks of the kernels as they are when training begins."""

    def on_model(self, run) -> None:
        self.masks = []
        for variable in run.model.trainable_variables:
            values = keras.ops.convert_to_numpy(variable)
            sparse = variable.name.endswith("kernel") and not values.all()
            self.masks.append(values != 0 if sparse else None)
        if all(mask is None for mask in self.masks):
            warnings.warn(
                "keep_zeros: no kernel has a zero; sparsify the model first",
                NoEffectWarning,
                stacklevel=2,
            )

    def on_gradients(self, run, gradients: list) -> list:
        return masked(gradients, self.masks)

    def excludes(self) -> dict[str, str]:
        return dict.fromkeys(CHANGE_CHANNELS, "the zeros' places move when channels come or go")


def build() -> KeepZeros:
    """The method; it has no settings."""
    return KeepZeros()
