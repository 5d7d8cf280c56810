"""Where a model is timed. One file a device, found by name: `host` is host.py.

A device is a module with one of these functions. `where` is what stands behind the colon of the
device's name ("adb:SERIAL"), and empty without one.

    measure(path, request, where, timeout) -> dict

runs `tfeffi/bench/runner.py` (or what answers alike) on the device with the request, whose "model" it
replaces by the model's place there, and returns the answer. It leaves nothing behind.

    connect(where) -> context manager of a tfeffi.bench.remote.Transport

says how to bring a command and a file there; `tfeffi/bench/remote.py` and `remote_turn.py` do the rest.
"""

import contextlib
import functools
import importlib
import pkgutil
import types
from collections.abc import Callable, Iterator

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


@contextlib.contextmanager
def opened(device: str, folder: str | None = None) -> Iterator[tuple[str, Callable]]:
    """A device's full name and its `measure(path, request, timeout)`.

    The connection is kept over all calls.

    Args:
        device: such as "host" or "adb:SERIAL".
        folder: where on the device ours is made.

    Raises:
        BadInput: there is no such device, or it cannot be reached.
    """
    module, where = find(device)
    if not hasattr(module, "connect"):
        yield device, lambda path, request, timeout: module.measure(path, request, where, timeout)
        return
    from tfeffi.bench import remote, remote_turn

    with module.connect(where) as transport, remote.opened(transport, folder) as place:
        yield transport.name, functools.partial(remote_turn.measure, place)
