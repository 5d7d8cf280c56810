"""A float32 .tflite in fewer bits, by litert-quantizer: operator by operator, as planned."""

import re
import warnings
from collections.abc import Sequence

import numpy as np

from tfeffi import quiet
from tfeffi.export import calibration
from tfeffi.export.contract import ExportError
from tfeffi.export.plan import Planned

_BITS = {"float16": 16, "int8": 8, "int4": 4, "int16": 16}
_EVERY = ".*"
_SIGNATURE, _INPUT = "serving_default", "input_0"  # of what `convert` writes


def quantize(
    content: bytes, plan: Sequence[Planned], images: np.ndarray | None, batch: int, integer_io: bool
) -> bytes:
    """Quantizes a file.

    Args:
        content: a float32 .tflite of `convert`.
        plan: for each of its operators.
        images: that the ranges of activations are taken from, where the plan has integer ones: the
            lowest and the highest value over all of them.
        batch: how many the file takes at once.
        integer_io: whether inputs and outputs are integers too.

    Returns:
        The quantized file.

    Raises:
        ExportError: litert-quantizer refuses.
    """
    from litert_quantizer import quantizer  # seconds, and only this needs it

    recipe = _recipe(plan, integer_io)
    try:
        with quiet.native_code(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*preserve_all_tensors")  # it debugs on purpose
            working = quantizer.Quantizer(content, recipe.get_quantization_recipe())
            ranges = _ranges(content, recipe, images, batch) if working.need_calibration else None
            done = working.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ExportError(f"litert-quantizer cannot quantize the model: {reason}") from error
    return bytes(done.quantized_model)


def _recipe(plan: Sequence[Planned], integer_io: bool):
    """The plan in litert-quantizer's words: one entry an operator, found by the tensors it writes."""
    from litert_quantizer import algorithm_manager, qtyping, recipe_manager

    names, algorithms = qtyping.TFLOperationName, algorithm_manager.AlgorithmName
    manager = recipe_manager.RecipeManager()
    for planned in plan:
        if planned.recipe is None:
            continue
        scope = f"^{re.escape(';'.join(planned.step.outputs))};$"
        bits, recipe = _BITS[planned.weights], planned.recipe
        granularity = qtyping.QuantGranularity[
            f"BLOCKWISE_{planned.block}" if planned.block else "CHANNELWISE"
        ]
        if recipe.calibrated:
            wide = _BITS[recipe.activations]
            manager.add_static_config(scope, names.ALL_SUPPORTED, wide, bits, granularity)
        elif recipe.integer:
            manager.add_dynamic_config(scope, names.ALL_SUPPORTED, bits, granularity)
        else:
            casts = planned.weights == "float16"
            how = algorithms.FLOAT_CASTING if casts else algorithms.MIN_MAX_UNIFORM_QUANT
            granularity = qtyping.QuantGranularity.TENSORWISE if casts else granularity
            manager.add_weight_only_config(scope, names.ALL_SUPPORTED, bits, granularity, how)
    for end in (names.INPUT, names.OUTPUT):  # later entries win
        if integer_io:
            manager.add_static_config(_EVERY, end, _BITS[plan[0].recipe.activations], 8)
        else:
            manager.add_quantization_config(_EVERY, end, algorithm_key=algorithms.NO_QUANTIZE)
    return manager


def _ranges(content: bytes, recipe, images: np.ndarray, batch: int) -> dict:
    """The lowest and highest value of every tensor over the images.

    One thread, so that the sums within are always in the same order; and no moving average, which
    is litert-quantizer's default and clips what few images reach.
    """
    from litert_quantizer import calibrator
    from litert_quantizer.utils import qsv_utils

    mode = calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED
    working = calibrator.Calibrator(
        content, num_threads=1, mode=mode, qsv_update_func=qsv_utils.min_max_update
    )
    rows = [{_INPUT: rows} for rows in calibration.batches(images, batch)]
    working.calibrate({_SIGNATURE: rows}, recipe)
    return working.get_model_qsvs()
