"""Small .tflite files with one kind of operator, written from the schema: what a machine can do at best
is measured on them. A converter would take seconds for each.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from tfeffi.errors import BadInput

DTYPES = ("float32", "int8")
_IN_SCALE, _WEIGHT_SCALE, _OUT_SCALE = 0.02, 0.01, 0.1  # of the int8 ones; any do


@functools.cache
def _schema():
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@dataclasses.dataclass
class _Graph:
    """Tensors, buffers and operators as they are added."""

    def __post_init__(self):
        self.tensors, self.operators, self.codes = [], [], []
        self.buffers = [_schema().BufferT()]  # the first is the empty one

    def tensor(
        self, shape: Sequence[int], dtype: str, values=None, scales: Sequence[float] = (), axis=0
    ) -> int:
        """Adds a tensor, with values a constant; its number."""
        made = _schema().TensorT()
        made.name = f"tensor{len(self.tensors)}".encode()
        made.shape = np.array(shape, np.int32)
        made.type = getattr(_schema().TensorType, dtype.upper())
        made.buffer = 0
        if values is not None:
            buffer = _schema().BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            self.buffers.append(buffer)
            made.buffer = len(self.buffers) - 1
        if len(scales):
            made.quantization = _schema().QuantizationParametersT()
            made.quantization.scale = np.array(scales, np.float32)
            made.quantization.zeroPoint = np.zeros(len(scales), np.int64)
            made.quantization.quantizedDimension = axis
        self.tensors.append(made)
        return len(self.tensors) - 1

    def operator(self, kind: str, reads: Sequence[int], writes: Sequence[int], **options) -> None:
        """Adds an operator; its options by their names in the schema."""
        schema = _schema()
        made, code = schema.OperatorT(), schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 3 if kind.endswith("CONV_2D") else 1
        self.codes.append(code)
        made.opcodeIndex = len(self.codes) - 1
        made.inputs, made.outputs = np.array(reads, np.int32), np.array(writes, np.int32)
        if options:
            name = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions"}[kind]
            made.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            made.builtinOptions = getattr(schema, f"{name}T")()
            for key, value in options.items():
                setattr(made.builtinOptions, key, value)
        self.operators.append(made)

    def content(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file."""
        import flatbuffers

        graph, model = _schema().SubGraphT(), _schema().ModelT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        model.version, model.buffers = 3, self.buffers
        model.subgraphs, model.operatorCodes = [graph], self.codes
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def convolution(
    channels: int, filters: int, kernel: int, size: int, dtype: str, *, depthwise: bool = False
) -> bytes:
    """A .tflite with one convolution of stride 1 and padding "same".

    Args:
        channels: of the input (1, size, size, channels).
        filters: of the output; of a depthwise one as many as channels.
        kernel: its height and width.
        size: height and width of the image.
        dtype: "float32" or "int8"; the latter with a scale for each filter.
        depthwise: one filter a channel.

    Raises:
        BadInput: the dtype is neither.

    Example:
        pathlib.Path("c.tflite").write_bytes(convolution(64, 64, 3, 16, "int8"))
    """
    if dtype not in DTYPES:
        raise BadInput(f'a convolution of dtype "{dtype}" is not known; {" or ".join(DTYPES)}')
    random, graph = np.random.default_rng(0), _Graph()
    shape = (1, kernel, kernel, channels) if depthwise else (filters, kernel, kernel, channels)
    is_int8, filters = dtype == "int8", channels if depthwise else filters
    if is_int8:
        weights = random.integers(-127, 128, shape, np.int8)
        bias = random.integers(-1000, 1000, filters, np.int32)
    else:
        weights = random.standard_normal(shape, np.float32)
        bias = random.standard_normal(filters, np.float32)
    scales = [_WEIGHT_SCALE] * filters if is_int8 else ()
    products = [_IN_SCALE * _WEIGHT_SCALE] * filters if is_int8 else ()
    reads = (
        graph.tensor((1, size, size, channels), dtype, scales=(_IN_SCALE,) * is_int8),
        graph.tensor(shape, dtype, weights, scales, 3 if depthwise else 0),
        graph.tensor((filters,), "int32" if is_int8 else dtype, bias, products),
    )
    written = graph.tensor((1, size, size, filters), dtype, scales=(_OUT_SCALE,) * is_int8)
    options = {"strideH": 1, "strideW": 1}
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    if depthwise:
        options["depthMultiplier"] = 1
    graph.operator(kind, reads, (written,), **options)
    return graph.content((reads[0],), (written,))


def copies(length: int, count: int) -> bytes:
    """A .tflite whose operators each read an array of float32 and write another, one after another.

    Args:
        length: of the arrays, in numbers.
        count: of operators: absolute value and negation in turns, which nothing can make one.

    Example:
        copies(1 << 20, 8)  # moves 8 times 8 MB
    """
    graph = _Graph()
    arrays = [graph.tensor((1, length), "float32") for _ in range(count + 1)]
    for number in range(count):
        graph.operator(
            ("ABS", "NEG")[number % 2], arrays[number : number + 1], arrays[number + 1 :][:1]
        )
    return graph.content(arrays[:1], arrays[-1:])
