"""The operators of a .tflite one by one: what each multiplies, reads and writes.

Beside `flatbuffer.inspect`, which says what the file is as a whole.
"""

import collections
import dataclasses
import os
import struct
from collections.abc import Mapping, Sequence

import numpy as np

from tfeffi.export import flatbuffer
from tfeffi.export.flatbuffer import ModelError, Tensor

_CONVOLUTIONS = ("CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D")
_TRANSPOSED = ("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE")


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of the main graph.

    Attributes:
        index: its place in the file.
        kind: its name in the schema, "CONV_2D"; a custom one's own name.
        names: of the tensors that it writes, and of the constants that no other operator reads.
        macs: multiply-adds for the shapes given.
        weight_bytes: of the constants it reads, as they are stored.
        input_bytes, output_bytes: of the activations it reads and writes.
        input_shapes, output_shape: of these activations.
        kernel_shape: of its weights as stored: (out, height, width, in) of a convolution; None
            where there are none.
        dtype: of what it writes.
        has_activation: whether an activation function is part of it.
        is_constant: whether it depends on no input: it unpacks weights, once.
        reads, writes: numbers of the activations.
    """

    index: int
    kind: str
    names: tuple[str, ...]
    macs: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...] | None
    dtype: str
    has_activation: bool
    is_constant: bool
    reads: tuple[int, ...]
    writes: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What it moves at least: weights, activations in, activations out."""
        return self.weight_bytes + self.input_bytes + self.output_bytes


def read(
    path: str | os.PathLike, shapes: Mapping[int, Sequence[int]] | None = None
) -> tuple[Operator, ...]:
    """Reads the operators of a .tflite.

    Args:
        path: the file.
        shapes: of tensors by number, where they are not those of the file; open sizes are 1.

    Returns:
        The operators of the main graph in its order.

    Raises:
        ModelError: there is no such file, it is not a .tflite, or it is damaged.

    Example:
        sum(one.macs for one in read("m.tflite"))
    """
    content = flatbuffer.read(path)
    try:
        return _read(content, shapes or {})
    except (
        struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError,
    ) as error:  # fmt: skip
        raise ModelError(f'"{path}" is damaged or cut short; export it again') from error


def _read(content: bytes, shapes: Mapping[int, Sequence[int]]) -> tuple[Operator, ...]:
    model = flatbuffer.parsed(content)
    graph = model.Subgraphs(0)
    tensors = []
    for number, found in enumerate(flatbuffer.tensors(graph)):
        shape = shapes.get(number, [size or 1 for size in found.shape])
        tensors.append(dataclasses.replace(found, shape=tuple(int(size) for size in shape)))
    live = flatbuffer.lifetimes(graph)
    operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    readers = collections.Counter(i for one in operators for i in set(flatbuffer.touched(one)[0]))
    stored = {
        number: flatbuffer.stored_bytes(model, graph.Tensors(number))
        for number in range(len(tensors))
        if number not in live
    }
    return tuple(
        _operator(index, model, one, tensors, live, stored, readers)
        for index, one in enumerate(operators)
    )


def _operator(index, model, operator, tensors: list[Tensor], live, stored, readers) -> Operator:
    kind, _ = flatbuffer.operator_name(model, operator)
    read, written = flatbuffer.touched(operator)
    activations = [i for i in read if i in live]
    constants = [i for i in read if i not in live]
    own = [i for i in constants if readers[i] == 1]
    weights = next((i for i in constants if len(tensors[i].shape) > 1), None)
    return Operator(
        index=index,
        kind=kind,
        names=tuple(tensors[i].name for i in (*written, *own)),
        macs=_macs(kind, tensors, read, written),
        # A constant that another operator unpacks has no bytes of its own.
        weight_bytes=sum(stored[i] or flatbuffer._bytes(tensors[i]) for i in constants),
        input_bytes=sum(flatbuffer._bytes(tensors[i]) for i in dict.fromkeys(activations)),
        output_bytes=sum(flatbuffer._bytes(tensors[i]) for i in written),
        input_shapes=tuple(tensors[i].shape for i in activations),
        output_shape=tensors[written[0]].shape if written else (),
        kernel_shape=None if weights is None else tensors[weights].shape,
        dtype=tensors[written[0]].dtype if written else "",
        has_activation=_has_activation(operator),
        is_constant=not activations,
        reads=tuple(activations),
        writes=tuple(written),
    )


def _macs(kind: str, tensors: list[Tensor], read: list[int], written: list[int]) -> int:
    def size(shape) -> int:
        return int(np.prod(shape, dtype=np.int64))

    shapes = [tensors[i].shape for i in read]
    output = tensors[written[0]].shape if written else ()
    if kind in _CONVOLUTIONS:
        return size(output[:-1]) * size(shapes[1])
    if kind in _TRANSPOSED:  # its inputs: output shape, weights, image
        return size(shapes[2][:-1]) * size(shapes[1])
    if kind == "FULLY_CONNECTED":
        return size(shapes[0]) // shapes[1][-1] * size(shapes[1])
    if kind == "BATCH_MATMUL":
        return size(output) * size(shapes[0]) // max(1, size(output[:-1]))
    return 0


def _has_activation(operator) -> bool:
    """Whether its options name an activation function; those of some kinds have no such field."""
    schema, table = flatbuffer.schema(), operator.BuiltinOptions()
    name = flatbuffer._names("BuiltinOptions")[operator.BuiltinOptionsType()]
    if table is None or name == "NONE":
        return False
    options = getattr(schema, name)()
    options.Init(table.Bytes, table.Pos)
    return bool(getattr(options, "FusedActivationFunction", lambda: 0)())
