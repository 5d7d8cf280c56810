"""`quantize_aware`: int8 with training, tfmot's 8-bit scheme, back to Keras 3 and straight to LiteRT."""

import os
import pathlib
import re
import tempfile
from typing import Any

import keras
import tensorflow as tf

from tfeffi import files, quiet
from tfeffi.analysis.cost import cost
from tfeffi.compress import keeping, kernels
from tfeffi.compress.report import Change, Report
from tfeffi.compress.tfmot import bridge as bridging
from tfeffi.compress.tfmot import translation
from tfeffi.compress.tfmot.library import tf_keras, tfmot
from tfeffi.compress.tfmot.training import Examples, Training, train
from tfeffi.errors import BadInput
from tfeffi.export import contract, convert, flatbuffer, samples
from tfeffi.export.contract import ExportError

# Quantized together with the layers around them, or on the way in: the registry has no entry.
_AROUND = ("BatchNormalization", "SyncBatchNormalization", "InputLayer")


def quantize_aware(
    model: keras.Model,
    training_data: Any,
    *,
    tflite: str | os.PathLike | None = None,
    integer_io: bool = False,
    epochs: int = 2,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    min_agreement: float = contract.AGREEMENT,
    seed: int = 0,
) -> tuple[keras.Model, Report]:
    """Trains a model with the rounding of int8 in it: tfmot's quantization-aware training.

    Zeros of the kernels and values that weights share stay, so that it may follow `sparsify`, `cluster`,
    `prune` and their likes; it is the library's PQAT, CQAT and PCQAT in one.

    Args:
        model: a functional or built Sequential Keras 3 model; it is left as it is.
        training_data: labelled training images: `tfeffi.data.Images`, arrays (images, labels), or a
            tf.data.Dataset of batches.
        tflite: an int8 file to write, with the ranges that were trained; must not exist. It is checked
            as `tfeffi.export` checks: builtins and integers only, and the classes of the trained model.
        integer_io: whether its input and output are int8, too.
        epochs, batch_size, learning_rate, seed: see `training.Training`.
        min_agreement: the fraction of at most 200 training images, evenly spaced, on which the file
            must give the class of the trained model; fewer, where they are large.

    Returns:
        A Keras 3 model with the trained weights, in float32 and without the rounding (so that other
        steps can follow; `tfeffi.export` calibrates it anew), and the report.

    Raises:
        BadInput: a number out of range, data without labels, a layer that cannot cross or that the
            scheme does not know; the message names it.
        ExportError: the file would break the contract.
        MissingExtra: tensorflow-model-optimization is not installed.

    Example:
        trained, report = quantize_aware(model, images, tflite="m.tflite", integer_io=True)

    Source: Jacob et al. 2018, arXiv 1712.05877.
    """
    if tflite is not None:
        if pathlib.Path(tflite).suffix != ".tflite":
            raise BadInput(f'output "{tflite}" must end in .tflite')
        files.refuse_existing(tflite)
    contract.check_agreement(min_agreement)
    training = Training(epochs, batch_size, learning_rate, seed)
    examples = Examples.of(model, training_data, batch_size)
    before, _ = kernels.find(model, (), "tfmot_qat")
    bridge = bridging.build(model)
    aware = _annotated(bridge)
    losses = train(aware, examples, training)
    made = bridging.back(bridge, aware)
    settings = {"losses": losses, "epochs": epochs}
    if tflite is not None:
        settings |= _written(aware, tflite, integer_io, examples, min_agreement)
    note = keeping.lost(before, kernels.find(made, (), "tfmot_qat")[0])
    change = Change("loss", f"{losses[0]:.4g}", f"{losses[-1]:.4g}")
    return made, Report(
        "tfmot_qat", cost(model), cost(made), (change,), settings=settings, note=note
    )


def _annotated(bridge: bridging.Bridge):
    """The twin with the scheme's rounding in it.

    Raises:
        BadInput: it does not know a layer, or one is called more than once.
    """
    quantization, twin = tfmot().quantization.keras, bridge.model
    registry = quantization.default_8bit.Default8BitQuantizeRegistry()
    unknown = [
        one for one in twin.layers
        if not registry.supports(one) and type(one).__name__ not in _AROUND
    ]  # fmt: skip
    if unknown:
        raise _unknown([f'"{one.name}" ({type(one).__name__})' for one in unknown])
    shared = [one.name for one in twin.layers if len(one.inbound_nodes) > 1]
    if shared:
        raise BadInput(
            f'tfmot: layer "{shared[0]}" is called more than once, which the 8-bit scheme cannot '
            "quantize; give each call a layer of its own"
        )
    try:
        with (
            tf_keras().utils.custom_object_scope(translation.custom_objects()),
            quantization.quantize_scope(),
        ):
            return quantization.quantize_apply(quantization.quantize_annotate_model(twin))
    except (RuntimeError, ValueError) as error:
        named = re.search(r"Layer ([^:]+):<class '[\w.]*?(\w+)'>", str(error))
        if named is None:
            first = str(error).strip().splitlines()[0]
            raise BadInput(f"tfmot: the 8-bit scheme refuses the model: {first:.200}") from error
        raise _unknown([f'"{named[1]}" ({named[2]})']) from error


def _unknown(layers: list[str]) -> BadInput:
    more = f" and {len(layers) - 5} more" if len(layers) > 5 else ""
    return BadInput(
        f"tfmot: its 8-bit scheme does not know {', '.join(layers[:5])}{more}; replace them, or "
        'export with quantize="int8" and calibration'
    )


def _written(aware, path, integer_io: bool, examples: Examples, min_agreement: float) -> dict:
    """Converts, checks, writes; what the report says of the file."""
    (tensor,) = aware.inputs
    signature = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, "input_0")]
    images = samples.of(signature, examples.images, None, None)
    content = _converted(aware, signature, integer_io)
    with tempfile.TemporaryDirectory() as folder:
        temporary = pathlib.Path(folder) / pathlib.Path(path).name
        temporary.write_bytes(content)
        contract.check_structure(temporary, "int8", integer_io)
        parity, _ = samples.parity(aware, temporary, images, real=True)
        contract.check_parity(parity, "int8", None, min_agreement)
        zipped = flatbuffer.zip_bytes(temporary)
    with files.replacing(path) as temporary:
        temporary.write_bytes(content)
    return {
        "tflite": str(path), "tflite_bytes": len(content), "tflite_zip_bytes": zipped,
        "checked_images": parity.images, "top1_agreement": parity.top1_agreement,
    }  # fmt: skip


def _converted(aware, signature: list[tf.TensorSpec], integer_io: bool) -> bytes:
    def infer(x):
        return {"output_0": aware(x, training=False)}

    try:
        with tempfile.TemporaryDirectory() as folder, quiet.native_code():
            convert.saved_model(infer, aware.variables, signature, folder)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if integer_io:
                converter.inference_input_type = converter.inference_output_type = tf.int8
            return converter.convert()
    except Exception as error:  # ConverterError, RuntimeError, ValueError: native code says which
        first = str(error).strip().splitlines()[0]
        raise ExportError(f"cannot convert the quantized model: {first:.200}") from error
