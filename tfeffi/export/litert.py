"""Runs .tflite files with LiteRT in a process of their own: a model that aborts it is reported."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping

import numpy as np

from tfeffi.export import flatbuffer
from tfeffi.export.flatbuffer import ModelError

_EXECUTE = pathlib.Path(__file__).with_name("execute.py")
_CUSTOM = (
    re.compile(r"unresolved custom op: (.+?)(?:\.? See |\.|$)"),
    re.compile(r"Select TensorFlow op.*\((Flex\w+)\) failed"),
)


def run(
    path: str | os.PathLike,
    inputs: np.ndarray | Mapping[str, np.ndarray],
    *,
    threads: int | None = None,
    batch_size: int = 64,
    divide_by: float | None = None,
    timeout: float = 900.0,
) -> dict[str, np.ndarray]:
    """Runs a .tflite over all rows of the inputs.

    Args:
        path: the file.
        inputs: for one input an array (n, ...) of real numbers, for several one by name. They are
            quantized for a quantized input, by its own scale and zero point.
        threads: of LiteRT; default all cores that this process may use.
        batch_size: rows at once if the model's batch is dynamic; else its own batch is used.
        divide_by: integer arrays are divided by this, a batch at a time (255 for images in [0, 1]),
            except for an input of integers without a scale, which takes them as they are.
        timeout: seconds until the run is given up.

    Returns:
        The outputs (n, ...) by name, as real numbers, in the order of the model.

    Raises:
        ModelError: the file is missing, damaged, needs what LiteRT does not have, or aborts it.

    Example:
        logits = next(iter(run("m.tflite", images.astype("float32") / 255).values()))
    """
    return run_measured(
        path, inputs, threads=threads, batch_size=batch_size, divide_by=divide_by, timeout=timeout
    )[0]


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_measured(
    path, inputs, *, threads=None, batch_size=64, divide_by=None, timeout=900.0, arena=False
) -> tuple[dict[str, np.ndarray], int | None]:
    """As `run`, and with `arena` also the bytes of its arena, None where they cannot be measured."""
    flatbuffer.read(path)
    if not isinstance(inputs, Mapping):
        inputs = {"": inputs}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: os.path.join(folder, f"in_{i}.npy") for i, name in enumerate(inputs)}
        for name, file in files.items():
            np.save(file, inputs[name])
        request = {
            "model": os.path.abspath(path), "inputs": files, "outputs": folder, "batch": batch_size,
            "threads": threads or cores(), "divide_by": divide_by, "arena": arena,
        }  # fmt: skip
        answer = call(_EXECUTE, request, path, timeout)
        outputs = {
            name: np.load(os.path.join(folder, f"{i}.npy"))
            for i, name in enumerate(answer["outputs"])
        }
        return outputs, answer.get("arena_bytes")


def call(script: pathlib.Path, request: dict, model: str | os.PathLike, timeout: float) -> dict:
    """Runs a stand-alone script that answers a JSON request by a JSON line.

    Args:
        script: it imports nothing of tfeffi.
        request: its only argument.
        model: the .tflite that it is about, for the message.
        timeout: seconds.

    Returns:
        Its answer.

    Raises:
        ModelError: it answered {"error": ...}, was killed, or did not finish.
    """
    command = [sys.executable, str(script), json.dumps(request)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f'"{model}" did not finish within {timeout:g} s') from error
    return answer(done.returncode, done.stdout, done.stderr, model)


def answer(returncode: int, stdout: str, stderr: str, model: str | os.PathLike) -> dict:
    """What such a script answered, wherever it ran.

    Args:
        returncode: of its process; negative if a signal ended it.
        stdout, stderr: what it wrote.
        model: the .tflite that it was about, for the message.

    Raises:
        ModelError: it answered {"error": ...}, or was killed.
    """
    if returncode < 0:
        raise ModelError(
            f'"{model}" made LiteRT abort ({_signal_name(-returncode)}); it is damaged, or '
            f"hits a defect of the engine: export it again{_last_line(stderr)}"
        )
    try:
        said = json.loads(stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise ModelError(
            f'"{model}": LiteRT gave no answer (exit {returncode}){_last_line(stderr)}'
        ) from error
    if "error" in said:
        raise ModelError(explain(model, said["error"]))
    return said


def needs_custom(model: str | os.PathLike, operator: str) -> str:
    """The line for an operator that is not builtin."""
    return (
        f'"{model}" needs the custom operator "{operator}", which LiteRT does not have; '
        "convert it with builtin operators only"
    )


def explain(model: str | os.PathLike, error: str) -> str:
    """One line for what LiteRT said about a model."""
    for pattern in _CUSTOM:
        if missing := pattern.search(error):
            return needs_custom(model, missing[1])
    if "not a valid Flatbuffer" in error:
        return f'"{model}" is damaged or cut short; export it again'
    if "no_integer_overflow_from_quantization" in error:
        return (
            f'LiteRT cannot run "{model}": a quantized number does not fit its integers, maybe as some '
            f"activations hardly vary (fresh weights?): train it, or take another recipe: {error}"
        )
    return f'LiteRT cannot run "{model}": {error}'


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line and not line.startswith("INFO:")]
    return f"; it said: {lines[-1]}" if lines else ""
