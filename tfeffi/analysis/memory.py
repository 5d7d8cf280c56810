"""How much memory a process has taken at most, and how much a training step will take."""

import dataclasses
import math
import pathlib
import re
import resource

import keras

from tfeffi.analysis.cost import walk
from tfeffi.errors import BadInput

# What the backward pass of an operation does not look at: its input, or anything. Its gradient is
# made from its output (ReLU) or from nothing but the gradient that comes in (Add).
_INPUT_NOT_KEPT = frozenset((
    "Activation", "Add", "AveragePooling2D", "Average", "Concatenate", "Cropping2D", "Flatten",
    "GlobalAveragePooling2D", "Identity", "InputLayer", "ReLU", "Rescaling", "Reshape", "Softmax",
    "Subtract", "UpSampling2D", "ZeroPadding2D",
))  # fmt: skip
_FROM_OUTPUT = tuple(
    keras.activations.get(name) for name in ("linear", "relu", "sigmoid", "softmax", "tanh")
)
_OUTPUT_KEPT = frozenset(("Activation", "ReLU", "Softmax", "MaxPooling2D"))
_VIEWS = frozenset(("Flatten", "Identity", "InputLayer", "Reshape"))  # the same memory again


def peak_memory_mb(pid: int | None = None) -> float:
    """The peak resident memory of this process, or on Linux of another one, in 10⁶ bytes.

    Linux counts it anew for each program (VmHWM); `getrusage`, used elsewhere, carries over what the
    parent of a process had taken when it started it.

    Args:
        pid: of the process; None for this one.

    Example:
        peak_memory_mb()  # 812.3
    """
    status = pathlib.Path(f"/proc/{pid or 'self'}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    kibibytes = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes * 1024 / 1e6


@dataclasses.dataclass(frozen=True)
class TrainingMemory:
    """The memory of one training step: fixed + batch × sample, in bytes.

    Attributes:
        fixed: weights, their gradients and the optimizer's slots.
        sample: what the forward pass of one image leaves for the backward pass, in the types that
            the layers compute in, and the two largest tensors that the backward pass works on.
    """

    fixed: int
    sample: int

    def bytes(self, batch_size: int) -> int:
        """Of a step of so many images."""
        return self.fixed + batch_size * self.sample


def training_memory(model: keras.Model, input_shape=None, *, slots: int = 1) -> TrainingMemory:
    """What a training step of a model takes, counted from its graph.

    A tensor stays for the backward pass if the gradient of an operation that takes it, or of the one
    that makes it, is computed from it: what convolutions, dense layers and batch normalization take
    and what ReLU gives, but not what Add takes. The program itself (TensorFlow: some 500 MB), the
    images of the data set and the workspace of kernels come on top, and so do the copies that an x86 CPU
    without AVX-512 makes of what it convolves in 16 bits, and the workspace of TensorFlow's own
    convolutions where oneDNN is off: half as much again was seen.

    Args:
        model: a functional or built Sequential model, in the precision that it trains in.
        input_shape: see `tfeffi.cost`.
        slots: of the optimizer, for each weight: 0 for plain SGD, 1 with momentum, 2 for Adam.

    Raises:
        BadInput: a model whose graph or shapes are not known.

    Example:
        training_memory(model).bytes(128) / 1e6

    Source: PruneTrain (Lym et al. 2019, arXiv 1901.09290, section 4.3), M(b) = fixed + b·sample.
    """
    weights = sum(math.prod(v.shape) for v in model.trainable_variables)
    rest = sum(math.prod(v.shape) for v in model.non_trainable_variables)
    fixed = 4 * (weights * (2 + slots) + rest)
    kept, largest = {}, [0, 0]
    for operation, inputs, outputs in walk(model, input_shape).calls:
        kind = operation.__class__.__name__
        if kind in _VIEWS:
            continue
        by_output = getattr(operation, "activation", None) in _FROM_OUTPUT
        is_curve = kind == "Activation" and not by_output  # GELU, SiLU: from the input
        used = list(inputs) if is_curve or kind not in _INPUT_NOT_KEPT else []
        used += outputs if kind in _OUTPUT_KEPT and not is_curve else []
        kept |= {id(tensor): tensor for tensor in used}
        largest = sorted([*largest, *map(_bytes, outputs)])[-2:]
        if getattr(operation, "compute_dtype", "float32") in ("bfloat16", "float16"):
            fixed += 2 * sum(math.prod(v.shape) for v in operation.trainable_variables)
    return TrainingMemory(fixed, sum(map(_bytes, kept.values())) + sum(largest))


def _bytes(tensor: keras.KerasTensor) -> int:
    """Of one example."""
    size = {"float16": 2, "bfloat16": 2, "float64": 8, "int64": 8}.get(tensor.dtype, 4)
    return size * math.prod(tensor.shape[1:])


def largest_batch(memory: TrainingMemory, capacity_bytes: float, granularity: int = 32) -> int:
    """The largest batch, a multiple of `granularity`, whose training step fits.

    Args:
        memory: of a step, `training_memory(model)`.
        capacity_bytes: what there is for it.
        granularity: the batch is a multiple of this; below it, any size.

    Raises:
        BadInput: a budget below one image, a granularity below 1.

    Example:
        largest_batch(training_memory(model), 2e9)  # 416

    Source: PruneTrain (Lym et al. 2019, arXiv 1901.09290, section 4.3).
    """
    if not isinstance(granularity, int) or granularity < 1:
        raise BadInput(f"memory: granularity={granularity!r} must be a whole number from 1")
    fits = int((capacity_bytes - memory.fixed) // memory.sample)
    if fits < 1:
        raise BadInput(
            f"memory: {capacity_bytes:,.0f} bytes are below one image, which needs "
            f"{memory.bytes(1):,}; give more"
        )
    return fits // granularity * granularity or fits
