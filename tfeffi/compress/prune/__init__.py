"""Channel pruning: which channels matter, how many may go, and a smaller model that is just that.

`tfeffi.prune(model, ...)` is the door (pruning.py). Importances are plain functions
(importance.py), activations are measured where they are read (activity.py), and a budget is met
by search over plans that cost nothing to make (search.py).
"""

import sys
import types

from tfeffi.compress.prune import importance
from tfeffi.compress.prune.activity import Activity, measure
from tfeffi.compress.prune.pruning import prune

__all__ = ["Activity", "importance", "measure", "prune"]


class _CallablePackage(types.ModuleType):
    """Python binds `tfeffi.compress.prune` to this package as soon as one of its files is imported;
    a caller means the function."""

    def __call__(self, *args, **kwargs):
        return prune(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
