"""Runs a .tflite on arrays: a program of its own, so that a bad model ends it and not its caller.

It imports nothing but numpy and ai_edge_litert. `python execute.py REQUEST` with REQUEST in JSON:

    model: path; inputs: {name or "": path of an .npy}; outputs: folder for one .npy an output;
    threads; batch: images at once, where the model's batch is dynamic;
    divide_by: what whole-number images are divided by

The last line of its standard output is JSON: {"outputs": [names]} or {"error": text}.
"""

import json
import os
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


def run(request):
    """Runs the model over all rows of the inputs and saves the outputs."""
    from ai_edge_litert.interpreter import Interpreter

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
    return {"outputs": list(kept)}


if __name__ == "__main__":
    try:
        answer = run(json.loads(sys.argv[1]))
    except Exception as error:  # whatever it is, the caller gets it as text
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(json.dumps(answer))
