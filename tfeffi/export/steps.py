"""The operators of a .tflite one by one, in the order in which they run."""

import dataclasses

from tfeffi.export import flatbuffer

_KERNEL = 1  # every operator with weights reads them second


@dataclasses.dataclass(frozen=True)
class Step:
    """One operator of the main graph.

    Attributes:
        operator: its name in the schema.
        outputs: names of the tensors it writes.
        kernel_name, kernel_type, kernel_shape: of the constant it reads second (the weights of
            convolutions and dense layers, unpacked or not); None if that is no constant.
        activations: the types of the tensors it reads and writes that depend on the input.
        sources: indices of the steps whose outputs it reads.
        is_output: whether the model gives out what it writes, as which outputs.
    """

    operator: str
    outputs: tuple[str, ...]
    kernel_name: str | None
    kernel_type: str | None
    kernel_shape: tuple[int, ...] | None
    activations: tuple[str, ...]
    sources: tuple[int, ...]
    is_output: tuple[int, ...]


def read(content: bytes) -> tuple[Step, ...]:
    """The steps of a .tflite's main graph.

    Args:
        content: of the file.

    Example:
        [step.operator for step in read(path.read_bytes())]  # ["CONV_2D", "MEAN", ...]
    """
    model = flatbuffer.parsed(content)
    graph = model.Subgraphs(0)
    tensors = flatbuffer.tensors(graph)
    live = flatbuffer.lifetimes(graph)
    outputs = [int(i) for i in graph.OutputsAsNumpy()]
    writer, unpacked, steps = {}, {}, []
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        reads, writes = flatbuffer.touched(operator)
        name = flatbuffer.operator_name(model, operator)[0]
        if name == "DEQUANTIZE" and reads[0] not in live:
            unpacked[writes[0]] = reads[0]  # weights, for an operator that computes in float
        writer.update(dict.fromkeys(writes, number))
        kernel = _kernel(model, graph, operator, live, unpacked)
        steps.append(
            Step(
                operator=name,
                outputs=tuple(tensors[i].name for i in writes),
                kernel_name=None if kernel is None else tensors[kernel].name,
                kernel_type=None if kernel is None else tensors[kernel].dtype,
                kernel_shape=None if kernel is None else tensors[kernel].shape,
                activations=tuple(sorted({tensors[i].dtype for i in (*reads, *writes) if i in live})),
                sources=tuple(sorted({writer[i] for i in reads if i in writer and i in live})),
                is_output=tuple(k for k, i in enumerate(outputs) if i in writes),
            )
        )  # fmt: skip
    return tuple(steps)


def _kernel(model, graph, operator, live, unpacked) -> int | None:
    """The tensor that keeps the operator's weights."""
    inputs = operator.InputsAsNumpy() if operator.InputsLength() > _KERNEL else ()
    if not len(inputs) or inputs[_KERNEL] < 0:
        return None
    found = unpacked.get(int(inputs[_KERNEL]), int(inputs[_KERNEL]))
    stored = flatbuffer.stored_bytes(model, graph.Tensors(found))
    return found if found not in live and stored else None
