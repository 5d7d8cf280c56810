"""Runs a .tflite on arrays: a program of its own, so that a bad model ends it and not its caller.

It imports nothing but numpy and ai_edge_litert. `python execute.py REQUEST` with REQUEST in JSON:

    model: path; inputs: {name or "": path of an .npy}; outputs: folder for one .npy an output;
    threads; batch: images at once, where the model's batch is dynamic;
    divide_by: what whole-number images are divided by;
    arena: whether to measure the arena too

The last line of its standard output is JSON: {"outputs": [names]}, with "arena_bytes" if that was
asked for and could be measured, or {"error": text}.
"""

import json
import os
import signal
import sys

import numpy as np


def details(interpreter):
    """Inputs and outputs by their signature's names where the model has one, else by their own."""
    signatures = interpreter.get_signature_list()
    if signatures:
        runner = interpreter.get_signature_runner(next(iter(signatures)))
        return runner.get_input_details(), runner.get_output_details()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {d["name"]: d for d in inputs}, {d["name"]: d for d in outputs}


def is_scaled(detail):
    """Whether the tensor keeps real numbers as integers."""
    return bool(detail["quantization"][0]) and np.issubdtype(detail["dtype"], np.integer)


def stored(values, detail):
    """Real numbers as the tensor keeps them: q = round(x / scale) + zero_point."""
    scale, zero_point = detail["quantization"]
    if not is_scaled(detail):
        kept = values.astype(detail["dtype"])
        if np.issubdtype(detail["dtype"], np.integer) and not np.array_equal(kept, values):
            raise ValueError(
                f"its input takes whole numbers ({np.dtype(detail['dtype'])}) without a scale, given "
                f"were values from {values.min():.4g} to {values.max():.4g}; give stored pixels"
            )
        return kept
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(
        detail["dtype"]
    )


def real(values, detail):
    """What a tensor keeps, as real numbers: x = scale * (q - zero_point)."""
    if not is_scaled(detail):
        return values.copy()
    scale, zero_point = detail["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale)


def fit(interpreter, detail, shape):
    """Gives the input the shape of the data, where the model allows it."""
    if [int(size) for size in detail["shape"]] == shape:
        return
    signature = [int(size) for size in detail["shape_signature"]]
    if len(signature) != len(shape) or any(
        size not in (-1, wanted) for size, wanted in zip(signature, shape, strict=True)
    ):
        raise ValueError(f"the model takes the shape {signature}, given was {shape}")
    interpreter.resize_tensor_input(detail["index"], shape)


def real_rows(array, start, batch, divide_by):
    """One batch of real numbers; the last one is filled up with its last row."""
    rows = np.asarray(array[start : start + batch])
    if divide_by and np.issubdtype(rows.dtype, np.integer):
        rows = rows.astype(np.float32) / np.float32(divide_by)
    return np.pad(rows, [(0, batch - len(rows))] + [(0, 0)] * (rows.ndim - 1), "edge")


def arena_bytes(path):
    """What LiteRT's own kernels lay out in memory for one inference: activations and scratch space.

    Those of XNNPACK manage their memory by themselves. Constants lie in the file, apart from the
    tensors whose addresses are looked at here.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(path, num_threads=1, experimental_op_resolver_type=resolver)
    constant = {d["index"] for d in interpreter.get_tensor_details() if is_there(interpreter, d)}
    interpreter.allocate_tensors()
    ranges = []
    for detail in interpreter.get_tensor_details():
        if detail["index"] not in constant and (array := is_there(interpreter, detail)):
            start = array["data"][0]
            ranges.append((start, start + array["bytes"]))
    covered, end = 0, 0
    for start, stop in sorted(ranges):
        covered += max(0, stop - max(start, end))
        end = max(end, stop)
    return covered


def is_there(interpreter, detail):
    """Where a tensor lies and how long it is; None if it has no memory."""
    try:
        array = interpreter.tensor(detail["index"])()
    except (ValueError, RuntimeError):
        return None
    return {"data": array.__array_interface__["data"], "bytes": array.nbytes}


def measured_apart(path):
    """`arena_bytes` in a fork, which other kernels than the usual ones may abort; else None."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(60)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            os.write(writer, str(arena_bytes(path)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = file.read()
    os.waitpid(child, 0)
    return int(answer) if answer else None


def run(request):
    """Runs the model over all rows of the inputs and saves the outputs."""
    from ai_edge_litert.interpreter import Interpreter

    arena = measured_apart(request["model"]) if request.get("arena") else None
    interpreter = Interpreter(request["model"], num_threads=request["threads"])
    inputs, outputs = details(interpreter)
    arrays = {name or next(iter(inputs)): np.load(p, "r") for name, p in request["inputs"].items()}
    if set(arrays) != set(inputs):
        raise ValueError(f"the model's inputs are {sorted(inputs)}, given were {sorted(arrays)}")
    rows = len(next(iter(arrays.values())))
    own_batch = next(iter(inputs.values()))["shape_signature"][:1]
    batch = min(request["batch"], rows) if list(own_batch) == [-1] else int(own_batch[0])
    for name, detail in inputs.items():
        fit(interpreter, detail, [batch, *arrays[name].shape[1:]])
    interpreter.allocate_tensors()
    kept = {name: [] for name in outputs}
    for start in range(0, rows, batch):
        for name, detail in inputs.items():
            plain = np.issubdtype(detail["dtype"], np.integer) and not is_scaled(detail)
            divide_by = None if plain else request["divide_by"]  # it takes the integers themselves
            values = real_rows(arrays[name], start, batch, divide_by)
            interpreter.set_tensor(detail["index"], stored(values, detail))
        interpreter.invoke()
        for name, detail in outputs.items():
            kept[name].append(real(interpreter.get_tensor(detail["index"]), detail))
    for number, parts in enumerate(kept.values()):
        np.save(os.path.join(request["outputs"], f"{number}.npy"), np.concatenate(parts)[:rows])
    answer = {"outputs": list(kept)}
    return answer if arena is None else {**answer, "arena_bytes": arena}


if __name__ == "__main__":
    try:
        answer = run(json.loads(sys.argv[1]))
    except Exception as error:  # whatever it is, the caller gets it as text
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(json.dumps(answer))
