"""What the kernels of a .tflite hold: channels, zeros and different values, read from its buffers.

A compression's promise is about these bytes, which the phone gets, and not about the model they were
made from.
"""

import dataclasses
import os

import numpy as np

from tfeffi.export import flatbuffer
from tfeffi.export.flatbuffer import ModelError

# operator: the axis of its kernel along which its output channels lie
_CHANNELS = {
    "CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0,
}  # fmt: skip
_KERNEL = {"TRANSPOSE_CONV": 1}  # which input the kernel is, where it is not that
_DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "i1", "int16": "<i2", "uint8": "u1"}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """The kernel of one convolution or dense layer.

    Attributes:
        name: of the tensor.
        operator: that reads it, by its name in the schema.
        dtype: as it is stored.
        shape: as it is stored.
        channels: how many outputs it makes.
        zeros: the fraction of weights that stand for 0.
        values: how many different values the buffer holds.
        values_per_channel: the most that any one output channel holds: one scale for each channel, and a
            batch normalization that is folded in, give equal weights of two channels other numbers.
    """

    name: str
    operator: str
    dtype: str
    shape: tuple[int, ...]
    channels: int
    zeros: float
    values: int
    values_per_channel: int


def kernels(path: str | os.PathLike) -> list[Kernel]:
    """The kernels of a .tflite in the order in which they are read, each tensor once.

    Args:
        path: the file.

    Returns:
        One record a kernel; those that the file computes (or stores sparse) are left out.

    Raises:
        ModelError: the file is missing, no .tflite, or damaged, or a kernel's type is none of those
            that `export` writes.

    Example:
        [k.zeros for k in kernels("m.tflite") if k.operator == "CONV_2D"]
    """
    content = flatbuffer.read(path)
    try:
        return list(_kernels(content))
    except ModelError as error:
        raise ModelError(f'"{path}": {error}') from None
    except Exception as error:  # a flatbuffer is read by offsets: any of them may point anywhere
        raise ModelError(f'"{path}" is damaged or cut short; export it again') from error


def _kernels(content: bytes):
    model = flatbuffer.parsed(content)
    graph, seen = model.Subgraphs(0), set()
    described = flatbuffer.tensors(graph)
    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
    unpacked = {  # float16 weights reach their operator through a DEQUANTIZE
        int(operator.Outputs(0)): int(operator.Inputs(0))
        for operator in operators
        if flatbuffer.operator_name(model, operator)[0] == "DEQUANTIZE"
    }
    for operator in operators:
        name, _ = flatbuffer.operator_name(model, operator)
        if name not in _CHANNELS:
            continue
        index = int(operator.Inputs(_KERNEL.get(name, 1)))
        index = unpacked.get(index, index)
        tensor = graph.Tensors(index)
        data = flatbuffer.stored(model, tensor)
        if index not in seen and data and tensor.Sparsity() is None:
            seen.add(index)
            yield _kernel(tensor, described[index], name, data)


def _kernel(tensor, described: flatbuffer.Tensor, operator: str, data: bytes) -> Kernel:
    shape = tuple(int(size) for size in tensor.ShapeAsNumpy())
    stored = _stored(data, described.dtype, int(np.prod(shape))).reshape(shape)
    rows = np.moveaxis(stored, _CHANNELS[operator], 0).reshape(shape[_CHANNELS[operator]], -1)
    quantization = tensor.Quantization()
    zero = 0
    if quantization is not None and quantization.ZeroPointLength():
        points = quantization.ZeroPointAsNumpy()
        zero = points.reshape(-1, 1) if len(points) == len(rows) else points[0]
    return Kernel(
        name=described.name, operator=operator, dtype=described.dtype, shape=shape,
        channels=len(rows), zeros=float(np.mean(rows == zero)),
        values=int(np.unique(stored).size),
        values_per_channel=max(int(np.unique(row).size) for row in rows),
    )  # fmt: skip


def _stored(data: bytes, dtype: str, count: int) -> np.ndarray:
    if dtype in _DTYPES:
        return np.frombuffer(data, _DTYPES[dtype], count)
    if dtype != "int4":
        raise ModelError(f"cannot read {dtype} kernels, only {', '.join(_DTYPES)} and int4")
    packed = np.frombuffer(data, np.uint8)
    both = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
    return np.where(both > 7, both - 16, both)
