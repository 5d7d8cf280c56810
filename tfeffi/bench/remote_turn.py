"""One turn of a model on a device behind a cable or a network: what runs there, and its answer."""

import json
import os
import pathlib
import re
import shlex
import subprocess

from tfeffi.bench import engine, native, state
from tfeffi.bench.remote import DeviceError, Folder
from tfeffi.export import litert
from tfeffi.export.flatbuffer import ModelError

_RUNNER = pathlib.Path(__file__).with_name("runner.py")
_MISSING = re.compile(r"No module named '([\w.]+)'")


def measure(folder: Folder, path: str | os.PathLike, request: dict, timeout: float) -> dict:
    """One turn of a model there; see `tfeffi.bench.devices`.

    Raises:
        ModelError: the model cannot be run.
        DeviceError: the device cannot do it.
    """
    name = folder.transport.name
    engine.check_cpus(request, folder.about.get("cores"), name)
    request = {**request, "model": folder.put(path)}
    if request.get("delegate") and os.path.isfile(request["delegate"]):
        request["delegate"] = folder.put(request["delegate"], executable=True)
    run = _with_binary if request.get("binary") else _with_python
    try:
        answer, before, after = run(folder, path, request, timeout)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f'"{path}" did not finish within {timeout:g} s on {name}') from error
    return state.around(answer, before, after)


def _with_binary(folder: Folder, path, request: dict, timeout: float) -> tuple[dict, dict, dict]:
    binary = folder.put(request["binary"], executable=True)
    names = native.input_names(path)
    words = native.command(binary, request["model"], request, names, timeout)
    done, before, after = folder.observe(f"exec {shlex.join(words)} 2>&1", timeout)
    machine, name = before.get("machine", ""), folder.transport.name
    text = "\n".join((done.stdout, done.stderr))  # the shell's own words are there
    return native.answer(done.returncode, text, path, request, machine, name), before, after


def _with_python(folder: Folder, path, request: dict, timeout: float) -> tuple[dict, dict, dict]:
    python, name = request.get("python", "python3"), folder.transport.name
    words = [python, "-B", folder.put(_RUNNER), json.dumps(request)]
    done, before, after = folder.observe(f"exec {shlex.join(words)}", timeout)
    if done.returncode in (126, 127):
        raise DeviceError(
            f'{name} has no Python "{python}"; name it with device_python, or give the native '
            "program, benchmark_binary"
        )
    if missing := _MISSING.search(done.stdout + done.stderr):
        raise DeviceError(
            f'the Python "{python}" of {name} has no {missing[1]}: pip install ai-edge-litert there, '
            "or give the native program, benchmark_binary"
        )
    return litert.answer(done.returncode, done.stdout, done.stderr, path), before, after
