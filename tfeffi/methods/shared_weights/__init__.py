"""Tunes the shared values of a clustered model: weights that are equal at the start stay equal.

After `tfeffi.compress.cluster`: the gradient of a shared value is the sum of the gradients of the
weights that it stands for. All of them are given that sum, and an optimizer that treats each weight
by itself (SGD, momentum, Adam) then moves them as one. Sums over thousands of weights are large: take
Adam, which does not mind, or a small learning rate. No step gets faster.

Source: Han et al. 2015, "Deep Compression", arXiv 1510.00149, equation 3.
"""

import warnings

import keras
import numpy as np

from tfeffi.errors import BadInput
from tfeffi.methods.method import CHANGE_CHANNELS, Method, NoEffectWarning, places
from tfeffi.methods.switch_optimizer import SwitchOptimizer


def summed(gradient, index: np.ndarray, count: int):
    """To each weight the sum of the gradients of all weights that share its value.

    Args:
        gradient: of a kernel, any shape.
        index: for each weight, flat, the number of its value, in [0, count); −1: it stays as it is.
        count: of values.

    Returns:
        A tensor of the gradient's shape.
    """
    flat = keras.ops.reshape(gradient, (-1,))
    # One more segment takes in those that stay as they are; what it sums up is of no use.
    number = np.where(index < 0, count, index).astype(np.int32)
    sums = keras.ops.segment_sum(flat, number, num_segments=count + 1)
    moving = keras.ops.cast(index >= 0, gradient.dtype)
    return keras.ops.reshape(keras.ops.take(sums, number) * moving, gradient.shape)


def shares_values(kernel: np.ndarray, zeros: bool = False) -> bool:
    """Whether weights of a kernel share their values: half as many as weights, or fewer.

    Two fresh weights may be equal by chance; sharing is where most are. Zeros say nothing of the others:
    they count only where `zeros` says that they, too, are a value to share.
    """
    counted = kernel if zeros else kernel[kernel != 0]
    return bool(counted.size) and 2 * np.unique(counted).size <= counted.size


class SharedWeights(Method):
    """`summed`, for every kernel of `shares_values` when training begins."""

    def __init__(self, keep_zeros: bool = True):
        self.keep_zeros = keep_zeros

    def on_model(self, run) -> None:
        self.shares = {}  # (shape, index, count) by the variable's place
        for place, variable in zip(places(run.model), run.model.trainable_variables, strict=True):
            values = keras.ops.convert_to_numpy(variable)
            found, index = np.unique(values, return_inverse=True)
            shares = variable.name.endswith("kernel") and shares_values(
                values, zeros=not self.keep_zeros
            )
            index = index.ravel()
            if self.keep_zeros:
                index = np.where(values.ravel() == 0, -1, index)
            if shares:
                self.shares[place] = (values.shape, index, found.size)
        after = [m.optimizer for m in run.methods if isinstance(m, SwitchOptimizer)]
        muon = any(
            one.get("name") == "convolution_muon" for one in (run.settings.optimizer, *after)
        )
        if muon and any(len(shape) == 4 for shape, *_ in self.shares.values()):
            raise BadInput(
                "shared_weights: convolution_muon mixes the weights of a kernel, so that equal ones do "
                'not stay equal; take {"name": "adam"} or "sgd"'
            )
        if not self.shares:
            warnings.warn(
                "shared_weights: no kernel has shared values; cluster the model first",
                NoEffectWarning,
                stacklevel=2,
            )

    def on_gradients(self, run, gradients: list) -> list:
        found = []
        for gradient, place in zip(gradients, places(run.model), strict=True):
            share = self.shares.get(place)
            if share is not None and tuple(gradient.shape) != share[0]:
                raise BadInput(
                    f"shared_weights: a kernel is {tuple(gradient.shape)} now and was {share[0]} at "
                    "the start; leave out the method that changes the model's channels"
                )
            found.append(gradient if share is None else summed(gradient, *share[1:]))
        return found

    def excludes(self) -> dict[str, str]:
        return dict.fromkeys(CHANGE_CHANNELS, "who shares with whom moves when channels come or go")

    def settings(self) -> dict:
        return {"keep_zeros": self.keep_zeros}


def build(keep_zeros: bool = True) -> SharedWeights:
    """The method.

    Args:
        keep_zeros: a weight that is zero stays zero, as `cluster(preserve_sparsity=True)` left it.
    """
    return SharedWeights(keep_zeros)
