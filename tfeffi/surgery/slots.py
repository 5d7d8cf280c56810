"""What becomes of an optimizer's slots where a channel is copied.

Let a channel be copied c times: the weights that make it, u, become c copies of u, and those that
read it, v, become c shares v/c. The copies cannot be told apart, so each has the same part of every
derivative, and by the chain rule over u = u₁ = … = u_c and v = v₁ + … + v_c

    ∂L/∂uⱼ = (∂L/∂u) / c        ∂L/∂vⱼ = ∂L/∂v

A slot that sums p-th powers of gradients follows: it is gathered, and divided by cᵖ where channels
are made. These are the slots that the wide model would have if all earlier gradients had been
taken of it, exactly. They need no time to adapt to what its gradients are from now on. Slots that
hold weights are shared out like weights.
"""

import keras
import numpy as np

from tfeffi.surgery.rules.base import Cut

WEIGHT = "weight"  # the slot holds weights: an average of them
_POWERS: dict[str, int | str] = {
    "momentum": 1,
    "velocity": 2,
    "velocity_hat": 2,
    "norm": 1,
    "average_gradient": 1,
    "gradient_accumulator": 1,
    "accumulator": 2,
    "accumulated_grad": 2,
    "linear": 1,
    "average": WEIGHT,
}
_EXCEPTIONS: dict[tuple[str, str], int | str] = {
    ("RMSprop", "momentum"): 0,  # sums of g/√(mean g²), which no scale changes
    ("ScheduleFreeAdamW", "momentum"): WEIGHT,
}


def power(optimizer: keras.optimizers.Optimizer, slot: str) -> int | str:
    """Which power of the gradient a slot sums, by Keras' naming of slots; `WEIGHT` for weights.

    Args:
        optimizer: whose slot it is.
        slot: its name, "conv2_kernel_momentum".
    """
    kind = type(getattr(optimizer, "inner_optimizer", optimizer)).__name__
    suffixes = [suffix for suffix in _POWERS if slot.endswith(f"_{suffix}")]
    if not suffixes:
        return 0
    suffix = max(suffixes, key=len)
    return _EXCEPTIONS.get((kind, suffix), _POWERS[suffix])


def follow(cut: Cut, value: np.ndarray, of: int | str) -> np.ndarray:
    """The slot of a variable that was cut.

    Args:
        cut: one axis of the variable, gathered.
        value: the slot, of the shape of the old variable.
        of: the power of the gradient that it sums, or `WEIGHT`.
    """
    taken = cut.take(value, share=of == WEIGHT)
    repeats = np.bincount(cut.index)[cut.index]
    if of == WEIGHT or of == 0 or cut.shared or repeats.max(initial=1) == 1:
        return taken
    shape = [1] * taken.ndim
    shape[cut.axis] = -1
    return (taken / repeats.reshape(shape).astype(np.float64) ** of).astype(value.dtype)
