"""Small .tflite files written by hand with the schema, for what no converter would write."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FLOAT32, BOOL = schema.TensorType.FLOAT32, schema.TensorType.BOOL


def one_operator(
    path, *, builtin=None, custom=None, options=None, kind=0, shape=(1,), signature=None,
    dtype=FLOAT32, reads=(0,),
):  # fmt: skip
    """A model with one operator that turns tensor 0 into tensor 1 of the same shape and type."""

    def tensor(name):
        made = schema.TensorT()
        made.name, made.type, made.buffer = name, dtype, 0
        made.shape = np.array(shape, np.int32)
        made.shapeSignature = None if signature is None else np.array(signature, np.int32)
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.CUSTOM if custom else builtin
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.customCode, code.version = custom, 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.builtinOptions, operator.builtinOptionsType = 0, options, kind
    operator.inputs, operator.outputs = np.array(reads, np.int32), np.array([1], np.int32)
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [tensor(b"in"), tensor(b"out")], [operator]
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([1], np.int32)
    model = schema.ModelT()
    model.version, model.buffers = 3, [schema.BufferT()]
    model.subgraphs, model.operatorCodes = [graph], [code]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def aborting(path):
    """A valid file that ends the process: an IF whose branches are the graph that it stands in."""
    options = schema.IfOptionsT()
    options.thenSubgraphIndex = options.elseSubgraphIndex = 0
    return one_operator(
        path, builtin=schema.BuiltinOperator.IF, options=options, kind=schema.BuiltinOptions.IfOptions,
        dtype=BOOL, reads=(0, 0),
    )  # fmt: skip


def with_custom_operator(path, name=b"Landmarks"):
    """A file that needs an operator LiteRT does not have."""
    return one_operator(path, custom=name)


def relu(path, shape, signature=None):
    """A file that computes max(x, 0); -1 in the signature is an open size."""
    return one_operator(path, builtin=schema.BuiltinOperator.RELU, shape=shape, signature=signature)
