"""Where a model is timed. One file a device, found by name: `host` is host.py.

A device is a module with one function

    measure(path, request, where, timeout) -> dict

It runs `tfeffi/bench/runner.py` (or what answers alike) on the device with the request, whose "model"
it replaces by the model's place there, and returns the answer. `where` is what stands behind the
colon of the device's name ("adb:SERIAL"), and empty without one. It leaves nothing behind.
"""

import importlib
import pkgutil
import types

from tfeffi.errors import BadInput, near


def find(device: str) -> tuple[types.ModuleType, str]:
    """The module of a device and what stands behind its colon.

    Args:
        device: such as "host".

    Raises:
        BadInput: there is no such device.
    """
    name, _, where = str(device).partition(":")
    known = [module.name for module in pkgutil.iter_modules(__path__)]
    if name not in known:
        raise BadInput(f'unknown device "{device}"; {near(name, known)}')
    return importlib.import_module(f"{__name__}.{name}"), where
