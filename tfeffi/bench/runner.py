"""Times a .tflite: a program of its own, for this machine or a device it is pushed to.

It imports nothing but numpy and ai_edge_litert. `python runner.py REQUEST` with REQUEST in JSON:

    model: path; threads; warmup_runs: how many are not counted, the first one included;
    min_runs, min_seconds: it times until both are reached;
    shapes: null, or one shape an input
    cpus: the processors that it may use; xnnpack: false forbids it; delegate: path of a library with
    one. Each may be absent.

The last line of its standard output is JSON: the times in ms, or {"error": text}. Memory is what the
kernel says of this process: `peak_kb` its peak of resident memory (VmHWM), with Python, numpy and
LiteRT; `model_kb` what of it came with the model. LiteRT's own start is not the model's: a model of
one operator runs first, before the memory is read and the clock is started.
"""

import base64
import gc
import importlib.metadata
import json
import os
import platform
import sys
import time

import numpy as np

MOST_RUNS = 1_000_000  # a model of a microsecond would else fill the memory with its times

# One RELU on one number, a .tflite of 276 bytes.
WARM_UP = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA0AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAM"
    "ABQAEAAMAAgABAAMAAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEA"
    "AAABAAAAAAAAAAEAAAABAAAAAQAAAAAAAAACAAAAMAAAAAQAAADk////CAAAAAwAAAADAAAAb3V0AAEAAAABAAAADAAM"
    "AAgAAAAAAAQADAAAAAgAAAAMAAAAAgAAAGluAAABAAAAAQAAAAEAAAAQAAAADAAMAAsAAAAAAAQADAAAABMAAAAAAAAT"
)


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
            raise ValueError(
                f"its input {detail['name']} has the open shape {signature}: say which, input_shapes or "
                "--input_shape=1x224x224x3"
            )
        return [1 if size == -1 else size for size in signature]
    if len(wanted) != len(signature) or any(
        given < 1 or size not in (-1, given) for size, given in zip(signature, wanted, strict=True)
    ):
        raise ValueError(f"its input {detail['name']} has the shape {signature}, not {wanted}")
    return list(wanted)


def on(cpus):
    """Keeps this process, and the threads that it will start, on some processors."""
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, AttributeError) as error:
        raise ValueError(f"the processors {cpus} cannot be had: {error}") from error
    if os.sched_getaffinity(0) != set(cpus):
        raise ValueError(
            f"of the processors {cpus} only {sorted(os.sched_getaffinity(0))} can be had"
        )


def chosen(request):
    """The further arguments of the interpreter that the request asks for."""
    from ai_edge_litert import interpreter

    arguments = {}
    if request.get("xnnpack") is False:
        kernels = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        arguments["experimental_op_resolver_type"] = kernels
    if request.get("delegate"):
        try:
            arguments["experimental_delegates"] = [interpreter.load_delegate(request["delegate"])]
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the delegate {request['delegate']} does not load: {error}"
            ) from error
    return arguments


def loaded(model, threads, **arguments):
    """The model, with an external delegate applied, but not yet XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    content = {"model_content": model} if isinstance(model, bytes) else {"model_path": model}
    return Interpreter(**content, num_threads=threads, **arguments)


def opened(model, threads, shapes):
    """The model with its shapes set and its memory allocated: all that an app waits for."""
    return allocated(loaded(model, threads), shapes)


def delegated(interpreter, library):
    """How much of a loaded model the delegate took: "completely" or "partially".

    The list of operators keeps those that were replaced: what still runs is what the outputs need.
    """
    operators = interpreter._get_ops_details()
    taken = [one for one in operators if one["op_name"] == "DELEGATE"]
    if not taken:
        raise ValueError(f"the delegate {library} took no operator: all would run on the CPU")
    makers = {tensor: one for one in (*operators, *taken) for tensor in one["outputs"].tolist()}
    needed, seen = [detail["index"] for detail in interpreter.get_output_details()], set()
    while needed:
        tensor = needed.pop()
        if tensor in seen or tensor not in makers:
            continue
        seen.add(tensor)
        if makers[tensor]["op_name"] != "DELEGATE":
            return "partially"
        needed += makers[tensor]["inputs"].tolist()
    return "completely"


def allocated(interpreter, shapes):
    """A loaded model with its shapes set and its memory allocated."""
    details = interpreter.get_input_details()
    if shapes is not None and len(shapes) != len(details):
        raise ValueError(f"it has {len(details)} inputs, {len(shapes)} shapes were given")
    for number, detail in enumerate(details):
        shape = static_shape(detail, shapes[number] if shapes else None)
        if shape != [int(size) for size in detail["shape"]]:
            interpreter.resize_tensor_input(detail["index"], shape)
    interpreter.allocate_tensors()
    return interpreter


def fill(interpreter, random):
    """Gives every input random values, drawn where they lie: copies would count as the model's."""
    for detail in interpreter.get_input_details():
        dtype = np.dtype(detail["dtype"])
        held = interpreter.tensor(detail["index"])()
        if dtype == np.float32:
            random.random(out=held, dtype=np.float32)
        elif dtype.kind == "f":
            held[...] = random.random(held.shape)
        elif dtype.itemsize == 1 and dtype.kind in "iu":
            limits = np.iinfo(dtype)
            held[...] = random.integers(limits.min, limits.max, held.shape, dtype, endpoint=True)
        else:  # indices, lengths, flags: only small ones are valid everywhere
            held[...] = 0


