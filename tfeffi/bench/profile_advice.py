"""What to do about an operator that takes longer than it must: all rules, in order of weight.

A rule looks at one row and at all rows of its profile, and gives a line or None.
"""

import math
from collections.abc import Sequence

MULTIPLE = 8  # of channels, as pruning keeps them
CHANGE_TYPE = ("QUANTIZE", "DEQUANTIZE")
TINY_MS = 0.005  # below it, starting a kernel is a good part of its time
LARGE_FIRST = 0.15  # share of all time from which on a first layer is worth a thought
NEAR = 0.5  # of the limit: from here on a better shape wins less than half of the time
MANY = 1000  # positions of an image: with fewer channels at so many, the image is the trouble
MOST_LINES = 2


def advice(row, rows: Sequence) -> tuple[str, ...]:
    """The lines about a row, the weightiest first; at most two.

    Args:
        row: a `profile_record.Row`.
        rows: all rows of its profile.

    Example:
        advice(profile.worst()[0], profile.rows)
    """
    if row.operator is None:
        return (
            "XNNPACK ran this kernel for an operator that is not certain: look at its neighbours",
        )
    lines = [line for rule in RULES if (line := rule(row, rows))]
    return tuple(lines[:MOST_LINES]) or (_otherwise(row, rows),)


def not_delegated(row, rows) -> str | None:
    """LiteRT's own kernels are slower, and each ends a part that XNNPACK runs at a stretch."""
    if row.ran == "builtin" and row.kind not in CHANGE_TYPE:
        return (
            f"XNNPACK does not take this {row.kind} of {row.dtype} activations, LiteRT's own kernel runs "
            "it: other types of weights and activations (int8), or another operation there"
        )
    return None


def island(row, rows) -> str | None:
    """A change of type between two operators: one of the two sides is not quantized."""
    if row.kind not in CHANGE_TYPE:
        return None
    if row.operator.is_constant:
        return (
            "it unpacks weights at every inference: store them in a type that XNNPACK reads (int8)"
        )
    if not _follows(row, rows) or not _precedes(row, rows):
        return "it changes the type of an input or output: export with integer inputs and outputs"
    return (
        "it changes types in the middle of the network: quantize the layers around it too, or none "
        "of them"
    )


def odd_channels(row, rows) -> str | None:
    """Kernels compute some channels at once; those left over take as long as all of them."""
    if not row.operator.macs or not row.operator.input_shapes:
        return None
    read, written = row.operator.input_shapes[0][-1], row.operator.output_shape[-1]
    odd = []
    if written % MULTIPLE and _feeds_macs(row, rows):
        odd.append(f"{written} filters")
    if read % MULTIPLE and _follows(row, rows) and row.kind != "DEPTHWISE_CONV_2D":
        odd.append(f"{read} channels in")
    if not odd:
        return None
    return f"{' and '.join(odd)}: prune or pad to a multiple of {MULTIPLE} (multiple_of={MULTIPLE})"


def large_first(row, rows) -> str | None:
    """The first layer sees the whole image, with too few channels to fill the processor."""
    is_first = bool(row.operator.macs) and not _follows(row, rows)
    if not is_first or row.share < LARGE_FIRST or len(row.operator.output_shape) != 4:
        return None
    height, width = row.operator.output_shape[1:3]
    return (
        f"the first layer writes {height}x{width} positions, {row.share:.0%} of all time: a larger "
        "stride, fewer filters, or smaller images"
    )


def depthwise(row, rows) -> str | None:
    """Few multiply-adds a value."""
    if row.kind != "DEPTHWISE_CONV_2D":
        return None
    taps = row.operator.kernel_shape[1] * row.operator.kernel_shape[2]
    return (
        f"depthwise: only {taps} multiply-adds a value read. Narrow it (prune the layer before it), or "
        "put a plain convolution of fewer channels there"
    )


def heavy_weights(row, rows) -> str | None:
    """Weights that are read once an inference."""
    of = row.operator
    if not of.macs or row.bound != "memory" or 2 * of.weight_bytes < of.bytes:
        return None
    narrower = "" if row.dtype == "int8" else "int8 weights, "
    return (
        f"reads {of.weight_bytes / 1e3:.0f} kB of weights for {of.macs / 1e6:.2f} M multiply-adds: "
        f"{narrower}fewer units, or pool before it"
    )


def memory_bound(row, rows) -> str | None:
    """What moves activations and multiplies next to nothing."""
    of = row.operator
    if of.macs or row.kind in (*CHANGE_TYPE, "SOFTMAX") or row.ms < TINY_MS:
        return None
    smaller = "" if row.dtype == "int8" else ", or make it int8"
    return (
        f"moves {of.bytes / 1e3:.0f} kB and multiplies nothing: fuse it into the layer before, do it "
        f"after a stride or pooling{smaller}"
    )


def tiny(row, rows) -> str | None:
    """Operators that end as soon as they have begun."""
    if row.ms >= TINY_MS or row.ran == "builtin":
        return None
    return "takes microseconds, much of them to start: fewer, larger layers"


def near_limit(row, rows) -> str | None:
    """Nothing is wrong with it: it is just much."""
    if not row.operator.macs or row.attained is None or row.attained < NEAR:
        return None
    if row.dtype == "float32":
        return (
            f"at {row.attained:.0%} of this machine's limit in float32: quantize to int8, or prune"
        )
    left = max(0.0, 1 - row.attained)
    return (
        f"at {row.attained:.0%} of this machine's limit: a better shape wins {left:.0%} at most, fewer "
        "multiply-adds (prune) more"
    )


RULES = (
    not_delegated, island, odd_channels, large_first, depthwise, heavy_weights, memory_bound, tiny,
    near_limit,
)  # fmt: skip


def _otherwise(row, rows) -> str:
    if not row.operator.macs:
        return "small against what it moves: little to gain"
    of = row.operator
    channels = f"{of.input_shapes[0][-1]} channels into {of.output_shape[-1]}"
    size = "x".join(map(str, of.output_shape[1:-1])) or "one position"
    remedy = "fewer layers of more channels there"
    if _positions(of) >= MANY:
        remedy = "a stride before it" if _follows(row, rows) else "a larger stride"
    also = "" if row.dtype == "int8" else "; int8 is faster"
    return f"{channels} at {size} do not fill the processor: {remedy}{also}"


def _positions(of) -> int:
    return math.prod(of.output_shape[1:-1])


def _follows(row, rows) -> bool:
    """Whether another operator writes what it reads, and not only in another type."""
    others = _touching(row.operator.reads, rows, "writes")
    return any(other.kind not in CHANGE_TYPE or _follows(other, rows) for other in others)


def _precedes(row, rows) -> bool:
    """Whether another operator reads what it writes, and not only in another type."""
    others = _touching(row.operator.writes, rows, "reads")
    return any(other.kind not in CHANGE_TYPE or _precedes(other, rows) for other in others)


def _touching(tensors, rows, side: str) -> list:
    return [row for row in rows if row.operator and set(tensors) & set(getattr(row.operator, side))]


def _feeds_macs(row, rows) -> bool:
    """Whether a layer with weights comes after it somewhere: the last one's width is the task's."""
    reached, grows = set(row.operator.writes), True
    operators = [other.operator for other in rows if other.operator]
    while grows:
        grows = False
        for one in operators:
            if not reached.isdisjoint(one.reads) and not reached.issuperset(one.writes):
                if one.macs:
                    return True
                reached.update(one.writes)
                grows = True
    return False
