"""Does a table of single operators tell how long a whole model takes?

    python benchmarks/latency_prediction.py --output=results/latency_prediction.json

Networks in float32 and int8 (inputs and outputs too), as they are and pruned to odd widths. Each file's
operators are timed one by one, in copies, and added up (`tfeffi.bench.LatencyTable.predict`), with a
table that begins empty. The file itself is timed in rounds before and after that, a process each, so
that drift of the machine meets both. Networks have fresh weights, and int8 is calibrated on random
images: neither changes the time.

How copies are counted was settled on the networks of `SETTLED`, which are shown and not judged. The
median of the absolute errors of all others must be at most 10 %.

About seven minutes on 2 cores that have nothing else to do. With --device=adb:SERIAL it is a phone's.
"""

import pathlib
import statistics
import tempfile

from absl import flags

from tfeffi.tools import app

_OUTPUT = flags.DEFINE_string("output", "results/latency_prediction.json", "the result file")
_DEVICE = flags.DEFINE_string("device", "host", "where; see tfeffi-benchmark")
_THREADS = flags.DEFINE_integer("threads", 1, "of the engine")
_ROUNDS = flags.DEFINE_integer(
    "rounds", 3, "turns of each whole file before and after its operators"
)
_MODELS = flags.DEFINE_list("models", None, "only these networks; default all")
_CACHE = flags.DEFINE_string("cache", None, "folder of a table to use and fill; default none")

MOST_MEDIAN = 0.10
QUANTIZE = {"float32": None, "int8": "int8"}
_SMALL, _LARGE = (32, 32, 3), (96, 96, 3)
SETTLED = {
    "ResNet-8": ("resnet8_mlperf_tiny", {}),
    "MNIST classifier": ("mnist_classifier", {"input_shape": (28, 28, 1)}),
    "MobileNetV2 0.5 96²": (
        "mobilenet_v2", {"input_shape": _LARGE, "width_multiplier": 0.5, "reductions": 5}
    ),
}  # fmt: skip
HELD_OUT = {
    "ResNet-20 width 8": ("resnet_cifar", {"input_shape": _SMALL, "width": 8}),
    "ResNet-20 width 32": ("resnet_cifar", {"input_shape": _SMALL, "width": 32}),
    "ResNet-32 width 13": ("resnet_cifar", {"input_shape": _SMALL, "width": 13, "depth": 32}),
    "ResNet-50 bottlenecks 64²": (
        "resnet_imagenet", {"input_shape": (64, 64, 3), "width_multiplier": 0.5}
    ),
    "MobileNetV2 0.35 32²": (
        "mobilenet_v2", {"input_shape": _SMALL, "width_multiplier": 0.35}
    ),
    "MobileNetV2 0.75 96²": (
        "mobilenet_v2", {"input_shape": _LARGE, "width_multiplier": 0.75, "reductions": 5}
    ),
    "VGG-8 width 0.25": (
        "vgg", {"input_shape": _SMALL, "depth": 8, "width_multiplier": 0.25}
    ),
    "VGG-11 width 0.5": ("vgg", {"input_shape": _SMALL, "width_multiplier": 0.5}),
}  # fmt: skip
PRUNED = {  # to a share of their MACs, any widths
    "ResNet-8 0.4 of its MACs": (*SETTLED["ResNet-8"], 0.4),
    "VGG-8 0.5 of its MACs": (*HELD_OUT["VGG-8 width 0.25"], 0.5),
    "MobileNetV2 0.35 0.6 of its MACs": (*HELD_OUT["MobileNetV2 0.35 32²"], 0.6),
}


def built(name: str, arguments: dict, share: float | None = None):
    """A network with fresh weights, pruned if a share is given."""
    import keras

    from tfeffi import Budget, models, prune

    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    if name not in ("resnet8_mlperf_tiny",):
        arguments = {"num_classes": 10, **arguments}
    model = models.build(name, **arguments)
    if share is None:
        return model
    return prune(model, Budget(macs=share), importance="random", multiple_of=1)[0]


