"""Change a model's channels, or swap its layers, without changing what it computes.

Every channel has a label. The model's config is walked once, each layer's rule says how labels
pass, and channels that meet elementwise are tied: they live or die together (`groups`). Two
primitives stand on this: `reindex` keeps, drops, reorders or repeats channels, and `replace` puts a
chain of layers in the place of one. Both give an ordinary Keras model that loads without tfeffi.
Layers that surgery cannot see through pin their channels; a rule for a layer of your own is a few
lines (`register`).
"""

from tfeffi.surgery.branches import drop_constant_branches
from tfeffi.surgery.coupling import Coupling, Group, Plan, groups
from tfeffi.surgery.deepening import deepen
from tfeffi.surgery.rebuild import apply, reindex
from tfeffi.surgery.replacing import New, replace
from tfeffi.surgery.rules import register
from tfeffi.surgery.rules.base import Cut, Edit, Rule, Site, cut, cuts
from tfeffi.surgery.slices import Slices
from tfeffi.surgery.widening import widen

__all__ = [
    "Coupling",
    "Cut",
    "Edit",
    "Group",
    "New",
    "Plan",
    "Rule",
    "Site",
    "Slices",
    "apply",
    "cut",
    "cuts",
    "deepen",
    "drop_constant_branches",
    "groups",
    "register",
    "reindex",
    "replace",
    "widen",
]
