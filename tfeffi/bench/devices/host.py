"""This machine: the runner, or a native binary, in a process of its own."""

import os
import pathlib
import platform
import subprocess

from tfeffi.bench import engine, native, state
from tfeffi.errors import BadInput
from tfeffi.export import litert
from tfeffi.export.flatbuffer import ModelError

_RUNNER = pathlib.Path(__file__).parents[1] / "runner.py"


def measure(path: str | os.PathLike, request: dict, where: str, timeout: float) -> dict:
    """See the docstring of `tfeffi.bench.devices`."""
    if where:
        raise BadInput(f'device "host:{where}": the host has no addresses, say "host"')
    request, before = {**request, "model": os.path.abspath(path)}, _state()
    engine.check_cpus(request, os.cpu_count(), "the host")
    if request.get("binary"):
        answer = _with_binary(path, request, timeout)
    else:
        answer = litert.call(_RUNNER, request, path, timeout)
    return state.around(answer, before, _state())


def _with_binary(path: str | os.PathLike, request: dict, timeout: float) -> dict:
    binary = request["binary"]
    if not os.access(binary, os.X_OK):
        raise BadInput(f'"{binary}" may not be run; say chmod +x on it')
    names = native.input_names(path)
    words = native.command(binary, request["model"], request, names, timeout)
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=timeout, check=False,
        )  # fmt: skip
        returncode, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        raise ModelError(f'"{path}" did not finish within {timeout:g} s') from error
    except OSError as error:  # the format of another processor, or of none
        if error.filename == "taskset":
            raise BadInput(
                'the host has no "taskset" on its PATH, which cpu_affinity needs for a native '
                "program: install util-linux"
            ) from error
        returncode, text = 127, error.strerror or ""
    machine = platform.machine()
    return native.answer(returncode, text, os.fspath(path), request, machine, "the host")


def _state() -> dict:
    try:
        done = subprocess.run(
            ["sh", "-c", state.script()],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError:  # no POSIX shell: nothing is told
        return {}
    return state.read(done.stdout)
