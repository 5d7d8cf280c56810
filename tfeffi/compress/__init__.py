"""Make a trained model smaller: every function here is `(model, ...) -> (model, Report)`.

The result is an ordinary Keras functional model; the report says what changed, what was left alone
and why, and what it saved. Nothing here trains: fine-tune the result as you trained the original.
"""

import importlib

_HOMES = {
    "Budget": "budget",
    "Change": "report",
    "Report": "report",
    "Skipped": "report",
    "factorize": "factorization",
    "prune": "prune",
    "replace_convolutions": "structures",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'tfeffi.compress' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tfeffi.compress.{_HOMES[name]}"), name)
    globals()[name] = value  # `prune` is also the name of the folder it lives in: the function wins
    return value


def __dir__() -> list[str]:
    return __all__
