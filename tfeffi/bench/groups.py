"""What a .tflite runs, piece by piece: operators that run as one, each as a file of its own.

The converter folds batch normalization and activations into an operator, so that the file's operators
are the pieces. Two kinds go further: padding with zeros right before the only convolution that reads
it (XNNPACK pads while it convolves), and operators that only unpack weights (once, before the first
run). Both belong to the operator that they serve.

A piece is timed in copies side by side, as many as fill the memory that the whole model goes through:
in a large model, weights and outputs have left the cache by the time they are needed again, and a
piece alone would never see that.
"""

import copy
import dataclasses
import functools
import struct

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfeffi.errors import BadInput
from tfeffi.export.flatbuffer import IDENTIFIER, ModelError, editable

LEAST_MEMORY = 1 << 16  # bytes; below, it is all in the first cache
MOST_COPIES = 64
_KERNELS = {
    "CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "CONV_3D": 2, "TRANSPOSE_CONV": 3,
}  # fmt: skip  # how many inputs come before the bias, which takes no time
_BRANCHES = ("IF", "WHILE", "CALL_ONCE")
_CLAMPS = (0, 1, 2, 3)  # none, ReLU, ReLU in [-1, 1], ReLU6: the same kernel with other limits
_PADDED = ("CONV_2D", "DEPTHWISE_CONV_2D")
_WIDTH = {"float16": 2, "bfloat16": 2, "int16": 2, "int64": 8, "float64": 8, "int8": 1, "uint8": 1,
          "bool": 1, "int4": 0.5}  # fmt: skip  # others: 4 bytes


@dataclasses.dataclass(frozen=True)
class Group:
    """Operators that run as one.

    Attributes:
        kind: their names in the schema, "PAD + CONV_2D".
        key: those with the type and shape of all they read and write, constants with a star, and
            what else they are told, such as strides: what takes the same time has the same.
        places: in the file's graph.
        weight_bytes: of the constants.
        input_bytes, output_bytes: of the activations.
    """

    kind: str
    key: str
    places: tuple[int, ...]
    weight_bytes: int
    input_bytes: int
    output_bytes: int