def warmed(invoke, runs):
    """Runs that are not counted; the seconds of the first one."""
    start = time.perf_counter()
    invoke()
    first = time.perf_counter() - start
    for _ in range(runs - 1):
        invoke()
    return first


def timed(invoke, min_runs, min_seconds):
    """The seconds of each run, until both limits are reached."""
    clock, times = time.perf_counter, []
    gc.disable()  # a collection would be counted as the model's
    begin = clock()
    while (len(times) < min_runs or clock() - begin < min_seconds) and len(times) < MOST_RUNS:
        start = clock()
        invoke()
        times.append(clock() - start)
    gc.enable()
    return times


def summary(times):
    """Seconds as statistics in ms; percentiles lie between the two nearest times."""
    milliseconds = np.asarray(times) * 1e3
    p50, p90 = np.percentile(milliseconds, (50, 90))
    return {
        "runs": len(times),
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "mean_ms": float(milliseconds.mean()),
        "std_ms": float(milliseconds.std()),
        "min_ms": float(milliseconds.min()),
        "max_ms": float(milliseconds.max()),
    }


def memory():
    """The resident memory of this process and its peak so far, in KB."""
    return memory_kb("VmRSS"), memory_kb("VmHWM")


def grown_kb(before, after):
    """By how much the memory grew at most: the new peak, if there was one, less what was there."""
    if None in (*before, *after):
        return None
    return max(0, (after[1] if after[1] > before[1] else after[0]) - before[0])


def run(request):
    """Opens the model, times it, and sums up."""
    random = np.random.default_rng(0)
    if request.get("cpus"):
        on(request["cpus"])
    arguments = chosen(request)
    clock, library = time.perf_counter, request.get("delegate")
    trivial = opened(WARM_UP, request["threads"], None)
    fill(trivial, random)
    trivial.invoke()
    before = memory()
    start = clock()
    interpreter = loaded(request["model"], request["threads"], **arguments)
    initialized = clock() - start
    taken = delegated(interpreter, library) if library else None
    start = clock()
    allocated(interpreter, request["shapes"])
    initialized += clock() - start
    fill(interpreter, random)
    first = warmed(interpreter.invoke, request["warmup_runs"])
    after = memory()  # later the list of times would be among it
    times = timed(interpreter.invoke, request["min_runs"], request["min_seconds"])
    answer = {
        **summary(times),
        "first_ms": first * 1e3,
        "init_ms": initialized * 1e3,
        "model_kb": grown_kb(before, after),
        "peak_kb": after[1],
        "engine": "LiteRT " + importlib.metadata.version("ai-edge-litert"),
        "cpu": name if (name := cpu_name()) != platform.machine() else None,
        "cores": os.cpu_count(),
        "delegated": taken,
        "machine": platform.machine(),
    }
    return {name: value for name, value in answer.items() if value is not None}


if __name__ == "__main__":
    try:
        answer = run(json.loads(sys.argv[1]))
    except Exception as error:  # whatever it is, the caller gets it as text
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(json.dumps(answer))
