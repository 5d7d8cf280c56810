"""Times every operator of a .tflite: a program of its own, so that a bad model ends it, not its caller.

It calls LiteRT's C API in the `libLiteRt.so` of the ai-edge-litert package, whose layout it knows
for the versions in KNOWN only. `python profile_runner.py REQUEST` with REQUEST in JSON:

    model: path; threads; shapes: one an input, or null; warmup_runs; min_runs; min_seconds;
    references: {name: path} of files whose fastest run is wanted too

The last line of its standard output is JSON, {"events": [[name, kind, index], ...], "us": [[each
event's microseconds] a run], "invoke_us": [one a run], "summary": what LiteRT itself says of the first
runs, "summary_us": the sum of their events, "shapes": of all tensors, "fastest_ms": of the references,
"engine", "cpu"} or {"error": text}.
"""

import contextlib
import ctypes
import importlib.metadata
import json
import os
import sys
import time

import numpy as np
import runner  # beside this file: what runs alone has no package

KNOWN = ("2.3.",)  # versions whose structures and calls are these
MOST_EVENTS = 2000  # that the profiler is asked to keep at a time
OPERATOR, DELEGATED = 1 << 1, 1 << 3  # kinds of events: of a builtin kernel, of a delegate's kernel
CPU, HOST_MEMORY, FOR_WRITING = 1, 1, 1
POINTER, SIZE = ctypes.c_void_p, ctypes.c_size_t
NOTHING_TO_FREE = ctypes.CFUNCTYPE(None, POINTER)(lambda _: None)


class Layout(ctypes.Structure):
    """LiteRtLayout: a shape, -1 where it is open."""

    _fields_ = (
        ("rank", ctypes.c_uint32, 7), ("strided", ctypes.c_uint32, 1),
        ("shape", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8),
    )  # fmt: skip


class TensorType(ctypes.Structure):
    """LiteRtRankedTensorType: what a tensor holds, and its layout."""

    _fields_ = (("element", ctypes.c_int32), ("layout", Layout))


class Memory(ctypes.Structure):
    """What an event says of memory, which is not asked for."""

    _fields_ = (("footprint", ctypes.c_int64), ("allocated", SIZE), ("used", SIZE))


class Event(ctypes.Structure):
    """ProfiledEventData: `index` is the operator's, or the kernel's in its delegate."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("kind", ctypes.c_int), ("start_us", ctypes.c_uint64),
        ("us", ctypes.c_uint64), ("before", Memory), ("after", Memory), ("index", ctypes.c_uint64),
        ("graph", ctypes.c_uint64), ("source", ctypes.c_int),
    )  # fmt: skip


def library():
    """LiteRT's C API, if its version is one that is known here."""
    version = importlib.metadata.version("ai-edge-litert")
    if not version.startswith(KNOWN):
        wanted = " or ".join(f"{known}*" for known in KNOWN)
        raise ValueError(
            f"profiling knows the C API of ai-edge-litert {wanted}, not of {version}: install that"
        )
    import ai_edge_litert

    folder = os.path.dirname(ai_edge_litert.__file__)
    return ctypes.CDLL(os.path.join(folder, "libLiteRt.so"))


class Api:
    """Calls by name without the "LiteRt" in front; a status other than 0 is an error."""

    def __init__(self):
        self._library = library()
        self._kept = []  # what LiteRT keeps pointers to

    def __call__(self, name, *arguments):
        status = getattr(self._library, f"LiteRt{name}")(*arguments)
        if status:
            raise RuntimeError(f"LiteRt{name} failed with status {status}")

    def made(self, name, *arguments, kind=POINTER):
        """What a call writes into its last argument."""
        result = kind()
        self(name, *arguments, ctypes.byref(result))
        return result

    def add_option(self, options, name, text):
        """Adds a setting in the text form that the library reads back."""
        content = ctypes.create_string_buffer(text.encode())
        self._kept.append(content)
        pointer = ctypes.cast(content, POINTER)
        made = self.made("CreateOpaqueOptions", name.encode(), pointer, NOTHING_TO_FREE)
        self("AddOpaqueOptions", options, made)


