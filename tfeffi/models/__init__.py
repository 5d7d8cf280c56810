"""Architectures, one file each: `build(...)` makes a plain functional `keras.Model`.

Images come in as float32 (height, width, channels) in [0, 1]; the last layer of a classifier is
named "logits" and computes in float32 under every precision policy. A new architecture is a new
file with a `build` function: it is found by its name.
"""

import importlib
import inspect
import pkgutil

import keras

from tfeffi.errors import BadInput, near
from tfeffi.models.saved import load

__all__ = ["build", "load", "names"]

_PARTS = ("arguments", "blocks", "foreign", "saved")  # no architectures


def names() -> tuple[str, ...]:
    """The architectures there are."""
    return tuple(
        module.name for module in pkgutil.iter_modules(__path__) if module.name not in _PARTS
    )


def build(name: str, /, **arguments) -> keras.Model:
    """Builds an architecture by its name.

    Args:
        name: one of `names()`.
        **arguments: those of the architecture's own `build`: `input_shape` (height, width,
            channels), `num_classes`, `width_multiplier` and what else it takes.

    Returns:
        The model, initialized, not compiled.

    Raises:
        BadInput: the name is unknown, or an argument is unknown, missing or of no use.

    Example:
        build("resnet_cifar", depth=20, input_shape=(32, 32, 3), num_classes=10)
    """
    if name not in names():
        raise BadInput(f'models: there is no architecture "{name}"; {near(name, names())}')
    architecture = importlib.import_module(f"{__name__}.{name}").build
    signature = inspect.signature(architecture)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        takes = ", ".join(str(parameter) for parameter in signature.parameters.values())
        raise BadInput(f'models: "{name}": {error}; build takes {takes}') from error
    return architecture(**arguments)
