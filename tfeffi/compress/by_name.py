"""Compression by the name of its method, as configs and the command line speak of it."""

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfeffi.errors import BadInput, near

if TYPE_CHECKING:  # TensorFlow takes seconds to load, and a misspelt name needs none of it
    import keras

    from tfeffi.compress.report import Report

# name: (module, function, the arguments that the name stands for)
METHODS: dict[str, tuple[str, str, dict[str, str]]] = {
    "prune": ("prune.pruning", "prune", {}),
    "factorize": ("factorization", "factorize", {"method": "svd"}),
    "channel": ("factorization", "factorize", {"method": "channel"}),
    "spatial": ("factorization", "factorize", {"method": "spatial"}),
    "separable": ("structures", "replace_convolutions", {"kind": "separable"}),
    "1d": ("structures", "replace_convolutions", {"kind": "1d"}),
}


def compress(
    model: "keras.Model", /, method: str, **arguments: Any
) -> tuple["keras.Model", "Report"]:
    """Calls the compression of this name.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        method: "prune"; "factorize", or "channel" and "spatial" to force the split; "separable" and
            "1d" to replace convolutions.
        arguments: of `prune`, `factorize` or `replace_convolutions`; None means not given.

    Returns:
        The model and the report.

    Raises:
        BadInput: an unknown method, an argument that it does not take, or what it raises itself.

    Example:
        small, report = compress(model, "factorize", budget=Budget(macs=0.5))
    """
    given = {key: value for key, value in arguments.items() if value is not None}
    known = takes(method)
    for key in given:
        if key not in known:
            hint = near(key, known).replace("known: ", "it takes ")
            raise BadInput(f'method "{method}" takes no {key}; {hint}')
    return _function(method)(model, **METHODS[method][2], **given)


def takes(method: str) -> frozenset[str]:
    """The names of the arguments that a method takes, without the model."""
    check(method)
    fixed = METHODS[method][2]
    names = set(inspect.signature(_function(method)).parameters) - {"model", *fixed}
    if method == "spatial":  # it has no data-aware form
        names.discard("data")
    return frozenset(names)


def check(method: str) -> None:
    """BadInput if no method has this name."""
    if method not in METHODS:
        raise BadInput(f'unknown method "{method}"; {near(method, METHODS)}')


def _function(method: str) -> Callable[..., tuple["keras.Model", "Report"]]:
    module, name, _ = METHODS[method]
    return getattr(importlib.import_module(f"tfeffi.compress.{module}"), name)
