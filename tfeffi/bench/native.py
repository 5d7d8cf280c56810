"""Google's native `benchmark_model`: its command line, and its answer in the words of runner.py."""

import os
import re
import struct
from collections.abc import Sequence

from tfeffi.bench import engine, native_output
from tfeffi.export import flatbuffer, litert
from tfeffi.export.flatbuffer import ModelError

_MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "arm64", 243: "riscv64"}  # of ELF
_RUNS = {  # what `uname -m` says, and what runs there
    "x86_64": ("x86_64", "x86"), "amd64": ("x86_64", "x86"), "i686": ("x86",), "i386": ("x86",),
    "aarch64": ("arm64", "arm"), "arm64": ("arm64", "arm"), "riscv64": ("riscv64",),
    "armv7l": ("arm",), "armv8l": ("arm",),
}  # fmt: skip
_EXEC = re.compile(r"taskset: (?:failed to execute|exec )")  # it is there, the program does not run


def command(
    binary: str, model: str, request: dict, inputs: Sequence[str], timeout: float
) -> list[str]:
    """The words of its command line.

    Args:
        binary, model: paths on the device.
        request: as for runner.py.
        inputs: names of the model's inputs, for shapes that are asked for.
        timeout: seconds; by itself it would stop after 150, whatever is asked for.
    """
    words = ["taskset", engine.mask(request["cpus"])] if request.get("cpus") else []
    words += [
        binary, f"--graph={model}", f"--num_threads={request['threads']}",
        f"--warmup_runs={request['warmup_runs']}", "--warmup_min_secs=0",
        f"--num_runs={request['min_runs']}", f"--min_secs={request['min_seconds']:g}",
        f"--max_secs={timeout:g}",
    ]  # fmt: skip
    if request.get("xnnpack") is not None:
        words.append(f"--use_xnnpack={str(request['xnnpack']).lower()}")
    words += [f"--use_{name}=true" for name in ("gpu", "nnapi") if request.get(name)]
    if request.get("nnapi"):  # or its own reference, on the CPU, may take the nodes
        words.append("--disable_nnapi_cpu=true")
    if request.get("delegate"):
        words.append(f"--external_delegate_path={request['delegate']}")
    if request.get("operators"):
        words.append("--enable_op_profiling=true")
    if shapes := request.get("shapes"):
        if len(shapes) != len(inputs):
            raise ModelError(f"it has {len(inputs)} inputs, {len(shapes)} shapes were given")
        words.append(f"--input_layer={','.join(inputs)}")
        words.append("--input_layer_shape=" + ":".join(",".join(map(str, s)) for s in shapes))
    return words


def input_names(model: str | os.PathLike) -> list[str]:
    """The names of a .tflite's inputs."""
    return [tensor.name for tensor in flatbuffer.inspect(model).inputs]


def answer(returncode: int, text: str, model: str, request: dict, machine: str, where: str) -> dict:
    """Its output as runner.py would answer.

    Args:
        returncode: of its process, negative if a signal ended it.
        text: its standard output and error.
        model: path of the .tflite, for the message.
        request: what was asked for.
        machine: what `uname -m` says on the device.
        where: the device's name.

    Raises:
        ModelError: it failed, did something else than was asked for, or its output is not understood.
    """
    name = os.path.basename(request["binary"])
    if flags := native_output.unconsumed(text):
        raise ModelError(
            f'"{name}" on {where} does not know {flags}: its times would not be those asked for'
        )
    found = native_output.timings(text)
    if returncode or not {"mean_ms", "runs"} <= found.keys():
        raise ModelError(_failure(returncode, text, model, request["binary"], machine, where))
    wanted = [key for key in ("gpu", "nnapi", "delegate") if request.get(key)]
    if wanted:
        found["delegated"] = native_output.delegated(text)
        if not found["delegated"]:
            kind = {"delegate": "external"}.get(wanted[0], wanted[0].upper())
            raise ModelError(
                f'"{name}" on {where} did not run "{model}" on the {kind} delegate but on the CPU'
                f"{_said(native_output.error(text))}"
            )
    if request.get("operators"):
        found["operators"] = native_output.operators(text)
        if not found["operators"]:
            raise ModelError(f'"{name}" on {where} told no operator of "{model}"')
    return {**found, "engine": name}


def _failure(returncode: int, text: str, model: str, binary: str, machine: str, where: str) -> str:
    """One line for why there are no times."""
    name, said = os.path.basename(binary), native_output.error(text)
    built = architecture(binary)
    if not said and built and machine in _RUNS and built not in _RUNS[machine]:
        return f'"{name}" is built for {built}, {where} is {machine}: take the build for it'
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    if "taskset" in last and not _EXEC.search(last):
        return f"{where} cannot set cpu_affinity{_said(last)}"
    if returncode == 126 and "format" not in last:
        return (
            f'{where} may not run "{name}"{_said(last)}; if its folder forbids programs, name '
            "another with device_folder"
        )
    if returncode in (126, 127):
        return f'"{name}" is not a program for {where}{_said(last)}; take the build for it'
    if returncode < 0:
        return f'"{model}" made "{name}" abort (signal {-returncode}) on {where}{_said(last)}'
    if said:
        return litert.explain(model, said)
    return f'the output of "{name}" on {where} holds no times (exit {returncode}){_said(last)}'


def _said(line: str | None) -> str:
    return f": {line.strip()}" if line else ""


def architecture(binary: str | os.PathLike) -> str | None:
    """What an ELF file is built for, such as "arm64"; None if it is none, or one of another kind."""
    with open(binary, "rb") as file:
        head = file.read(20)
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    return _MACHINES.get(struct.unpack(">H" if head[5] == 2 else "<H", head[18:20])[0])
