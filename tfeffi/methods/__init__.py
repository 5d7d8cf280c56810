"""Methods that make training cheaper: one folder a method, with its card.

A method has two faces: a pure function that works in anyone's loop, and a thin `Method` that only
forwards to it. Methods run in the order in which they are given to `tfeffi.train.fit`. A folder
`tfeffi/methods/NAME` is found by its name; its `build(**settings)` returns the `Method`.
"""

import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Sequence

from tfeffi.errors import BadInput, near
from tfeffi.methods.method import Method, NoEffectWarning

__all__ = ["Method", "NoEffectWarning", "build", "check_together", "names"]


def names() -> list[str]:
    """The methods there are."""
    return [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]


def build(name: str, **settings) -> Method:
    """The method of folder `tfeffi/methods/NAME`, with its settings.

    Raises:
        BadInput: there is no such method, it has no such setting, or it needs one that is missing.
    """
    if name not in names():
        raise BadInput(f'method "{name}" is not known; {near(name, names())}')
    make = importlib.import_module(f"{__name__}.{name}").build
    signature = inspect.signature(make)
    for key in settings:
        if key not in signature.parameters:
            known = list(signature.parameters)
            hint = near(key, known) if known else "it has none"
            raise BadInput(f'method {name}: unknown setting "{key}"; {hint}')
    try:
        signature.bind(**settings)
    except TypeError as error:
        raise BadInput(f"method {name}: {error}") from None
    return make(**settings)


def check_together(methods: Sequence[Method]) -> None:
    """Raises BadInput if two of the methods exclude each other, or one is none; says which and why."""
    is_list = isinstance(methods, Sequence) and not isinstance(methods, str)
    wrong = [one for one in methods if not isinstance(one, Method)] if is_list else [methods]
    if wrong:
        raise BadInput(
            f'methods must be a list, of what tfeffi.methods.build("NAME", ...) makes, not {wrong[0]!r}'
        )
    for one, other in itertools.permutations(methods, 2):
        if reason := one.excludes().get(other.name):
            raise BadInput(
                f"methods {one.name} and {other.name} exclude each other: {reason}; leave one out"
            )
