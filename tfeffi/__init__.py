"""tfeffi: CNNs that are cheap to train and cheap to run on a phone.

What a user types is here; the rooms behind it load when they are first used.
"""

import importlib

__version__ = "0.1.0"

_FRONT_DOOR = {
    "BadInput": "tfeffi.errors",
    "Budget": "tfeffi.compress.budget",
    "benchmark": "tfeffi.bench",
    "cost": "tfeffi.analysis.cost",
    "deepen": "tfeffi.surgery.deepening",
    "factorize": "tfeffi.compress",
    "prune": "tfeffi.compress.prune",
    "reindex": "tfeffi.surgery",
    "replace": "tfeffi.surgery",
    "replace_convolutions": "tfeffi.compress",
    "widen": "tfeffi.surgery.widening",
}
_ROOMS = (
    "analysis", "bench", "compress", "data", "export", "layers", "methods", "models", "study",
    "surgery", "train",
)  # fmt: skip
__all__ = sorted([*_FRONT_DOOR, *_ROOMS])


def __getattr__(name: str):
    if name in _FRONT_DOOR:
        return getattr(importlib.import_module(_FRONT_DOOR[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"tfeffi.{name}")
    raise AttributeError(f"module 'tfeffi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
