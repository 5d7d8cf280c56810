"""Times a .tflite: a program of its own, for this machine or a device it is pushed to.

It imports nothing but numpy and ai_edge_litert. `python runner.py REQUEST` with REQUEST in JSON:

    model: path; threads; warmup_runs: how many are not counted, the first one included;
    min_runs, min_seconds: it times until both are reached;
    shapes: null, or one shape an input

The last line of its standard output is JSON: the times in ms, or {"error": text}. Memory is what the
kernel says of this process (VmHWM: its peak of resident memory), so it includes Python, numpy and
LiteRT; `rss_before_kb` is what was resident before the model was opened.
"""

import gc
import importlib.metadata
import json
import os
import platform
import sys
import time

import numpy as np

MOST_RUNS = 1_000_000  # a model of a microsecond would else fill the memory with its times


def memory_kb(field):
    """VmRSS or VmHWM of this process; None where the kernel does not tell."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


def cpu_name():
    """What the kernel calls the processor."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith(("model name", "Hardware")):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def static_shape(detail, wanted):
    """The shape an input is run with: the model's own, or the one asked for where it is open."""
    signature = [int(size) for size in detail["shape_signature"]]
    if wanted is None:
        if -1 in signature[1:]:
            raise ValueError(f"its input {detail['name']} has the open shape {signature}: give one")
        return [1 if size == -1 else size for size in signature]
    if len(wanted) != len(signature) or any(
        size not in (-1, given) for size, given in zip(signature, wanted, strict=True)
    ):
        raise ValueError(f"its input {detail['name']} has the shape {signature}, not {wanted}")
    return list(wanted)


def fill(interpreter, shapes):
    """Sets the shapes, allocates, and gives every input random values, the same ones each time."""
    details = interpreter.get_input_details()
    if shapes is not None and len(shapes) != len(details):
        raise ValueError(f"it has {len(details)} inputs, {len(shapes)} shapes were given")
    for number, detail in enumerate(details):
        shape = static_shape(detail, shapes[number] if shapes else None)
        if shape != [int(size) for size in detail["shape"]]:
            interpreter.resize_tensor_input(detail["index"], shape)
    interpreter.allocate_tensors()
    random = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        dtype = np.dtype(detail["dtype"])
        if dtype.kind == "f":
            values = random.random(detail["shape"]).astype(dtype)
        elif dtype.itemsize == 1 and dtype.kind in "iu":
            limits = np.iinfo(dtype)
            values = random.integers(limits.min, limits.max, detail["shape"], dtype, endpoint=True)
        else:  # indices, lengths, flags: only small ones are valid everywhere
            values = np.zeros(detail["shape"], dtype)
        interpreter.set_tensor(detail["index"], values)


def timed(invoke, warmup_runs, min_runs, min_seconds):
    """The seconds of the first run, and of the runs after the warm-up."""
    clock = time.perf_counter
    start = clock()
    invoke()
    first = clock() - start
    for _ in range(warmup_runs - 1):
        invoke()
    times = []
    gc.disable()  # a collection would be counted as the model's
    begin = clock()
    while (len(times) < min_runs or clock() - begin < min_seconds) and len(times) < MOST_RUNS:
        start = clock()
        invoke()
        times.append(clock() - start)
    gc.enable()
    return first, times


def run(request):
    """Opens the model, times it, and sums up."""
    from ai_edge_litert.interpreter import Interpreter

    before = memory_kb("VmRSS")
    start = time.perf_counter()
    interpreter = Interpreter(request["model"], num_threads=request["threads"])
    fill(interpreter, request["shapes"])
    initialized = time.perf_counter() - start
    first, times = timed(
        interpreter.invoke, request["warmup_runs"], request["min_runs"], request["min_seconds"]
    )
    milliseconds = np.asarray(times) * 1e3
    p50, p90 = np.percentile(milliseconds, (50, 90))
    answer = {
        "runs": len(times),
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "mean_ms": float(milliseconds.mean()),
        "std_ms": float(milliseconds.std()),
        "min_ms": float(milliseconds.min()),
        "max_ms": float(milliseconds.max()),
        "first_ms": first * 1e3,
        "init_ms": initialized * 1e3,
        "rss_before_kb": before,
        "peak_kb": memory_kb("VmHWM"),
        "engine": "LiteRT " + importlib.metadata.version("ai-edge-litert"),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    return {name: value for name, value in answer.items() if value is not None}


if __name__ == "__main__":
    try:
        answer = run(json.loads(sys.argv[1]))
    except Exception as error:  # whatever it is, the caller gets it as text
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(json.dumps(answer))
