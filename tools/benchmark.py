"""Latency of one or more .tflite files.

    tfeffi-benchmark --model=a.tflite
    tfeffi-benchmark --model=a.tflite,b.tflite --threads=2 --output=latency.json
    tfeffi-benchmark --model=a.tflite,b.tflite --device=adb --benchmark_binary=./benchmark_model
    tfeffi-benchmark --model=a.tflite,b.tflite --device=host,ssh:pi@raspberrypi
    tfeffi-benchmark --model=a.tflite --device=host,adb --benchmark_binary=adb=./benchmark_model
    tfeffi-benchmark --model=a.tflite --profile --keras_model=a.keras --figure=roofline.png

Prints a table, and writes the same as JSON. Several files are measured interleaved, A B A B, each
time in a new process; ratios are to the first file on the same device. On a device everything is
brought there, run, and removed again, with its Python and ai-edge-litert, or with Google's native
benchmark_model, which its users download.

With --profile: the time of each operator on this machine, its Keras layer, how far it is from what
the machine can do, and what to do about the worst. With --benchmark_binary too: the time of each
operator on the device, as that program tells it.
"""

from absl import flags

from tfeffi.tools import app

_MODEL = flags.DEFINE_list("model", None, "the .tflite files, with commas between", required=True)
_DEVICE = flags.DEFINE_list(
    "device", ["host"],
    "where to measure: host, adb (if one is attached), adb:SERIAL, ssh:HOST, ssh:USER@HOST:PORT; "
    "several with commas between",
)  # fmt: skip
_THREADS = flags.DEFINE_integer("threads", 1, "threads of the engine")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write; it must not exist")
_WARMUP_RUNS = flags.DEFINE_integer("warmup_runs", 10, "inferences before those that are timed")
_MIN_RUNS = flags.DEFINE_integer("min_runs", 200, "time at least so many inferences of each file")
_MIN_SECONDS = flags.DEFINE_float("min_seconds", 1.0, "and for at least so many seconds")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "turns of each file, if there are several")
_COOLDOWN_SECONDS = flags.DEFINE_float("cooldown_seconds", 0.0, "rest between two turns")
_TIMEOUT = flags.DEFINE_float("timeout", 600.0, "seconds until a turn is given up")
_BENCHMARK_BINARY = flags.DEFINE_list(
    "benchmark_binary",
    None,
    "Google's benchmark_model, built for the device, to run there; DEVICE=PATH, with commas between, "
    "for some of several devices: delegates and operator times are theirs, --device_python is of the "
    "others",
)
_DEVICE_PYTHON = flags.DEFINE_string(
    "device_python", None, "the device's Python: on its PATH, or a whole path; default python3"
)
_DEVICE_FOLDER = flags.DEFINE_string(
    "device_folder",
    None,
    "an existing folder of the device to make one in; default /data/local/tmp or ~/.cache",
)
_CPU_AFFINITY = flags.DEFINE_string(
    "cpu_affinity", None, "the processors to run on: a list, 4-7 or 0,2, or a mask, 0xf0"
)
_XNNPACK = flags.DEFINE_bool("xnnpack", None, "ask for XNNPACK, or forbid it; default the engine's")
_GPU = flags.DEFINE_bool("gpu", False, "the GPU delegate of benchmark_binary")
_NNAPI = flags.DEFINE_bool("nnapi", False, "the NNAPI delegate of benchmark_binary")
_EXTERNAL_DELEGATE = flags.DEFINE_string(
    "external_delegate",
    None,
    "a library with a delegate: a file here, or else a path on the device",
)
_INPUT_SHAPE = flags.DEFINE_list(
    "input_shape", None, "such as 1x224x224x3, for each input of a model that leaves it open"
)
_PROFILE = flags.DEFINE_bool("profile", False, "say why it is slow, operator by operator")
_KERAS_MODEL = flags.DEFINE_string(
    "keras_model",
    None,
    "with --profile: the .keras file that it was made from, for names of layers",
)
_FIGURE = flags.DEFINE_string(
    "figure", None, "with --profile: a picture of the roofline to draw; it must not exist"
)
_NOT_PROFILED = (  # without a native program
    _ROUNDS, _COOLDOWN_SECONDS, _DEVICE_PYTHON, _DEVICE_FOLDER, _CPU_AFFINITY, _XNNPACK, _GPU, _NNAPI,
    _EXTERNAL_DELEGATE,
)  # fmt: skip


