"""Make a trained model smaller: every function here is `(model, ...) -> (model, Report)`.

The result is an ordinary Keras functional model; the report says what changed, what was left alone
and why, and what it saved. `taught` alone gives images, those that a small model learns from a large
one by. Nothing here trains but `distill` and `tfmot`: fine-tune as you trained the original.
"""

import importlib

_HOMES = {
    "Budget": "budget",
    "Change": "report",
    "Report": "report",
    "Skipped": "report",
    "cluster": "clustering",
    "distill": "distillation",
    "factorize": "factorization",
    "prune": "prune",
    "prune_cycle": "prune.cycles",
    "prune_to_tolerance": "prune.minimal",
    "prune_to_widths": "prune.widths",
    "recalibrate": "recalibration",
    "replace_convolutions": "structures",
    "sparsify": "sparsity",
    "taught": "teaching",
    "tfmot": "tfmot",
}
_MODULES = ("prune", "tfmot")  # the first can be called, too
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'tfeffi.compress' has no attribute {name!r}")
    module = importlib.import_module(f"tfeffi.compress.{_HOMES[name]}")
    return module if name in _MODULES else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