class Profiled:
    """A compiled model with its buffers and its profiler.

    Args:
        path: the file.
        threads: of XNNPACK.
        inputs, outputs: by name of the tensor, an array of the shape and type that it has.
    """

    def __init__(self, path, threads, inputs, outputs):
        self.api = api = Api()
        self._environment = api.made("CreateEnvironment", 0, None)
        content = api.made("CreateModelFromFile", self._environment, os.fsencode(path))
        options = api.made("CreateOptions")
        api("SetOptionsHardwareAccelerators", options, CPU)
        api.add_option(options, "runtime_options_string", "enable_profiling = true")
        api.add_option(options, "xnnpack", f"num_threads = {threads}")
        self.model = api.made("CreateCompiledModel", self._environment, content, options)
        self._signature = api.made("GetModelSignature", content, SIZE(0))
        self._inputs = self._buffers("Input", inputs)
        layouts, count = (
            (Layout * len(outputs))(),
            SIZE(len(outputs)),
        )  # makes it work out new shapes
        api("GetCompiledModelOutputTensorLayouts", self.model, SIZE(0), count, layouts, True)
        self._outputs = self._buffers("Output", outputs)
        self.profiler = api.made("CompiledModelGetProfiler", self.model)

    def _buffers(self, side, arrays):
        """One buffer for each input, or output, of the signature; what an input holds is written."""
        api = self.api
        count = api.made(f"GetNumSignature{side}s", self._signature, kind=SIZE).value
        buffers = (POINTER * count)()
        for number in range(count):
            at = SIZE(number)
            tensor = api.made(f"GetSignature{side}TensorByIndex", self._signature, at)
            name = api.made("GetTensorName", tensor, kind=ctypes.c_char_p).value.decode()
            kind = api.made("GetRankedTensorType", tensor, kind=TensorType)
            array = arrays[name]
            stored = [1 if size < 0 else size for size in kind.layout.shape[: kind.layout.rank]]
            if side == "Input" and stored != list(array.shape):
                sizes = (ctypes.c_int * array.ndim)(*array.shape)
                api("CompiledModelResizeInputTensorNonStrict", self.model, SIZE(0), at, sizes,
                    SIZE(array.ndim))  # fmt: skip
            kind.layout.shape[: kind.layout.rank] = array.shape
            needs = api.made(f"GetCompiledModel{side}BufferRequirements", self.model, SIZE(0), at)
            size = api.made("GetTensorBufferRequirementsBufferSize", needs, kind=SIZE)
            buffers[number] = api.made(
                "CreateManagedTensorBuffer",
                self._environment,
                HOST_MEMORY,
                ctypes.byref(kind),
                size,
            )
            if side == "Input":
                self._write(POINTER(buffers[number]), array, size.value)
        return buffers

    def _write(self, buffer, array, size):
        place = POINTER()
        self.api("LockTensorBuffer", buffer, ctypes.byref(place), FOR_WRITING)
        content = array.tobytes()
        ctypes.memmove(place, content, min(len(content), size))
        self.api("UnlockTensorBuffer", buffer)

    def run(self, times):
        """Runs the model."""
        inputs, outputs = self._inputs, self._outputs
        for _ in range(times):
            self.api("RunCompiledModel", self.model, SIZE(0), SIZE(len(inputs)), inputs,
                     SIZE(len(outputs)), outputs)  # fmt: skip

    def events(self, times):
        """The events of some runs: (name, kind, index, graph, microseconds)."""
        api = self.api
        api("ResetProfiler", self.profiler)
        api("StartProfiler", self.profiler)
        self.run(times)
        api("StopProfiler", self.profiler)
        count = api.made("GetNumProfilerEvents", self.profiler, kind=ctypes.c_int).value
        found = (Event * count)()
        api("GetProfilerEvents", self.profiler, count, found)
        return [(e.name.decode(), e.kind, e.index, e.graph, e.us) for e in found]

    def summary(self):
        """What LiteRT prints of the runs since the profiler was reset."""
        text = self.api.made("GetProfileSummary", self.profiler, self.model, kind=ctypes.c_char_p)
        return text.value.decode()


def runs_of(events):
    """Single runs among the events: pairs (microseconds of all, its operators' events)."""
    runs = []
    for event in events:
        name, kind, _, _, us = event
        if name == "Invoke" and kind == 1:
            runs.append((us, []))
        elif kind in (OPERATOR, DELEGATED) and runs:
            runs[-1][1].append(event)
    return runs


def opened(request):
    """The model, and the shapes of its tensors as LiteRT's interpreter works them out."""
    interpreter = runner.opened(request["model"], request["threads"], request["shapes"])
    runner.fill(interpreter, np.random.default_rng(0))
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    shapes = {
        int(tensor["index"]): [int(size) for size in tensor["shape"]]
        for tensor in interpreter.get_tensor_details()
    }
    model = Profiled(
        request["model"],
        request["threads"],
        {tensor["name"]: interpreter.get_tensor(tensor["index"]) for tensor in inputs},
        {tensor["name"]: np.empty(tensor["shape"], tensor["dtype"]) for tensor in outputs},
    )
    return model, shapes


def fastest_ms(path, threads):
    """The fastest run of a model in some tenths of a second: what the machine can do, undisturbed."""
    interpreter = runner.opened(path, threads, None)
    runner.fill(interpreter, np.random.default_rng(0))
    runner.warmed(interpreter.invoke, 2)
    return 1e3 * min(runner.timed(interpreter.invoke, 5, 0.15))


def run(request):
    """Opens the model, warms up, and collects the events of single runs."""
    model, shapes = opened(request)
    model.run(request["warmup_runs"])
    first = model.events(1)
    of_one = len(first)
    summary = model.summary()
    runs, begin = [], time.perf_counter()
    while (
        len(runs) < request["min_runs"] or time.perf_counter() - begin < request["min_seconds"]
    ) and len(runs) < runner.MOST_RUNS:
        missing = max(1, request["min_runs"] - len(runs))
        runs += runs_of(model.events(min(max(1, MOST_EVENTS // of_one), missing, 100)))
    names = [event[:4] for event in runs[0][1]]
    if any([event[:4] for event in events] != names for _, events in runs):
        raise ValueError("its operators differ from run to run, so that they have no times")
    return {
        "events": names,
        "us": [[event[4] for event in events] for _, events in runs],
        "invoke_us": [us for us, _ in runs],
        "summary": summary,
        "summary_us": sum(event[4] for event in first if event[1] in (OPERATOR, DELEGATED)),
        "shapes": shapes,
        "fastest_ms": {
            name: fastest_ms(path, request["threads"])
            for name, path in request["references"].items()
        },
        "engine": "LiteRT " + importlib.metadata.version("ai-edge-litert"),
        "cpu": runner.cpu_name(),
    }


if __name__ == "__main__":
    try:
        with contextlib.redirect_stdout(sys.stderr):
            answer = run(json.loads(sys.argv[1]))
    except Exception as error:  # whatever it is, the caller gets it as text
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(json.dumps(answer))
