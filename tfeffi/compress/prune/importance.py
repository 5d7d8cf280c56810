"""How much each channel matters: plain functions of a labelled model and data, by name.

Each takes `(coupling, data)`, the options it has as keywords, and gives a `Scores`: one number for
each class of coupled channels, the larger the more important. Pass a function of your own as
`prune(..., importance=function)`.

    activations, apoz, mean_activation, outliers      measured on inputs (activity.py)
    taylor, taylor_abs, fisher                        measured on inputs and labels (gates.py)
    l1, l2, geometric_median, group_lasso, bn_scale   read off the weights (weights.py)
    random                                            what every other one has to beat
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from tfeffi.compress.prune.activity import activations, apoz, mean_activation, outliers
from tfeffi.compress.prune.gates import fisher, taylor, taylor_abs
from tfeffi.compress.prune.scores import Scores
from tfeffi.compress.prune.weights import bn_scale, geometric_median, group_lasso, l1, l2
from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling


def random(coupling: Coupling, data=None, *, seed: int = 0) -> Scores:
    """A random order of all channels: the baseline.

    Args:
        coupling: the labelled model.
        data: not looked at.
        seed: of the order.
    """
    values = np.random.default_rng(seed).random(coupling.classes.count)
    return Scores(values, values, values)


FUNCTIONS: dict[str, Callable[..., Scores]] = {
    "activations": activations,
    "apoz": apoz,
    "mean_activation": mean_activation,
    "outliers": outliers,
    "taylor": taylor,
    "taylor_abs": taylor_abs,
    "fisher": fisher,
    "l1": l1,
    "l2": l2,
    "geometric_median": geometric_median,
    "group_lasso": group_lasso,
    "bn_scale": bn_scale,
    "random": random,
}

THRESHOLDS = {"outliers": -2.0}  # of the importances that are a rule of their own


def find(importance) -> Callable[..., Scores]:
    """The function of a name, or the function that was given.

    Raises:
        BadInput: no importance of that name.
    """
    if callable(importance):
        return importance
    if importance not in FUNCTIONS:
        raise BadInput(f'prune: no importance "{importance}"; {near(importance, FUNCTIONS)}')
    return FUNCTIONS[importance]


def name_of(importance) -> str:
    """What a report calls it."""
    if isinstance(importance, str):
        return importance
    return getattr(importance, "__name__", type(importance).__name__)


def options(importance, **given: Any) -> dict[str, Any]:
    """The options of an importance: those given, else its own defaults.

    Args:
        importance: a name or a function.
        given: None where an option is not given.

    Returns:
        A value for each option that it has among those asked for.

    Raises:
        BadInput: an option is given that it does not have; but for the seed, which is ignored.

    Example:
        options("l2", reduction="max", loss=None)     # {"reduction": "max"}
    """
    has = inspect.signature(find(importance)).parameters
    for option, value in given.items():
        if value is not None and option not in has and option != "seed":
            known = sorted(set(has) & set(given)) or ["none of them"]
            raise BadInput(
                f'prune: importance "{name_of(importance)}" has no {option}; of these options it '
                f"has {', '.join(known)}"
            )
    return {
        option: has[option].default if value is None else value
        for option, value in given.items()
        if option in has
    }


def score(importance, coupling: Coupling, data=None, **chosen: Any) -> Scores:
    """The scores of a model.

    Args:
        importance: a name, or a function `(coupling, data, ...) -> Scores`.
        coupling: the labelled model, `Coupling.of(model)`.
        data: what it measures on.
        chosen: its options, see `options`.

    Raises:
        BadInput: no data for an importance that is measured, an option out of range, scores of
            another length than the model has classes.
    """
    function = find(importance)
    needs = inspect.signature(function).parameters.get("data")
    if data is None and importance in FUNCTIONS and needs.default is inspect.Parameter.empty:
        raise BadInput(f'prune: importance "{importance}" is measured on data; give data=...')
    found, count = function(coupling, data, **chosen), coupling.classes.count
    if not isinstance(found, Scores) or {np.shape(a) for a in vars(found).values()} != {(count,)}:
        raise BadInput(
            f'prune: importance "{name_of(importance)}" must give Scores of three arrays of '
            f"{count} numbers, one for each class of channels"
        )
    return found
