"""What runs a model on a device, and how: the program, the processors, the delegate."""

import dataclasses
import os
import re

from tfeffi.errors import BadInput

# No Linux numbers more than 8192 processors.
_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
_MASK = re.compile(r"0[xX][0-9a-fA-F]{1,2048}")

_MOST_THREADS = 1024  # more than any machine has cores: starting them would take minutes


def check_numbers(timeout: float, **numbers: float) -> None:
    """What a measurement may be told by numbers.

    Args:
        timeout: seconds, above 0.
        numbers: those called "...seconds" from 0 on, others, such as "threads", from 1 on.

    Raises:
        BadInput: one is out of range; names it.
    """
    for name, value in numbers.items():
        least = 0 if name.endswith("seconds") else 1
        if not value >= least:  # not a number is not
            raise BadInput(f"{name} {value} must be at least {least}")
    if numbers.get("threads", 1) > _MOST_THREADS:
        raise BadInput(f"threads {numbers['threads']} must be at most {_MOST_THREADS}")
    if not timeout > 0:
        raise BadInput(f"timeout {timeout} must be above 0 seconds")


@dataclasses.dataclass(frozen=True)
class Engine:
    """Default is LiteRT in Python with XNNPACK, on whatever processors the system chooses.

    Attributes:
        binary: path, on this machine, of Google's native `benchmark_model` for the device: it is
            brought there and run in place of Python.
        python: the device's Python with ai-edge-litert; default "python3". Not for the host.
        cpu_affinity: the processors that it may use: a list such as "4-7" or "0,2", or a mask, "0xf0".
        xnnpack: True or False asks for it or forbids it; None leaves the engine's default.
        gpu, nnapi: use that delegate; only with `binary`.
        external_delegate: a library with a delegate: a file here, which is brought to the device, or
            else a path there.
        operators: ask `binary` for the time of each operator too, which costs a little time.
        folder: where on the device a folder of ours is made, and removed; default that of the device.

    Example:
        Engine(binary="./benchmark_model", gpu=True)
    """

    binary: str | os.PathLike | None = None
    python: str | None = None
    cpu_affinity: str | None = None
    xnnpack: bool | None = None
    gpu: bool = False
    nnapi: bool = False
    external_delegate: str | os.PathLike | None = None
    operators: bool = False
    folder: str | None = None

    def request(self) -> dict:
        """What a device is told of it; what is left to defaults is absent.

        Raises:
            BadInput: it contradicts itself, or the binary is not there.
        """
        wanted = [name for name in ("gpu", "nnapi", "external_delegate") if getattr(self, name)]
        if len(wanted) > 1:
            raise BadInput(f"{' and '.join(wanted)} exclude each other; choose one delegate")
        if (self.gpu or self.nnapi) and not self.binary:
            raise BadInput(
                f"{wanted[0]} needs the native program: LiteRT in Python has no such delegate; give "
                "benchmark_binary, or external_delegate with a library"
            )
        if self.operators and not self.binary:
            raise BadInput("operators needs benchmark_binary; without one there is bench.profile")
        if self.binary and not os.path.isfile(self.binary):
            raise BadInput(
                f'there is no benchmark binary "{self.binary}"; download it, name its path'
            )
        if self.binary and self.python:
            raise BadInput("benchmark_binary and device_python exclude each other; choose one")
        given = {
            "binary": self.binary and os.path.abspath(self.binary), "python": self.python,
            "folder": self.folder, "xnnpack": self.xnnpack, "gpu": self.gpu or None,
            "nnapi": self.nnapi or None, "cpus": self.cpu_affinity and cpus(self.cpu_affinity),
            "delegate": self.external_delegate and _library(self.external_delegate),
            "operators": self.operators or None,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


def _library(path: str | os.PathLike) -> str:
    """The whole path of a file here: the loader looks a bare name up elsewhere."""
    return os.path.abspath(path) if os.path.isfile(path) else os.fspath(path)


def cpus(text: str) -> list[int]:
    """The processors of a list or mask.

    Raises:
        BadInput: it is neither.

    Example:
        cpus("4-6,0")  # [0, 4, 5, 6]
        cpus("0x71")  # the same
    """
    found, text = set(), str(text).strip()
    if _MASK.fullmatch(text):
        mask = int(text, 16)
        found = {place for place in range(mask.bit_length()) if mask >> place & 1}
    else:
        for part in text.split(","):
            match = _RANGE.fullmatch(part.strip())
            ends = match and range(int(match[1]), int(match[2] or match[1]) + 1)
            if not ends:  # no number, or a range that ends before it begins
                found = set()
                break
            found |= set(ends)
    if not found:
        raise BadInput(f'cpu_affinity "{text}" must be a list such as 4-7 or 0,2, or a mask, 0xf0')
    return sorted(found)


def mask(processors: list[int]) -> str:
    """The mask that `taskset` takes everywhere: hexadecimal, without 0x."""
    return f"{sum(1 << place for place in processors):x}"


def check_cpus(request: dict, cores: int | None, device: str) -> None:
    """Raises BadInput where a processor is asked for that the device does not have."""
    if cores and max(request.get("cpus", [0])) >= cores:
        raise BadInput(
            f"cpu_affinity asks for processor {max(request['cpus'])}, {device} has "
            f"{cores}: they are numbered 0 to {cores - 1}"
        )
