"""Is a budget of latency met, and does a budget of MACs of the same share get there, too?

    python benchmarks/latency_budget.py

Three networks are pruned to shares of their own latency: candidates are chosen by a table of single
layers, exported and measured. The same networks are pruned to the same shares of their MACs. Then all
files of a network are timed again in one interleaved run, apart from the one that chose them: the
ratios here are of that run. A network has fresh weights: what is pruned is what the norms say, and
that makes no difference to time. Accuracy is not looked at.

About ten minutes on 2 cores that have nothing else to do, three with a filled table (--cache).
"""

import os
import pathlib
import tempfile
import time

from absl import flags

from tfeffi.tools import app

_OUTPUT = flags.DEFINE_string("output", "results/latency_budget.json", "the result file")
_CACHE = flags.DEFINE_string("cache", None, "folder of the latency table; default ~/.cache/tfeffi")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "turns of each file in the last run")
_MODELS = flags.DEFINE_list("models", None, "only these networks; default all")
_SHARES = flags.DEFINE_list("shares", ["0.75", "0.5"], "budgets, as shares of the model's own")

MOST_ABOVE = 0.05  # what noise may add between the run that chose a file and the last one

MODELS = {
    "mnist_classifier": {"input_shape": (28, 28, 1), "num_classes": 10},
    "resnet8_mlperf_tiny": {},
    "mobilenet_v2": {
        "input_shape": (96, 96, 3), "num_classes": 10, "width_multiplier": 0.5, "reductions": 5,
    },
}  # fmt: skip


def candidates(model, shares, folder: pathlib.Path):
    """Exports the network and its pruned forms; yields what is known of each file."""
    from tfeffi import Budget, cost, prune
    from tfeffi.bench import one_layer

    yield {"name": "whole", "path": _written(folder, "whole", one_layer.exported(model))}
    before = cost(model)
    for share in shares:
        for budget in (Budget(latency=share), Budget(macs=share)):
            started = time.perf_counter()
            small, report = prune(model, budget, importance="l2")
            name = f"{budget.kind} {share:g}"
            chosen = {"chosen_ratio": report.measured["ratio"]} if report.measured else {}
            yield {
                "name": name,
                "path": _written(folder, name, one_layer.exported(small)),
                "target": share,
                "macs": report.after.macs,
                "macs_ratio": report.after.macs / before.macs,
                "params": report.after.params,
                "search_seconds": time.perf_counter() - started,
                **chosen,
            }


def _written(folder: pathlib.Path, name: str, content: bytes) -> pathlib.Path:
    path = folder / f"{name}.tflite"
    path.write_bytes(content)
    return path


def measured(name: str, shares):
    """The rows of one network."""
    import keras

    from tfeffi import bench, cost, models

    keras.utils.set_random_seed(0)
    model = models.build(name, **MODELS[name])
    with tempfile.TemporaryDirectory() as temporary:
        rows = list(candidates(model, shares, pathlib.Path(temporary)))
        latencies = bench.compare([row["path"] for row in rows], rounds=_ROUNDS.value).rows
    rows[0] |= {"macs": cost(model).macs, "params": cost(model).params}
    for row, latency in zip(rows, latencies, strict=True):
        del row["path"]
        keys = ("bytes", "device", "threads", "p50_ms", "p90_ms", "runs", "rounds", "ratio",
                "ratio_low", "ratio_high")  # fmt: skip
        timed = {key: getattr(latency, key) for key in keys}
        yield {**row, "name": f"{name} {row['name']}", **timed, "ratio_to": f"{name} whole"}


def main(_):
    """Prunes, times, writes; the exit code says whether all budgets of latency are met."""
    if _CACHE.value:
        os.environ["XDG_CACHE_HOME"] = _CACHE.value
    app.import_tensorflow()
    from tfeffi.study.results import Result

    result, above = Result.new("latency_budget"), []
    for name in _MODELS.value or MODELS:
        for row in measured(name, [float(share) for share in _SHARES.value]):
            result.add_row(**row)
            print(
                f"{row['name']}: {row['p50_ms']:.3f} ms, {row['ratio']:.3f} of the whole "
                f"({row['ratio_low']:.3f} to {row['ratio_high']:.3f})",
                flush=True,
            )
            if "chosen_ratio" in row:
                above.append(row["ratio"] / row["target"] - 1)
    result.write(_OUTPUT.value)
    met = max(above) <= MOST_ABOVE
    print(f"{'met' if met else 'NOT MET'} within {MOST_ABOVE:.0%}; wrote {_OUTPUT.value}")
    return 0 if met else 1


if __name__ == "__main__":
    app.run(main)
