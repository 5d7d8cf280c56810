"""Channel pruning: which channels matter, how many may go, and a smaller model that is just that.

`tfeffi.prune(model, ...)` is the door (pruning.py). Importances are plain functions
(importance.py): of activations, measured where they are read (activity.py), of gradients at the
same places (gates.py), of weights (weights.py); what coupled layers say becomes one score
(scores.py). A budget is met by search over plans that cost nothing to make (search.py); what only
an exported file tells is measured (goals.py). `prune.iteratively` goes in steps and tunes in
between, `prune.by_sensitivity` decides by what shrinking each layer alone does.
"""

import sys
import types

from tfeffi.compress.prune import importance
from tfeffi.compress.prune.activity import Activity, measure
from tfeffi.compress.prune.iterative import iteratively
from tfeffi.compress.prune.pruning import prune
from tfeffi.compress.prune.sensitivity import by_sensitivity

__all__ = ["Activity", "by_sensitivity", "importance", "iteratively", "measure", "prune"]


class _CallablePackage(types.ModuleType):
    """`tfeffi.compress.prune` is the package, for Python binds that name to it as soon as one of its
    files is imported; a caller means the function."""

    def __call__(self, *args, **kwargs):
        return prune(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
