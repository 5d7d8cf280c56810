"""A device whose clock ticks once a multiply-add: latencies that can be computed by hand.

`macs:FILE` appends a line to FILE for every measurement. A million multiply-adds take a millisecond.
"""

import math
import pathlib

from ai_edge_litert import schema_py_generated as schema

KERNELS = {
    schema.BuiltinOperator.CONV_2D: lambda filters: math.prod(filters[1:]),
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: lambda filters: math.prod(filters[1:3]),
    schema.BuiltinOperator.FULLY_CONNECTED: lambda filters: filters[1],
}


def macs(content: bytes) -> int:
    """The multiply-adds of a .tflite, from the shapes in its flatbuffer."""
    model = schema.Model.GetRootAs(content, 0)
    graph, total = model.Subgraphs(0), 0
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        if code in KERNELS:
            filters = graph.Tensors(operator.Inputs(1)).ShapeAsNumpy().tolist()
            outputs = graph.Tensors(operator.Outputs(0)).ShapeAsNumpy().tolist()
            total += math.prod(outputs) * KERNELS[code](filters)
    return total


def measure(path, request, where, timeout):
    """As `tfeffi.bench.devices` says."""
    if where:
        with open(where, "a") as log:
            log.write(f"{path}\n")
    ms = macs(pathlib.Path(path).read_bytes()) * 1e-6
    keys = ("p50_ms", "p90_ms", "mean_ms", "min_ms", "max_ms", "first_ms")
    return {
        **dict.fromkeys(keys, ms), "std_ms": 0.0, "init_ms": 0.0, "runs": request["min_runs"],
        "engine": "abacus 1", "cpu": "beads", "machine": "wood", "cores": 1,
    }  # fmt: skip
