"""This machine: the runner in a process of its own, with the LiteRT of this environment."""

import os
import pathlib

from tfeffi.errors import BadInput
from tfeffi.export import litert

_RUNNER = pathlib.Path(__file__).parents[1] / "runner.py"


def measure(path: str | os.PathLike, request: dict, where: str, timeout: float) -> dict:
    """See the docstring of `tfeffi.bench.devices`."""
    if where:
        raise BadInput(f'device "host:{where}": the host has no addresses, say "host"')
    return litert.call(_RUNNER, {**request, "model": os.path.abspath(path)}, path, timeout)
