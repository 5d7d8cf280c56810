"""Methods that make training cheaper: one folder a method, with its card.

A method has two faces: a pure function that works in anyone's loop, and a thin `Method` that only
forwards to it. Methods run in the order in which they are given to `tfeffi.train.fit`. A folder
`tfeffi/methods/NAME` is found by its name; its `build(**settings)` returns the `Method`.
"""

import importlib
import pkgutil

from tfeffi.errors import BadInput, near
from tfeffi.methods.method import Method, NoEffectWarning

__all__ = ["Method", "NoEffectWarning", "build"]


def build(name: str, **settings) -> Method:
    """The method of folder `tfeffi/methods/NAME`, with its settings; BadInput if there is none."""
    known = [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]
    if name not in known:
        hint = near(name, known) if known else "this version has no methods yet"
        raise BadInput(f'method "{name}" is not known; {hint}')
    return importlib.import_module(f"tfeffi.methods.{name}").build(**settings)
