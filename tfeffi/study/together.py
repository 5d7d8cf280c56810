"""Trainings that take turns, an epoch each, so that what disturbs the machine disturbs all alike.

Each runs in a process of its own; one of them works at a time, with all cores, and building, compiling
and testing belong to its turns. A training that was killed goes on in its own folder.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tfeffi.errors import BadInput
from tfeffi.methods import Method

COLUMNS = (
    "train_macs", "seconds", "validation_accuracy", "macs", "params", "batch_size", "lambda",
    "channels",
)  # fmt: skip


def train_together(
    specs: Mapping[str, Mapping[str, Any]], say: Callable[[str], object] = print
) -> dict[str, dict[str, Any]]:
    """Trains several models, epoch by epoch in turn.

    Args:
        specs: by name, what `train` takes, as JSON values.
        say: is told after each turn.

    Returns:
        By name, what `train` gave.

    Raises:
        BadInput: a training ended without a result; its last words are on standard error.

    Example:
        train_together({"dense": {...}, "pruned": {...}})["pruned"]["accuracy"]
    """
    workers = {name: _Worker(name, spec) for name, spec in specs.items()}
    found: dict[str, dict] = {}
    try:
        while len(found) < len(workers):
            for name, worker in workers.items():
                if name not in found:
                    answer = worker.turn()
                    say(f"{name}: {answer['line']}")
                    if "result" in answer:
                        found[name] = answer["result"]
    finally:
        for worker in workers.values():
            worker.close()
    return found


class _Worker:
    """A training process, seen from the one that gives the turns."""

    def __init__(self, name: str, spec: Mapping[str, Any]):
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tfeffi.study.together"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._write(json.dumps(spec))

    def turn(self) -> dict[str, Any]:
        self._write("go")
        line = self._process.stdout.readline()
        if not line:
            raise BadInput(f'training "{self.name}" ended with code {self._process.wait()}')
        return json.loads(line)

    def close(self) -> None:
        if self._process.poll() is None and self._process.stdin:
            self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # what it never read
            self._process.stdin.close()
        self._process.stdout.close()

    def _write(self, line: str) -> None:
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; the next read says so


class _Turns(Method):
    """Ends a turn after each epoch, and waits for the next."""

    def __init__(self, answer: Callable[[dict], None]):
        self._answer = answer

    def on_epoch_end(self, run) -> None:
        if run.epoch < run.settings.epochs:
            began = time.perf_counter()
            self._answer({"line": f"epoch {run.epoch}, {run.seconds:.0f} s"})
            _wait_for_turn()
            run.compile_seconds -= time.perf_counter() - began  # it was the others' turn


def train(spec: Mapping[str, Any], methods=()) -> dict[str, Any]:
    """One training, and what it cost.

    Args:
        spec: `data`, `model`, `train` and `methods` as in a config of `tfeffi-train`, `seed`, and
            `workdir`, where it goes on if it was killed.
        methods: more methods.

    Returns:
        Test accuracy, MACs and seconds of training, what the model is at the end, and under
        "history" a list for each column of the history that is in `COLUMNS`.
    """
    import keras

    from tfeffi import methods as known
    from tfeffi.analysis.cost import cost
    from tfeffi.train import Settings, experiment, fit
    from tfeffi.train.evaluation import score

    keras.utils.set_random_seed(spec["seed"])
    splits = experiment.load_splits(spec["data"])
    model = experiment.build_model(spec["model"], splits.train)
    settings = Settings.from_mapping({**spec["train"], "seed": spec["seed"]})
    chosen = [known.build(**values) for values in spec["methods"]]
    made = fit(
        model, splits.train, splits.test, settings, methods=[*chosen, *methods],
        workdir=spec["workdir"], verbose=False,
    )  # fmt: skip
    counted = cost(made.model)
    known = [key for key in COLUMNS if all(key in row for row in made.history)]
    columns = {key: [row[key] for row in made.history] for key in known}
    scores = score(made.model, splits.test, views=settings.test_views)
    return {
        **{key: value for key, value in scores.items() if key != "loss"},
        "train_macs": made.train_macs,
        "train_seconds": made.train_seconds, "compile_seconds": made.compile_seconds,
        "peak_memory_mb": made.peak_memory_mb, "macs": counted.macs, "params": counted.params,
        "dense_macs": cost(model).macs, "dense_params": model.count_params(), "history": columns,
    }  # fmt: skip


def _wait_for_turn() -> None:
    """Ends the process where nobody is left who would give it one."""
    if not sys.stdin.readline():
        sys.exit(f"{__name__}: who gives the turns has ended")


def _work() -> None:
    """In a worker: a line with the spec, then a line for each turn; answers on standard output."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed goes to standard error

    def answer(value: dict) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    spec = json.loads(sys.stdin.readline())
    _wait_for_turn()
    result = train(spec, [_Turns(answer)])
    line = f"{result['accuracy']:.4f} after {result['train_seconds']:.0f} s"
    answer({"line": line, "result": result})


if __name__ == "__main__":
    _work()