class Program:
    """The groups of a .tflite, in its order.

    Args:
        content: of the file.

    Raises:
        ModelError: it is damaged, has control flow, or leaves a shape other than the batch open.

    Example:
        program = Program(flatbuffer.read("m.tflite"))
        file = program.alone(program.groups[0], copies=4)
    """

    def __init__(self, content: bytes):
        try:
            self._model = editable(content)
            self._graph = self._model.subgraphs[0]
        except (struct.error, IndexError, ValueError, TypeError, AttributeError) as error:
            raise ModelError("the file is damaged or cut short; export it again") from error
        if len(self._model.subgraphs) != 1:
            raise ModelError(
                f"the file has {len(self._model.subgraphs)} graphs (loops, branches): which of them "
                "runs is not known beforehand; time it as a whole"
            )
        if jumps := [name for o in self._graph.operators if (name := self._name(o)) in _BRANCHES]:
            raise ModelError(f"the file has control flow ({jumps[0]}); time it as a whole")
        for tensor in self._graph.tensors:
            _check_closed(tensor)
        self.groups = tuple(self._group(places) for places in self._together())

    @property
    def memory(self) -> int:
        """The bytes that one inference goes through: all weights, and the largest activations."""
        most = max((group.input_bytes + group.output_bytes for group in self.groups), default=0)
        return sum(group.weight_bytes for group in self.groups) + most

    def alone(self, group: Group, copies: int) -> bytes:
        """A .tflite of nothing but copies of a group, side by side on the same input.

        The copies share what is stored, to keep the file small; XNNPACK packs weights for each.
        """
        made = _Made(self._model)
        for _ in range(copies):
            made.add([self._graph.operators[place] for place in group.places])
        return made.content()

    def _together(self) -> list[list[int]]:
        """The operators by their places, those that run as one together."""
        readers: dict[int, list[int]] = {}
        for place, operator in enumerate(self._graph.operators):
            for tensor in _indices(operator.inputs):
                readers.setdefault(tensor, []).append(place)
        found, waiting = [], {}  # waiting: what makes a tensor, until its reader comes
        for place, operator in enumerate(self._graph.operators):
            before = [p for tensor in _indices(operator.inputs) for p in waiting.get(tensor, ())]
            group = [*dict.fromkeys(before), place]
            made = _indices(operator.outputs)
            if self._serves(operator, made, readers):
                waiting |= dict.fromkeys(made, group)
            else:
                found.append(group)
        return found

    def _serves(self, operator, made: list[int], readers) -> bool:
        """Whether an operator is part of the one that reads what it makes."""
        if not any(self._is_activation(tensor) for tensor in _indices(operator.inputs)):
            return True
        after = [place for tensor in made for place in readers.get(tensor, ())]
        if self._name(operator) != "PAD" or len(after) != 1:
            return False
        reader = self._graph.operators[after[0]]
        return self._name(reader) in _PADDED and reader.builtinOptions.padding == 1  # VALID

    def _is_activation(self, tensor: int) -> bool:
        return tensor in self._activations

    @functools.cached_property
    def _activations(self) -> frozenset[int]:
        """The tensors that depend on an input of the graph."""
        found = set(map(int, self._graph.inputs))
        for operator in self._graph.operators:
            if found.intersection(_indices(operator.inputs)):
                found.update(_indices(operator.outputs))
        return frozenset(found)

    def _group(self, places: list[int]) -> Group:
        operators = [self._graph.operators[place] for place in places]
        inside = {tensor for one in operators for tensor in _indices(one.outputs)}
        read = {tensor for one in operators for tensor in _indices(one.inputs)} - inside
        sizes = {tensor: _bytes(self._graph.tensors[tensor]) for tensor in read}
        return Group(
            kind=" + ".join(self._name(one) for one in operators),
            key=" + ".join(self._key(one) for one in operators),
            places=tuple(places),
            weight_bytes=sum(s for t, s in sizes.items() if not self._is_activation(t)),
            input_bytes=sum(s for t, s in sizes.items() if self._is_activation(t)),
            output_bytes=sum(
                _bytes(self._graph.tensors[t]) for t in _indices(operators[-1].outputs)
            ),
        )

    def _name(self, operator) -> str:
        code = self._model.operatorCodes[operator.opcodeIndex]
        name = _names("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]
        return f"CUSTOM {code.customCode.decode()}" if name == "CUSTOM" else name

    def _key(self, operator) -> str:
        name = self._name(operator)
        inputs = list(map(int, operator.inputs))[: _KERNELS.get(name)]
        read = ", ".join(self._described(tensor, name) for tensor in inputs)
        made = ", ".join(self._described(tensor, name) for tensor in map(int, operator.outputs))
        options = dict(vars(operator.builtinOptions)) if operator.builtinOptions else {}
        if options.get("fusedActivationFunction") in _CLAMPS:
            del options["fusedActivationFunction"]
        told = [f"{option} {_plain(v)}" for option, v in sorted(options.items()) if np.any(v)]
        return f"{name}({read}) -> {made}" + (f" [{', '.join(told)}]" if told else "")

    def _described(self, number: int, reader: str) -> str:
        """A tensor's type and shape; of a few constant integers, which are axes or sizes, too."""
        if number < 0:
            return "-"
        tensor = self._graph.tensors[number]
        text = f"{_dtype(tensor)} {'x'.join(map(str, _shape(tensor))) or 'scalar'}"
        if self._is_activation(number):
            return text
        data = self._model.buffers[tensor.buffer].data
        if reader in _KERNELS or _dtype(tensor) != "int32" or data is None or len(data) > 64:
            return text + "*"
        return f"{text}* = {_plain(np.frombuffer(bytes(data), '<i4'))}"


class _Made:
    """A model in the making, with operators copied from another one."""

    def __init__(self, source):
        self._source, self._from = source, source.subgraphs[0]
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._graph.inputs, self._graph.outputs = [], []
        self._buffers = [schema.BufferT()]  # the first one is empty by convention
        self._kept: dict[int, int] = {}  # buffers by their number there
        self._inputs: dict[int, int] = {}

    def add(self, operators) -> None:
        """One copy; its last operator's outputs are the model's."""
        inside: dict[int, int] = {}
        for operator in operators:
            one = copy.copy(operator)
            one.inputs = [-1 if i < 0 else self._read(int(i), inside) for i in operator.inputs]
            one.outputs = [self._tensor(int(i)) for i in operator.outputs]
            inside |= dict(zip(map(int, operator.outputs), one.outputs, strict=True))
            self._graph.operators.append(one)
        self._graph.outputs += one.outputs

    def _read(self, number: int, inside: dict[int, int]) -> int:
        if number in inside:
            return inside[number]
        tensor = self._from.tensors[number]
        data = self._source.buffers[tensor.buffer].data
        if tensor.isVariable or (data is not None and len(data)):
            return self._tensor(number)
        if number not in self._inputs:
            self._inputs[number] = self._tensor(number)
            self._graph.inputs.append(self._inputs[number])
        return self._inputs[number]

    def _tensor(self, number: int) -> int:
        tensor = copy.copy(self._from.tensors[number])
        if tensor.buffer not in self._kept:
            stored = self._source.buffers[tensor.buffer]
            empty = stored.data is None or not len(stored.data)
            if not empty:
                self._buffers.append(stored)
            self._kept[tensor.buffer] = 0 if empty else len(self._buffers) - 1
        tensor.buffer, tensor.shapeSignature = self._kept[tensor.buffer], None
        tensor.name = b"t%d" % len(self._graph.tensors)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def content(self) -> bytes:
        """The flatbuffer."""
        model = schema.ModelT()
        model.version, model.operatorCodes = 3, self._source.operatorCodes
        model.subgraphs, model.buffers = [self._graph], self._buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())


def copies(group: Group, memory: int) -> int:
    """How many copies of a group go through so many bytes: 1 to 64."""
    own = max(1, group.weight_bytes + group.output_bytes)
    return min(MOST_COPIES, max(1, round(memory / own)))


def rounded(memory: int) -> int:
    """The power of two next to so many bytes: what is alike is measured once."""
    return max(LEAST_MEMORY, 1 << round(np.log2(max(1, memory))))


def _check_closed(tensor) -> None:
    signature = tensor.shapeSignature
    if signature is not None and -1 in list(signature)[1:]:
        raise BadInput(
            f"latency table: the tensor {(tensor.name or b'?').decode()} has the open shape "
            f"{_plain(signature)}; export the model with input_shape"
        )


@functools.cache
def _names(enum: str) -> dict[int, str]:
    return {n: name for name, n in vars(getattr(schema, enum)).items() if isinstance(n, int)}


def _dtype(tensor) -> str:
    return _names("TensorType")[tensor.type].lower()


def _shape(tensor) -> list[int]:
    return [] if tensor.shape is None else [int(size) for size in tensor.shape]


def _bytes(tensor) -> int:
    return int(np.prod(_shape(tensor), dtype=np.int64) * _WIDTH.get(_dtype(tensor), 4))


def _plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


def _indices(numbers) -> list[int]:
    return [int(i) for i in numbers if i >= 0]  # -1: left out
