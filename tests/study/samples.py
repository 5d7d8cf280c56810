"""Runs made up for the tests: numbers in the shape that the demo measures them."""

import json
import pathlib

from tfeffi.study.results import Result

# name, accuracy, its deviation, training seconds, p50 ms, bytes
VARIANTS = (
    ("baseline", 0.9132, 0.0021, 61.0, 0.412, 1_320_000),
    ("float16", 0.9132, 0.0020, 61.0, 0.405, 664_000),
    ("int8", 0.9121, 0.0025, 61.0, 0.131, 341_000),
    ("pruned", 0.9098, 0.0018, 83.0, 0.142, 301_000),
    ("factorized", 0.9071, 0.0030, 80.0, 0.233, 402_000),
    ("separable", 0.8932, 0.0041, 79.0, 0.101, 112_000),
    ("one_dimensional", 0.9012, 0.0022, 81.0, 0.251, 512_000),
    ("pruned_int8", 0.9085, 0.0022, 83.0, 0.052, 88_400),
)
# By hand: what nothing beats in both.
LATENCY_FRONT = ["pruned_int8", "int8", "float16"]
BYTES_FRONT = ["pruned_int8", "pruned", "int8", "float16"]


def result(name: str = "demo") -> Result:
    """The demo's result."""
    made = Result.new(name, command="tfeffi-sweep --config=configs/demo.py --workdir=runs/demo")
    for row, accuracy, deviation, seconds, p50, size in VARIANTS:
        made.add_row(
            name=row, n=3, accuracy_mean=accuracy, accuracy_std=deviation, train_seconds_mean=seconds,
            macs=7_900_000, bytes=size, p50_ms=p50, p90_ms=1.2 * p50, device="host", threads=1,
            ratio_to="baseline",
        )  # fmt: skip
    return made


def history(epochs: int) -> dict:
    """The curves of one training."""
    return {
        "rows": [
            {"epoch": e, "loss": 2.0 / e, "accuracy": 1 - 0.5 / e, "validation_accuracy": 1 - 0.6 / e,
             "learning_rate": 0.1 / e, "seconds": 6.0 * e, "images_per_second": 9000.0 + e}
            for e in range(1, epochs + 1)
        ]
    }  # fmt: skip


def run(folder: pathlib.Path, name: str = "demo") -> pathlib.Path:
    """A finished run in a folder: its result, and the curves of two trainings."""
    result(name).write(folder / "result.json")
    for variant, epochs in (("baseline", 10), ("pruned", 4)):
        (folder / variant).mkdir(parents=True)
        (folder / variant / "history.json").write_text(json.dumps(history(epochs)))
    return folder