def _shapes():
    from tfeffi.errors import BadInput

    try:
        return [
            [int(size) for size in text.split("x")] for text in _INPUT_SHAPE.value or ()
        ] or None
    except ValueError as error:
        given = ",".join(_INPUT_SHAPE.value)
        raise BadInput(f'--input_shape="{given}" must read like 1x224x224x3') from error


def _binaries():
    """The native program by device; None stands for all of them."""
    from tfeffi.errors import BadInput

    pairs = [text.partition("=") for text in _BENCHMARK_BINARY.value or ()]
    found = {device: path for device, _, path in pairs if device in _DEVICE.value and path}
    if len(found) == len(pairs):
        return found
    if len(pairs) > 1:
        raise BadInput(
            f'--benchmark_binary="{",".join(_BENCHMARK_BINARY.value)}": give one for all devices, or '
            f"DEVICE=PATH for each of {', '.join(_DEVICE.value)} that has one"
        )
    return {None: _BENCHMARK_BINARY.value[0]}


def _engines():
    """What runs the files on each device."""
    from tfeffi import bench

    binaries = _binaries()

    def engine(device):
        binary = binaries.get(None, binaries.get(device))
        others = len(binaries) < len(_DEVICE.value) and None not in binaries
        python = None if binary and others else _DEVICE_PYTHON.value
        native = {
            "binary": binary, "gpu": _GPU.value, "nnapi": _NNAPI.value, "operators": _PROFILE.value,
            "external_delegate": _EXTERNAL_DELEGATE.value,
        }  # fmt: skip
        return bench.Engine(
            python=python, folder=_DEVICE_FOLDER.value, cpu_affinity=_CPU_AFFINITY.value,
            xnnpack=_XNNPACK.value, **(native if binary or not binaries else {}),
        )  # fmt: skip

    return {device: engine(device) for device in _DEVICE.value}


def _profile():
    """Why one file is slow."""
    from tfeffi import bench, files
    from tfeffi.errors import BadInput

    if len(_MODEL.value) > 1 or _DEVICE.value != ["host"]:
        raise BadInput(
            "--profile takes one --model at a time, on this machine (--device=host), or with "
            "--benchmark_binary on any"
        )
    given = [f"--{flag.name}" for flag in _NOT_PROFILED if flag.value != flag.default]
    if given:
        raise BadInput(
            "--profile without --benchmark_binary is of LiteRT in Python as it is, in one turn; "
            f"leave out {', '.join(given)}"
        )
    if _FIGURE.value:
        from tfeffi.study import roofline_picture

        files.refuse_existing(_FIGURE.value, "figure")
        roofline_picture.check(_FIGURE.value)  # before it takes time
    if _KERAS_MODEL.value:
        app.import_tensorflow()
    found = bench.profile(
        _MODEL.value[0], _KERAS_MODEL.value, _THREADS.value, warmup_runs=_WARMUP_RUNS.value,
        min_runs=_MIN_RUNS.value, min_seconds=_MIN_SECONDS.value, input_shapes=_shapes(),
        timeout=_TIMEOUT.value,
    )  # fmt: skip
    print(found.table())
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, found.to_json())
    if _FIGURE.value:
        roofline_picture.draw(found.to_json(), _FIGURE.value)


def main(_):
    """Measures, prints, writes."""
    from tfeffi import bench, files
    from tfeffi.errors import BadInput

    if _OUTPUT.value:
        files.refuse_existing(_OUTPUT.value)
    if _PROFILE.value and not _BENCHMARK_BINARY.value:
        return _profile()
    if _KERAS_MODEL.value or _FIGURE.value:
        raise BadInput("--keras_model and --figure need --profile, on this machine")
    several = len(_MODEL.value) > 1
    latencies = bench.compare(
        _MODEL.value,
        device=_DEVICE.value,
        threads=_THREADS.value,
        rounds=_ROUNDS.value if several else 1,
        warmup_runs=_WARMUP_RUNS.value,
        min_runs=_MIN_RUNS.value,
        min_seconds=_MIN_SECONDS.value,
        cooldown_seconds=_COOLDOWN_SECONDS.value,
        input_shapes=_shapes(),
        timeout=_TIMEOUT.value,
        engine=_engines(),
    )
    whole = len(latencies.rows) > 1
    print(latencies.table() if whole else latencies.rows[0].table())
    if whole and _PROFILE.value:
        for row in latencies.rows:
            print(f"\n{row.model} on {row.device}\n{row.operator_table()}")
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, latencies.to_json())


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
