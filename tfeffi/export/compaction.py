"""The same .tflite in fewer bytes: equal vectors stored once, tensors within the graph without names.

The converter writes a name of up to hundreds of bytes for each tensor, and for each channel of a
quantized kernel eight bytes of a zero point that is 0. In a flatbuffer any number of tables may point
to one vector, so nothing that is computed changes.
"""

import flatbuffers
import numpy as np

from tfeffi.errors import BadInput
from tfeffi.export import flatbuffer

_ALIGNMENT, _MOST_BYTES = 16, 2**31 - 2**16


def compact(content: bytes) -> bytes:
    """The file with every vector and name stored once, names only where they are asked for.

    Inputs, outputs and signatures keep their names; operators can no longer be traced to layers.

    Args:
        content: of a .tflite.

    Returns:
        Of a .tflite with the same operators and values. Of what this gave, the same bytes again.

    Raises:
        BadInput: more than a flatbuffer can hold, 2 GiB.
    """
    if len(content) >= _MOST_BYTES:
        raise BadInput(f"compact: {len(content)} bytes are more than one flatbuffer can hold")
    model = flatbuffer.editable(content)
    for graph in model.subgraphs:
        ends = (graph.inputs, graph.outputs)  # a vector may be absent
        named = {int(number) for end in ends if end is not None for number in end}
        for number, tensor in enumerate(graph.tensors or ()):
            if number not in named:
                tensor.name = b""
    builder = _Sharing(len(content))
    builder.Finish(model.Pack(builder), flatbuffer.IDENTIFIER)
    return bytes(builder.Output())


class _Sharing(flatbuffers.Builder):
    """Writes a vector or string that it has written before as a reference to the first.

    Bytes, which are what tensors hold, begin at multiples of 16, as the schema demands.
    """

    def __init__(self, size: int):
        super().__init__(size)
        self._known = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = x.dtype.str, x.tobytes()
        if key not in self._known:
            if x.dtype == np.uint8:
                self.Prep(_ALIGNMENT, len(x))
            self._known[key] = super().CreateNumpyVector(x)
        return self._known[key]

    def CreateString(self, s, *arguments) -> int:
        if s not in self._known:
            self._known[s] = super().CreateString(s, *arguments)
        return self._known[s]
