"""Latency of one or more .tflite files.

    tfeffi-benchmark --model=a.tflite
    tfeffi-benchmark --model=a.tflite,b.tflite --threads=2 --output=latency.json

Prints a table, and writes the same as JSON. Several files are measured interleaved, A B A B, each
time in a new process; ratios are to the first file.
"""

from absl import flags

from tfeffi.tools import app

_MODEL = flags.DEFINE_list("model", None, "the .tflite files, with commas between", required=True)
_DEVICE = flags.DEFINE_string("device", "host", "where to measure: host")
_THREADS = flags.DEFINE_integer("threads", 1, "threads of the engine")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write; it must not exist")
_WARMUP_RUNS = flags.DEFINE_integer("warmup_runs", 10, "inferences before those that are timed")
_MIN_RUNS = flags.DEFINE_integer("min_runs", 200, "time at least so many inferences of each file")
_MIN_SECONDS = flags.DEFINE_float("min_seconds", 1.0, "and for at least so many seconds")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "turns of each file, if there are several")
_INPUT_SHAPE = flags.DEFINE_list(
    "input_shape", None, "such as 1x224x224x3, for each input of a model that leaves it open"
)


def _shapes():
    from tfeffi.errors import BadInput

    try:
        return [
            [int(size) for size in text.split("x")] for text in _INPUT_SHAPE.value or ()
        ] or None
    except ValueError as error:
        given = ",".join(_INPUT_SHAPE.value)
        raise BadInput(f'--input_shape="{given}" must read like 1x224x224x3') from error


def main(_):
    """Measures, prints, writes."""
    from tfeffi import bench, files

    if _OUTPUT.value:
        files.refuse_existing(_OUTPUT.value)
    several = len(_MODEL.value) > 1
    latencies = bench.compare(
        _MODEL.value,
        device=_DEVICE.value,
        threads=_THREADS.value,
        rounds=_ROUNDS.value if several else 1,
        warmup_runs=_WARMUP_RUNS.value,
        min_runs=_MIN_RUNS.value,
        min_seconds=_MIN_SECONDS.value,
        input_shapes=_shapes(),
    )
    print(latencies.table())
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, latencies.to_json())


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
