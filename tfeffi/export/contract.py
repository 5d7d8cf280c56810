"""What every exported file keeps, checked each time: a file that breaks it never gets its name.

1. builtin operators only: no Flex, no custom (they need a larger runtime than phones ship);
2. the weights and activations are what was asked for, but for small ones and biases;
3. LiteRT runs it, and every output is finite;
4. it computes what Keras computes: the same numbers, or with fewer bits the same classes.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from tfeffi.errors import BadInput
from tfeffi.export import flatbuffer, recipes
from tfeffi.export import plan as plans
from tfeffi.export.recipes import FLOAT32
from tfeffi.export.steps import Step

# The largest difference over the largest output. On this project's trained models it was at most
# 1e-6, 1e-4, 2e-2 and 5e-2; with random weights under fresh batch statistics, which amplify every
# rounding from layer to layer, up to 4e-5, 4e-2, 2e-1 and 2e-1. A broken file is near 1.
_EIGHT_BITS, _FOUR_BITS = 0.3, 0.5
TOLERANCE = {
    None: 1e-3,
    **{r.name: _FOUR_BITS if r.weights == "int4" else _EIGHT_BITS for r in recipes.RECIPES.values()},
    "float16": 0.05,
}  # fmt: skip
AGREEMENT = 0.9  # of the classes with Keras
_MUST_AGREE = {r.name for r in recipes.RECIPES.values() if r.calibrated}
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_SMALL = 1024  # the converter keeps weights of fewer elements in float32
# What has a kernel for int8 weights and float activations; others keep their weights in float32.
_DYNAMIC = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


class ExportError(BadInput):
    """The model cannot be exported, or the file would break the contract."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far a .tflite is from Keras on the same images.

    Attributes:
        images: how many were compared.
        max_difference: the largest absolute difference of an output value.
        relative_difference: that over the largest absolute output of Keras.
        top1_agreement: the fraction of images given the same class; None unless it is a classifier.
    """

    images: int
    max_difference: float
    relative_difference: float
    top1_agreement: float | None


def check_structure(
    path: str | os.PathLike, quantize: str | None, integer_io: bool
) -> flatbuffer.Contents:
    """Rules 1 and 2, read from the file.

    Raises:
        ExportError: it needs more than builtin operators, or its types are not those asked for.
    """
    contents = flatbuffer.inspect(path)
    if contents.custom:
        raise ExportError(
            f"the exported file needs {', '.join(contents.custom)}, which are not builtin"
        )
    if quantize in ("float16", "dynamic"):
        _check_weights(contents, quantize)
    recipe = recipes.RECIPES.get(quantize)
    if recipe and recipe.calibrated:
        if contents.float_operators:
            raise ExportError(
                f"{quantize}: {', '.join(contents.float_operators)} would still compute in floating "
                f'point; use quantize="dynamic" or replace that layer'
            )
        ends = {t.dtype for t in (*contents.inputs, *contents.outputs)}
        if integer_io and ends != {recipe.activations}:
            raise ExportError(
                f"integer_io: inputs and outputs are {sorted(ends)}, not {recipe.activations}"
            )
    return contents


def _check_weights(contents: flatbuffer.Contents, quantize: str) -> None:
    for operator, elements in contents.float_weights.items():
        if elements >= _SMALL and (quantize == "float16" or operator in _DYNAMIC):
            raise ExportError(
                f"{quantize}: {operator} would still have {elements} float32 weights; use another "
                f"quantize or replace that layer"
            )


def check_plan(plan: Sequence[plans.Planned], steps: Sequence[Step]) -> None:
    """Rule 2 of the contract, operator by operator.

    Args:
        plan: for the operators of the file before it was quantized.
        steps: of the file that came out.

    Raises:
        ExportError: an operator has other types than planned, or is gone.
    """
    found = [step for step in steps if step.operator not in _CONVERSIONS]
    if [step.operator for step in found] != [planned.step.operator for planned in plan]:
        raise ExportError("quantizing changed the operators; export with quantize=None instead")
    for planned, step in zip(plan, found, strict=True):
        name, operator = planned.recipe.name if planned.recipe else FLOAT32, step.operator
        of = f' of layer "{planned.layer}"' if planned.layer else ""
        if (
            planned.step.kernel_type
            and operator in plans.KERNELS
            and step.kernel_type != planned.weights
        ):
            raise ExportError(
                f"{name}: the weights of {operator}{of} are {step.kernel_type}, not "
                f"{planned.weights}; use another recipe for that layer"
            )
        floats = [kind for kind in step.activations if kind.startswith("float")]
        if planned.recipe and planned.recipe.calibrated and floats:
            raise ExportError(
                f"{name}: {operator}{of} would still compute in floating point; use a recipe with "
                f"float activations or replace that layer"
            )


def compare(reference: list[np.ndarray], got: list[np.ndarray]) -> Parity:
    """Rules 3 and 4, the measuring.

    Args:
        reference: the outputs (n, ...) of Keras.
        got: the outputs of the .tflite on the same images, in the same order.

    Raises:
        ExportError: an output is not finite, or has another shape.
    """
    difference, relative = 0.0, 0.0
    for wanted, found in zip(reference, got, strict=True):
        if wanted.shape != found.shape:
            raise ExportError(
                f"the exported file gives the shape {found.shape}, Keras {wanted.shape}"
            )
        if not np.isfinite(found).all():
            raise ExportError(
                "the exported file gives outputs that are not finite (NaN or infinite)"
            )
        apart = float(np.max(np.abs(wanted.astype(np.float64) - found), initial=0.0))
        largest = float(np.max(np.abs(wanted), initial=0.0))
        difference = max(difference, apart)
        relative = max(relative, apart / largest if largest else apart)
    agreement = None
    if len(reference) == 1 and reference[0].ndim == 2 and reference[0].shape[1] > 1:
        agreement = float(np.mean(reference[0].argmax(1) == got[0].argmax(1)))
    return Parity(len(reference[0]), difference, relative, agreement)


def check_parity(
    parity: Parity,
    quantize: str | None,
    tolerance: float | None,
    min_agreement: float | None,
    plan: Sequence[plans.Planned] = (),
) -> None:
    """Rule 4, the judging.

    A limit that the caller gives is kept. Without one, integer activations must agree on AGREEMENT
    of the classes, if it is a classifier and the images are real: a common offset of the outputs
    hides any error of theirs. And float32 must be within TOLERANCE, and lossy weights within theirs
    unless they agree on AGREEMENT of the classes. By layer, what holds is the loosest of the recipes
    in the plan.

    Raises:
        ExportError: the file computes something else than Keras.
    """
    agrees, used = parity.top1_agreement, {quantize}
    if quantize == recipes.MIXED:
        used = {planned.recipe.name if planned.recipe else None for planned in plan}
    if min_agreement is not None and agrees is None:
        raise BadInput(
            "min_agreement is for classifiers, with one output (n, classes), and needs images: "
            "give check_with"
        )
    if min_agreement is None and used & _MUST_AGREE and agrees is not None:
        min_agreement = AGREEMENT
    if min_agreement is not None and agrees < min_agreement:
        remedy = (
            '; calibrate on more images like those of the training, use quantize="dynamic", '
            "or set min_agreement (0 for an untrained model)"
        )
        remedy = remedy if used & _MUST_AGREE else ""
        raise ExportError(_apart(parity, f"wanted are {min_agreement:.1%}{remedy}"))
    if tolerance is not None and parity.relative_difference > tolerance:
        raise ExportError(_apart(parity, f"allowed is {tolerance:g}"))
    same = used != {None} and agrees is not None and agrees >= AGREEMENT
    limit = max(TOLERANCE[name] for name in used)
    if tolerance is None and not same and parity.relative_difference > limit:
        allowed = f"allowed is {limit:g}; a larger tolerance takes untrained models"
        raise ExportError(_apart(parity, allowed))


def check_agreement(fraction: float | None) -> None:
    """BadInput unless it is a fraction, or None for the default."""
    if fraction is not None and not 0 <= fraction <= 1:  # not a number is not
        raise BadInput(f"min_agreement {fraction} must be a fraction from 0 to 1")


def _apart(parity: Parity, limit: str) -> str:
    agrees = parity.top1_agreement
    classes = "" if agrees is None else f" and gives {agrees:.1%} of the images the same class"
    return (
        f"the exported file differs from Keras by {parity.relative_difference:.3g} of the largest "
        f"output on {parity.images} images{classes}; {limit}"
    )
