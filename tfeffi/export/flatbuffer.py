"""What is inside a .tflite file, read from its flatbuffer without running anything.

The interpreter is native code and a bad file can end the process; reading the schema cannot.
"""

import collections
import dataclasses
import functools
import io
import os
import pathlib
import struct
import zipfile

import numpy as np

from tfeffi.errors import BadInput

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every .tflite
_DYNAMIC = -1


class ModelError(BadInput):
    """The .tflite file cannot be used."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a .tflite: shape in NHWC, None where it is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    scale: float | None = None  # real value = scale * (stored value - zero_point)
    zero_point: int | None = None

    def to_json(self) -> dict:
        """The fields that are set."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a .tflite is made of.

    Attributes:
        operators: how often each builtin operator occurs, by its name in the schema.
        custom: names of the operators that are not builtin; "Flex..." are TensorFlow's own.
        inputs, outputs: of the main graph.
        float_operators: the operators that read or write activations in floating point, but for
            those that convert to or from it; a full integer model has none.
        weight_types: the bytes of the constant tensors, by type.
        float_weights: the elements of the largest float32 constant that operators of each name
            read, biases aside.
        activation_bytes: the largest sum of activations alive at once, for batch 1: what the arena
            needs at least.
    """

    operators: dict[str, int]
    custom: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    float_operators: tuple[str, ...]
    weight_types: dict[str, int]
    float_weights: dict[str, int]
    activation_bytes: int


def inspect(path: str | os.PathLike) -> Contents:
    """Reads what a .tflite is made of.

    Args:
        path: the file.

    Returns:
        Its operators, inputs, outputs and activations.

    Raises:
        ModelError: there is no such file, or it is not a .tflite, or it is cut short.

    Example:
        inspect("m.tflite").operators  # {"CONV_2D": 3, "MEAN": 1, "FULLY_CONNECTED": 1}
    """
    content = read(path)
    try:
        return _contents(content)
    except (
        struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError,
    ) as error:  # fmt: skip
        raise ModelError(f'"{path}" is damaged or cut short; export it again') from error


def read(path: str | os.PathLike) -> bytes:
    """The bytes of a .tflite file, once it is clear that it is one."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise ModelError(f'there is no model file "{path}"')
    content = path.read_bytes()
    if content[4:8] != IDENTIFIER:
        raise ModelError(f'"{path}" is not a .tflite file (no "TFL3" mark in its first bytes)')
    return content


def zip_bytes(path: str | os.PathLike) -> int:
    """The size of the file inside a zip archive: what an app's download grows by."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(path, "model.tflite")
    with zipfile.ZipFile(archive) as file:
        return file.infolist()[0].compress_size


@functools.cache
def schema():
    """The generated module that reads and writes the format; imported when it is first needed."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@functools.cache
def _names(enum: str) -> dict[int, str]:
    values = vars(getattr(schema(), enum))
    return {value: name for name, value in values.items() if isinstance(value, int)}


def parsed(content: bytes):
    """The model of the schema in these bytes; nothing is copied."""
    return schema().Model.GetRootAs(content, 0)


def editable(content: bytes):
    """The model of the schema as objects that can be changed and packed, all constants in their buffers.

    litert-quantizer puts large ones behind the flatbuffer, where they are found by their offset.
    """
    model = schema().ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def tensors(graph) -> list[Tensor]:
    """All tensors of a graph, by index."""
    return [_tensor(graph.Tensors(i)) for i in range(graph.TensorsLength())]


def stored_bytes(model, tensor) -> int:
    """The bytes of a constant, 0 for what is computed. Large files keep them behind the model."""
    buffer = model.Buffers(tensor.Buffer())
    if buffer.Offset() <= 1:
        return buffer.DataLength()
    if buffer.Offset() + buffer.Size() > len(model._tab.Bytes):
        raise IndexError("the file ends before its constants do")
    return buffer.Size()


def stored(model, tensor) -> bytes:
    """The constant itself, empty for what is computed."""
    buffer, size = model.Buffers(tensor.Buffer()), stored_bytes(model, tensor)
    if size and buffer.Offset() > 1:
        return bytes(model._tab.Bytes[buffer.Offset() : buffer.Offset() + size])
    return buffer.DataAsNumpy().tobytes() if size else b""


def _contents(content: bytes) -> Contents:
    model = parsed(content)
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    builtin, custom = _operators(model, graphs)
    found = tensors(graphs[0])
    inputs = [int(i) for i in graphs[0].InputsAsNumpy()]
    outputs = [int(i) for i in graphs[0].OutputsAsNumpy()]
    live = lifetimes(graphs[0])
    floats = {i for i in live if found[i].dtype.startswith("float")}
    return Contents(
        operators=dict(builtin.most_common()),
        custom=tuple(sorted(custom)),
        inputs=tuple(found[i] for i in inputs),
        outputs=tuple(found[i] for i in outputs),
        float_operators=_float_operators(model, graphs[0], floats),
        weight_types=_weight_types(model, graphs, found, live),
        float_weights=_float_weights(model, graphs[0], found, live),
        activation_bytes=_peak(found, live),
    )