def measured(name: str, model, tables: dict) -> list[dict]:
    """The rows of one network, a type each: predicted and measured."""
    from tfeffi.bench import benchmark, one_layer

    times: dict[str, list[float]] = {kind: [] for kind in tables}
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: pathlib.Path(folder) / f"{kind}.tflite" for kind in tables}
        for kind, path in paths.items():
            path.write_bytes(one_layer.exported(model, QUANTIZE[kind]))

        def turns() -> None:
            for _ in range(_ROUNDS.value):
                for kind, path in paths.items():
                    row = benchmark(
                        path, device=_DEVICE.value, threads=_THREADS.value, min_runs=50,
                        min_seconds=0.2,
                    )  # fmt: skip
                    times[kind].append(row.mean_ms if row.p50_ms is None else row.p50_ms)

        turns()
        before = {kind: table.measured for kind, table in tables.items()}
        found = {kind: table.predict(paths[kind]) for kind, table in tables.items()}
        turns()
        sizes = {kind: path.stat().st_size for kind, path in paths.items()}
    return [
        {
            "name": f"{name} {kind}", "quantize": kind, "bytes": sizes[kind],
            "held_out": "no" if name in SETTLED else "yes",
            "device": _DEVICE.value, "threads": _THREADS.value,
            "operators": len(found[kind].rows),
            "new_operators": tables[kind].measured - before[kind],
            "fixed_ms": found[kind].fixed_ms, **compared(found[kind].ms, times[kind]),
        }
        for kind in tables
    ]  # fmt: skip


def compared(predicted_ms: float, times: list[float]) -> dict:
    """A prediction beside the medians of the rounds."""
    q1, median, q3 = statistics.quantiles(times, n=4, method="inclusive")
    return {
        "predicted_ms": predicted_ms, "measured_ms": median, "q1_measured_ms": q1,
        "q3_measured_ms": q3, "rounds": len(times), "error_share": predicted_ms / median - 1,
    }  # fmt: skip


def summaries(rows: list[dict]):
    """What is said of all held-out networks, and of those of each type."""
    held_out = [row for row in rows if row["held_out"] == "yes"]
    for kind in (*QUANTIZE, "both"):
        errors = [abs(r["error_share"]) for r in held_out if kind in ("both", r["quantize"])]
        if len(errors) < 2:
            continue
        yield {
            "name": f"held-out networks {kind}",
            "files": len(errors),
            "median_error_share": statistics.median(errors),
            "p90_error_share": statistics.quantiles(errors, n=10, method="inclusive")[-1],
            "largest_error_share": max(errors),
        }


def main(_):
    """Predicts, times, writes; the exit code says whether the median is small enough."""
    app.import_tensorflow()
    from tfeffi.bench import LatencyTable
    from tfeffi.study.results import Result

    result, networks = Result.new("latency_prediction"), {**SETTLED, **HELD_OUT, **PRUNED}
    with tempfile.TemporaryDirectory() as empty:
        tables = {
            kind: LatencyTable(
                _DEVICE.value, _THREADS.value, _CACHE.value or empty, quantize=quantize
            )
            for kind, quantize in QUANTIZE.items()
        }
        for name in _MODELS.value or networks:
            for row in measured(name, built(*networks[name]), tables):
                result.add_row(**row)
                print(
                    f"{row['name']}: predicted {row['predicted_ms']:.3f} ms, measured "
                    f"{row['measured_ms']:.3f} ms, {row['error_share']:+.1%}",
                    flush=True,
                )
    found = list(summaries(result.rows))
    for row in found:
        result.add_row(**row)
        print(
            f"{row['name']}: median {row['median_error_share']:.1%}, p90 {row['p90_error_share']:.1%}"
        )
    result.write(_OUTPUT.value)
    small = bool(found) and found[-1]["median_error_share"] <= MOST_MEDIAN
    print(f"{'within' if small else 'NOT WITHIN'} {MOST_MEDIAN:.0%}; wrote {_OUTPUT.value}")
    return 0 if small else 1


if __name__ == "__main__":
    app.run(main)
