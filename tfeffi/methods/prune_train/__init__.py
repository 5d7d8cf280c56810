"""PruneTrain: a group lasso drives channels to zero while the model trains, and they leave it.

Each epoch is cheaper than the one before, and what comes out is a small, dense, ordinary model.
`GroupLasso`, `penalty_from_ratio` and `reconfigure` are all there is to it, for a loop of your own;
the method does it in `tfeffi.train.fit`.

Source: Lym et al. 2019, "PruneTrain: fast neural network training by dynamic sparse model
reconfiguration", arXiv 1901.09290.
"""

from tfeffi.methods.prune_train.lasso import (
    GroupLasso,
    class_macs,
    group_norms,
    penalty_from_ratio,
    shrink_groups,
)
from tfeffi.methods.prune_train.method import PruneTrain, build
from tfeffi.methods.prune_train.reconfiguration import (
    Reconfigured,
    dense_classes,
    reconfigure,
    zero_then_check,
)

__all__ = [
    "GroupLasso",
    "PruneTrain",
    "Reconfigured",
    "build",
    "class_macs",
    "dense_classes",
    "group_norms",
    "penalty_from_ratio",
    "reconfigure",
    "shrink_groups",
    "zero_then_check",
]
