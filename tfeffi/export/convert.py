"""Keras to a .tflite flatbuffer: float32 arithmetic, inference mode, builtin operators only.

The converter reads a SavedModel and freezes its variables: it folds every batch normalization into
its convolution, leaves no variables for the phone to initialize, and takes a quarter of the memory
that it needs for a traced function with the weights as constants.
"""

import contextlib
import copy
import re
import tempfile
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfeffi import derived, quiet
from tfeffi.errors import BadInput
from tfeffi.export import calibration, layers
from tfeffi.export.contract import ExportError

_LOW_PRECISION = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def in_float32(model: keras.Model) -> keras.Model:
    """The same network computing in float32: rebuilt by its config, same weights.

    Args:
        model: trained under any precision policy.

    Returns:
        `model` itself if it computes in float32 already.

    Raises:
        BadInput: it computes in less and cannot be rebuilt by its config.
    """
    try:
        config = model.get_config()
    except NotImplementedError as error:
        if model.compute_dtype == "float32":
            return model
        raise BadInput(
            f'model "{model.name}" computes in {model.compute_dtype} and has no config to rebuild'
        ) from error
    wide = _widened(config)
    if wide == config:
        return model
    rebuilt = type(model).from_config(wide)
    rebuilt.set_weights([_float32(weight) for weight in model.get_weights()])
    derived.renew(rebuilt)
    return rebuilt


def _widened(config):
    """A copy of a config in which every low-precision dtype or policy is float32."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            config = copy.deepcopy(config)
            if config["config"]["name"] in _LOW_PRECISION:
                config["config"]["name"] = "float32"
            return config
        return {
            key: "float32" if key == "dtype" and _is_low(value) else _widened(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_widened(value) for value in config)
    return config


def _is_low(dtype) -> bool:
    return isinstance(dtype, str) and dtype in _LOW_PRECISION


def _float32(weight: np.ndarray) -> np.ndarray:
    low = weight.dtype.name in _LOW_PRECISION
    return weight.astype(np.float32) if low else weight


def specs(model: keras.Model, batch_size: int | None, input_shape) -> list[tf.TensorSpec]:
    """What the exported function takes: one static shape an input, except for the batch.

    Args:
        model: with defined inputs.
        batch_size: None for a dynamic batch.
        input_shape: replaces the shape of a model's only input, without the batch.

    Returns:
        One spec an input, named input_0, input_1, ...
    """
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if input_shape is not None:
        if len(shapes) != 1:
            raise BadInput(f"input_shape is for a model with one input, this one has {len(shapes)}")
        _check_fits(tuple(input_shape), shapes[0])
        shapes = [tuple(input_shape)]
    for shape in shapes:
        if None in shape:
            raise BadInput(
                f"the model's input has the open shape {shape}; give input_shape=(height, width, c)"
            )
    return [
        tf.TensorSpec([batch_size, *shape], tensor.dtype, f"input_{i}")
        for i, (shape, tensor) in enumerate(zip(shapes, model.inputs, strict=True))
    ]


def _check_fits(given: tuple, own: tuple) -> None:
    if len(given) != len(own) or any(o not in (None, g) for g, o in zip(given, own, strict=True)):
        raise BadInput(f"input_shape {given} does not fit the model's {own}")


def convert(
    model: keras.Model,
    signature: list[tf.TensorSpec],
    quantize: str | None,
    images: np.ndarray | Sequence[np.ndarray] | None = None,
    integer_io: bool = False,
    numbered: bool = False,
) -> bytes:
    """Converts a Keras model.

    Args:
        model: in float32, see `in_float32`.
        signature: see `specs`.
        quantize: a recipe of the converter's own: None, "float16", "dynamic" or "int8".
        images: float32 calibration images, for "int8"; one array an input, if there are several.
        integer_io: int8 input and output, for "int8".
        numbered: tensors are named by the numbers of their layers, see `layers`.

    Returns:
        The flatbuffer.

    Raises:
        ExportError: an operator has no builtin counterpart (in the integer set, for "int8").
    """
    with tempfile.TemporaryDirectory() as folder:
        names = layers.numbered(model) if numbered else contextlib.nullcontext()
        with quiet.native_code(), names:
            _save(model, signature, folder)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        return _converted(converter, model, signature, quantize, images, integer_io)


def _converted(converter, model, signature, quantize, images, integer_io) -> bytes:
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        size = signature[0].shape[0] or 1
        arrays = [images] if isinstance(images, np.ndarray) else images
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: (
            list(batch)
            for batch in zip(*(calibration.batches(a, size) for a in arrays), strict=True)
        )
        if integer_io:
            converter.inference_input_type = converter.inference_output_type = tf.int8
    try:
        with quiet.native_code():
            return converter.convert()
    except Exception as error:  # ConverterError, RuntimeError, ValueError: native code says which
        raise ExportError(f'cannot convert model "{model.name}": {_reason(str(error))}') from error


def _save(model: keras.Model, signature, folder: str) -> None:
    """Writes the model at inference as a SavedModel of one function."""

    def infer(*inputs):
        packed = inputs[0] if len(inputs) == 1 else keras.tree.pack_sequence_as(model.input, inputs)
        outputs = model(packed, training=False)
        return {f"output_{i}": output for i, output in enumerate(keras.tree.flatten(outputs))}

    saved_model(infer, [variable.value for variable in model.variables], signature, folder)


def saved_model(infer, variables, signature, folder: str) -> None:
    """Writes a SavedModel of one function.

    Args:
        infer: what it computes: a dictionary of outputs by name.
        variables: all that it reads.
        signature: its inputs, see `specs`.
        folder: to write it to.
    """
    module = tf.Module()
    module.weights = list(variables)
    function = tf.function(infer, input_signature=signature, autograph=False)
    tf.saved_model.save(module, folder, signatures=function.get_concrete_function())


def _reason(message: str) -> str:
    """What the converter's many lines come down to."""
    names = []
    for kind in ("TF Select ops", "Custom ops"):
        for found in re.findall(rf"{kind}: (.+)", message):
            names += [name.strip() for name in found.split(",")]
    if names:
        names = ", ".join(sorted(set(names)))
        return f"LiteRT has no builtin operator for {names}; replace that layer"
    if unquantized := re.search(r"Quantization not yet supported for op: '([^']*)'", message):
        return f'{unquantized[1]} has no int8 kernel; use quantize="dynamic" or replace that layer'
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[0] if lines else "the converter failed without a word"