def _operators(model, graphs) -> tuple[collections.Counter, set[str]]:
    builtin, custom = collections.Counter(), set()
    for graph in graphs:
        for i in range(graph.OperatorsLength()):
            name, own = operator_name(model, graph.Operators(i))
            if own:
                custom.add(name)
            else:
                builtin[name] += 1
    return builtin, custom


def operator_name(model, operator) -> tuple[str, bool]:
    """An operator's name, and whether it is a custom one."""
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Codes above 127 do not fit the old field, and old files lack the new one.
    name = _names("BuiltinOperator")[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    return ((code.CustomCode() or b"?").decode(), True) if name == "CUSTOM" else (name, False)


def _float_operators(model, graph, floats: set[int]) -> tuple[str, ...]:
    names = set()
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        reads, writes = touched(operator)
        if floats.intersection((*reads, *writes)):
            names.add(operator_name(model, operator)[0])
    return tuple(sorted(names - {"QUANTIZE", "DEQUANTIZE"}))


def _tensor(tensor) -> Tensor:
    shape = tensor.ShapeSignatureAsNumpy() if tensor.ShapeSignatureLength() else None
    if shape is None:
        shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
    quantization = tensor.Quantization()
    scaled = quantization is not None and quantization.ScaleLength() == 1
    return Tensor(
        name=(tensor.Name() or b"").decode(),
        dtype=_names("TensorType")[tensor.Type()].lower(),
        shape=tuple(None if size == _DYNAMIC else int(size) for size in shape),
        scale=float(quantization.Scale(0)) if scaled else None,
        zero_point=int(quantization.ZeroPoint(0)) if scaled else None,
    )


def lifetimes(graph) -> dict[int, tuple[int, int]]:
    """The first and the last operator that need each tensor that depends on the input."""
    steps, inputs = graph.OperatorsLength(), _indices(graph.InputsAsNumpy())
    outputs = _indices(graph.OutputsAsNumpy())
    first, last = dict.fromkeys(inputs, 0), dict.fromkeys(inputs, 0)
    for step in range(steps):
        reads, writes = touched(graph.Operators(step))
        read = [i for i in reads if i in first]
        if not read:
            continue  # it unpacks weights (float16 to float32, sparse to dense)
        for i in (*writes, *read):
            first.setdefault(i, step)
            last[i] = step
    last.update({i: steps - 1 for i in outputs if i in first})
    return {i: (first[i], last[i]) for i in first}


def touched(operator) -> tuple[list[int], list[int]]:
    """The tensors that an operator reads, and those it writes."""
    return _indices(operator.InputsAsNumpy()), _indices(operator.OutputsAsNumpy())


def _indices(array) -> list[int]:
    return [] if isinstance(array, int) else [int(i) for i in array if i >= 0]  # -1: left out


def _bytes(tensor: Tensor) -> int:
    sizes = {"float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2, "int4": 0.5, "int2": 0.25}
    wide = 8 if tensor.dtype.endswith("64") else 1
    each = sizes.get(tensor.dtype, 4 if tensor.dtype.endswith("32") else wide)
    return int(np.ceil(each * np.prod([size or 1 for size in tensor.shape], dtype=np.int64)))


def _peak(tensors: list[Tensor], live: dict[int, tuple[int, int]]) -> int:
    change = collections.Counter()
    for i, (first, last) in live.items():
        change[first] += _bytes(tensors[i])
        change[last + 1] -= _bytes(tensors[i])
    return int(max(np.cumsum([change[step] for step in sorted(change)]), default=0))


def _weight_types(model, graphs, tensors: list[Tensor], live) -> dict[str, int]:
    total = collections.Counter()
    for i, tensor in enumerate(tensors):
        if i not in live and stored_bytes(model, graphs[0].Tensors(i)):
            total[tensor.dtype] += _bytes(tensor)
    return dict(total.most_common())


def _float_weights(model, graph, tensors: list[Tensor], live) -> dict[str, int]:
    largest = {}
    for step in range(graph.OperatorsLength()):
        operator = graph.Operators(step)
        name, _ = operator_name(model, operator)
        for i in _indices(operator.InputsAsNumpy())[:2]:  # the third is the bias
            constant = i not in live and stored_bytes(model, graph.Tensors(i))
            if constant and tensors[i].dtype == "float32":
                elements = _bytes(tensors[i]) // 4
                largest[name] = max(largest.get(name, 0), elements)
    return largest
