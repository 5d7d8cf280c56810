"""Whether a compression left what earlier ones made: zeros, and weights that share their values."""

from collections.abc import Sequence

import numpy as np

from tfeffi.compress.kernels import Kernel
from tfeffi.methods.shared_weights import shares_values

_FEW = 0.01  # zeros of so small a share were nobody's work


def lost(before: Sequence[Kernel], after: Sequence[Kernel]) -> str:
    """What is gone, for a report's note; empty where nothing is.

    Args:
        before, after: the kernels of the two models; those of one name are compared.

    Returns:
        A sentence that names the first layers with fewer zeros, or with more values than they shared.
    """
    now = {kernel.name: kernel.values for kernel in after}
    zeros, shared = [], []
    for kernel in before:
        values = now.get(kernel.name)
        if values is None:
            continue
        had, has = (float(np.mean(array == 0)) for array in (kernel.values, values))
        if had >= _FEW and has < had:
            zeros.append(f'"{kernel.name}" {had:.1%} → {has:.1%}')
        had, has = (np.unique(array).size for array in (kernel.values, values))
        if shares_values(kernel.values) and has > had:
            shared.append(f'"{kernel.name}" {had:,} → {has:,}')
    found = [_sentence("zeros", zeros), _sentence("shared values", shared)]
    return " ".join(one for one in found if one)


def needed(kernels: Sequence[Kernel]) -> set[str]:
    """The methods of `tfeffi.methods` that hold, in a training, what these kernels have."""
    found = set()
    for kernel in kernels:
        if float(np.mean(kernel.values == 0)) >= _FEW:
            found.add("keep_zeros")
        if shares_values(kernel.values):
            found.add("shared_weights")
    return found


def _sentence(what: str, layers: Sequence[str]) -> str:
    if not layers:
        return ""
    more = f" and {len(layers) - 2} more" if len(layers) > 2 else ""
    return f"Not kept, {what} from before: {', '.join(layers[:2])}{more}."
