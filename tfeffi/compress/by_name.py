"""Compression by the name of its method, as configs and the command line speak of it."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfeffi import methods
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
    "tucker": ("factorization", "factorize", {"method": "tucker"}),
    "separable": ("structures", "replace_convolutions", {"kind": "separable"}),
    "1d": ("structures", "replace_convolutions", {"kind": "1d"}),
    "bottleneck": ("structures", "replace_convolutions", {"kind": "bottleneck"}),
    "sparsify": ("sparsity", "sparsify", {}),
    "cluster": ("clustering", "cluster", {}),
    "sensitivity": ("prune.sensitivity", "by_sensitivity", {}),
    "tfmot_prune": ("tfmot", "prune_magnitude", {}),
    "tfmot_cluster": ("tfmot", "cluster_weights", {}),
    "tfmot_qat": ("tfmot", "quantize_aware", {}),
}

# what training must hold on to after a compression, and the method of tfeffi.methods that does
HELD = {
    "sparsify": "keep_zeros", "tfmot_prune": "keep_zeros",
    "cluster": "shared_weights", "tfmot_cluster": "shared_weights",
}  # fmt: skip

_IN_STEPS = ("iterations", "schedule", "finetune")  # what makes "prune" prune in several steps
_NOT_NAMED = ("model", "original")  # no argument that a name or a config can give


def compress(
    model: "keras.Model", /, method: str, **arguments: Any
) -> tuple["keras.Model", "Report"]:
    """Calls the compression of this name.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        method: "prune", with `iterations` above 1 in steps (`prune.iteratively`); "sensitivity",
            which prunes by a table of sensitivities; "factorize", or "channel", "spatial" and
            "tucker" to force the form; "separable", "1d" and "bottleneck" to replace convolutions;
            "sparsify" and "cluster" change weights alone; "tfmot_prune", "tfmot_cluster" and
            "tfmot_qat" train in tensorflow-model-optimization (the extra tfmot).
        arguments: of the function that the method stands for; None means not given.

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
    needed = inspect.signature(_function(method)).parameters.values()
    for one in needed:
        if one.default is one.empty and one.name != "model" and one.name not in given:
            raise BadInput(f'method "{method}" needs a {one.name}; give {one.name}=...')
    if method == "prune":
        made, report = _prune(model, given)
    else:
        made, report = _function(method)(model, **METHODS[method][2], **given)
    return made, _with_losses(model, made, report)


def _with_losses(model, made, report):
    """The report, with what the compression took away of the work of earlier ones, if anything."""
    from tfeffi.compress import keeping, kernels

    if not any(layer.weights for layer in model.layers):
        return report
    lost = keeping.lost(*(kernels.find(one, (), "compress")[0] for one in (model, made)))
    if not lost or lost in report.note:
        return report
    return dataclasses.replace(report, note=f"{lost} {report.note}".strip())


def _prune(model, given: dict[str, Any]):
    """At once or in steps."""
    iterations = given.pop("iterations", 1)
    if iterations != 1:
        from tfeffi.compress.prune.iterative import iteratively

        if "budget" not in given:
            raise BadInput(f'method "prune": iterations={iterations!r} need a budget')
        return iteratively(model, given.pop("budget"), steps=iterations, **given)
    for key in _IN_STEPS[1:]:
        if key in given:
            raise BadInput(f'method "prune": {key} is of pruning in steps; give iterations=3')
    return _function("prune")(model, **given)


def takes(method: str) -> frozenset[str]:
    """The names of the arguments that a method takes, without the model."""
    check(method)
    fixed = METHODS[method][2]
    names = set(inspect.signature(_function(method)).parameters) - {*_NOT_NAMED, *fixed}
    if method == "prune":
        names.update(_IN_STEPS)
    if method == "tucker":  # it has no data-aware form
        names.discard("data")
    return frozenset(names)


def holding(method: str | None, model: "keras.Model | None" = None) -> list:
    """The training methods without which fine-tuning would undo a compression; often none.

    Args:
        method: the compression.
        model: what is tuned; what earlier compressions made of it is held, too.
    """
    names = {HELD[method]} if method in HELD else set()
    if model is not None:
        from tfeffi.compress import keeping, kernels

        names |= keeping.needed(kernels.find(model, (), "compress")[0])
    return [methods.build(name) for name in sorted(names)]


def check(method: str) -> None:
    """BadInput if no method has this name."""
    if method not in METHODS:
        raise BadInput(f'unknown method "{method}"; {near(method, METHODS)}')


def _function(method: str) -> Callable[..., tuple["keras.Model", "Report"]]:
    module, name, _ = METHODS[method]
    return getattr(importlib.import_module(f"tfeffi.compress.{module}"), name)
