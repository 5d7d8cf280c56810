"""Which operator of the file a measured kernel belongs to.

A builtin kernel says which operator it runs. XNNPACK takes many operators at once and names its own
kernels, in the order in which they run: some operators have none of their own (a pad that went into a
convolution), some have several (an addition and its clamp). So the kernels are aligned with the
operators by order and kind, as many as possible, and only what is the same in every such alignment
counts. The others stay unmatched: nothing is guessed.
"""

import dataclasses
import itertools
import math
from collections.abc import Collection, Sequence

import numpy as np

from tfeffi.export.operators import Operator

_SAME_NAME = {  # XNNPACK's word for one operator
    "Add": "ADD", "Subtract": "SUB", "Multiply": "MUL", "Divide": "DIV", "Maximum": "MAXIMUM",
    "Minimum": "MINIMUM", "Squared Difference": "SQUARED_DIFFERENCE", "Power": "POW",
    "Max Pooling": "MAX_POOL_2D", "Average Pooling": "AVERAGE_POOL_2D", "Sum": "SUM",
    "Reduce Max": "REDUCE_MAX", "Reduce Min": "REDUCE_MIN", "Softmax": "SOFTMAX",
    "Sigmoid": "LOGISTIC", "TanH": "TANH", "GELU": "GELU", "ApproxGELU": "GELU",
    "HardSwish": "HARD_SWISH", "LeakyReLU": "LEAKY_RELU", "PReLU": "PRELU", "ELU": "ELU",
    "Abs": "ABS", "Negate": "NEG", "Floor": "FLOOR", "Ceiling": "CEIL", "Square": "SQUARE",
    "Square Root": "SQRT", "Reciprocal Square Root": "RSQRT", "Exp": "EXP", "Log": "LOG",
    "Sine": "SIN", "Cosine": "COS", "Sign": "SIGN", "Bankders Rounding": "ROUND",
    "Constant Pad": "PAD", "Transpose": "TRANSPOSE", "Resize Bilinear": "RESIZE_BILINEAR",
    "Depth To Space": "DEPTH_TO_SPACE", "Space To Depth": "SPACE_TO_DEPTH",
    "Deconvolution": "TRANSPOSE_CONV", "Batch Matrix Multiply": "BATCH_MATMUL",
}  # fmt: skip
_KINDS = {  # its words for several
    **{name: (kind,) for name, kind in _SAME_NAME.items()},
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Fully Connected": ("FULLY_CONNECTED", "CONV_2D"),
    "Dynamic Fully Connected": ("FULLY_CONNECTED", "BATCH_MATMUL"),
    "Mean": ("MEAN", "AVERAGE_POOL_2D"),
    "Clamp": ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"),
    "Constant Pad": ("PAD", "PADV2"),
    "Static Reshape": ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"),
    "Copy": ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CONCATENATION", "PACK"),
    "Slice": ("SLICE", "STRIDED_SLICE", "SPLIT"),
    "Convert": ("QUANTIZE", "DEQUANTIZE", "CAST"),
}
_BINARY = ("ADD", "SUB", "MUL", "DIV")
_MOST_TAPS = 25  # of the kernels that XNNPACK has for depthwise convolutions
_DYNAMIC = ("QD8", "QDU8", "QP8")  # activations quantized while the model runs


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel in the order of a run.

    Attributes:
        name: as LiteRT has it: "Convolution (NHWC, QC8) IGEMM", or "CUMSUM" of a builtin one.
        builtin: whether it is LiteRT's own, and not of XNNPACK.
        index: of its operator, if it is builtin and of the main graph.
    """

    name: str
    builtin: bool = False
    index: int | None = None


def match(kernels: Sequence[Kernel], operators: Sequence[Operator]) -> list[int | None]:
    """The operator of each kernel.

    Args:
        kernels: of one run, in its order.
        operators: of the file, in its order.

    Returns:
        For each kernel the index of its operator, None where that is not certain.

    Example:
        match([Kernel("Convolution (NHWC, F32) IGEMM")], operators)  # [0]
    """
    found: list[int | None] = [_builtin(kernel, operators) for kernel in kernels]
    builtin = {index for index in found if index is not None}
    parts = {frozenset(before): part for before, part in partition(operators, builtin)}
    done: set[int] = set()
    for is_builtin, group in itertools.groupby(range(len(kernels)), lambda at: kernels[at].builtin):
        places = list(group)
        if is_builtin:
            done.update(found[at] for at in places if found[at] is not None)
            continue
        part = [operators[index] for index in parts.pop(frozenset(done), ())]
        names = [kernels[at].name for at in places]
        for at, owner in zip(places, _aligned(names, part), strict=True):
            found[at] = owner
    return found


def partition(
    operators: Sequence[Operator], builtin: Collection[int]
) -> list[tuple[list[int], list[int]]]:
    """The parts that XNNPACK runs at a stretch, as LiteRT makes them.

    Turn by turn, all operators of one sort, XNNPACK's or the builtin ones, that wait for nothing of
    the other sort any more; it begins with the sort of the first operator. A part may so reach
    far ahead in the file.

    Args:
        operators: of the file, in its order.
        builtin: the indices of those that XNNPACK does not take.

    Returns:
        For each part the builtin operators that ran before it, and its own operators.
    """
    waiting = {tensor for one in operators for tensor in one.writes}
    left, parts, before = list(operators), [], []
    sort = bool(left) and left[0].index in builtin
    while left:
        taken, kept = [], []
        for one in left:
            is_next = (one.index in builtin) == sort and waiting.isdisjoint(one.reads)
            (taken if is_next else kept).append(one)
            if is_next:
                waiting.difference_update(one.writes)
        if not taken and not any(waiting.isdisjoint(one.reads) for one in left):
            break  # a loop: the file is not what it should be
        if sort:
            before = before + [one.index for one in taken]
        else:
            parts.append((before, [one.index for one in taken]))
        left, sort = kept, not sort
    return parts


def _aligned(names: Sequence[str], operators: Sequence[Operator]) -> list[int | None]:
    """The operators of the kernels of one part."""
    tokens = [
        (operator.index, piece)
        for operator in operators
        if not operator.is_constant
        for piece in _pieces(operator)
    ]
    fits = np.array([[_fits(name, piece) for _, piece in tokens] for name in names], bool)
    return _certain(fits.reshape(len(names), len(tokens)), [index for index, _ in tokens])


def _builtin(kernel: Kernel, operators: Sequence[Operator]) -> int | None:
    if not kernel.builtin or kernel.index is None or kernel.index >= len(operators):
        return None
    return kernel.index if operators[kernel.index].kind == kernel.name else None


def _pieces(operator: Operator) -> list:
    """The kernels that an operator may have, each as the operator itself or a word for a helper."""
    pieces: list = [operator]
    if operator.kind == "CONCATENATION":
        pieces *= len(operator.reads)
    elif operator.kind == "SPLIT":
        pieces *= len(operator.writes)
    elif operator.macs:
        pieces.insert(0, "quantize")
    if operator.kind == "FULLY_CONNECTED":
        pieces.insert(0, "reshape")
    if operator.kind in _BINARY and operator.has_activation:
        pieces.append("clamp")
    return pieces


def _fits(kernel: str, piece) -> bool:
    name = kernel.partition(" (")[0]
    dynamic = any(word in kernel for word in _DYNAMIC)
    if isinstance(piece, str):
        return (piece, name) in (("reshape", "Static Reshape"), ("clamp", "Clamp")) or (
            piece == "quantize" and name == "Convert" and dynamic
        )
    if piece.kind not in _KINDS.get(name, ()) or (name == "Convert" and dynamic):
        return False
    if name == "Convolution":
        if kernel.endswith("DWConv"):
            return piece.kind == "DEPTHWISE_CONV_2D"
        taps = math.prod(piece.kernel_shape[1:3])
        return piece.kind == "CONV_2D" or taps > _MOST_TAPS  # grouped, one channel a group
    if name == "Fully Connected" and piece.kind == "CONV_2D":
        return tuple(piece.kernel_shape[1:3]) == (1, 1)
    return True


def _certain(fits: np.ndarray, owners: Sequence[int]) -> list[int | None]:
    """For each kernel the one operator that it has in every longest alignment, or None.

    `before[i, j]` is the length of the longest alignment of the first i kernels with the first j
    pieces, `after[i, j]` that of those from i and j on.
    """
    before = _lengths(fits)
    after = _lengths(fits[::-1, ::-1])[::-1, ::-1]
    best, found = before[-1, -1], []
    for i in range(len(fits)):
        used = fits[i] & (before[i, :-1] + 1 + after[i + 1, 1:] == best)
        can_do_without = (before[i] + after[i + 1] == best).any()
        candidates = {owners[j] for j in np.flatnonzero(used)}
        found.append(candidates.pop() if len(candidates) == 1 and not can_do_without else None)
    return found


def _lengths(fits: np.ndarray) -> np.ndarray:
    rows, columns = fits.shape
    lengths = np.zeros((rows + 1, columns + 1), int)
    for i in range(rows):
        diagonal = np.where(fits[i], lengths[i, :-1] + 1, 0)
        lengths[i + 1, 1:] = np.maximum.accumulate(np.maximum(diagonal, lengths[i, 1:]))
    return lengths
