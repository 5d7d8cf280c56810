"""Precision: a model recast to 16-bit compute, and the loss scale that float16 needs.

Micikevicius et al. 2017, "Mixed Precision Training": variables stay float32 (the master weights),
activations and gradients are 16 bits wide, the loss is multiplied by a scale S so that small
gradients do not underflow, gradients are divided by S in float32, and a step whose gradients are
not finite is skipped. bfloat16 has float32's exponent and needs no scale.
"""

import os
import pathlib
import platform
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

from tfeffi import derived, layers
from tfeffi.train.settings import Settings

MIN_SCALE, MAX_SCALE = 1.0, 2.0**24


def recast(model: keras.Model, precision: str) -> keras.Model:
    """The same model, weights included, computing in another precision.

    The layers that make the outputs, back to the last one with weights, compute in float32, so
    logits and loss are float32. Layers that the loop has exchanged come back as Keras's own.

    Args:
        model: a built functional or sequential model.
        precision: a Keras dtype policy, e.g. `"mixed_bfloat16"`.

    Returns:
        A new model with the same layer names and float32 variables.
    """
    exact = _float32_layers(model) if precision != "float32" else set()
    made = model.__class__.from_config(_with_dtype(model.get_config(), precision, exact))
    copy_variables(model, made)
    return made


def warn_if_slow(precision: str) -> None:
    """Warns where convolutions take many times as long on this CPU as they need to.

    One case is oneDNN left off: TensorFlow does so by itself on x86 CPUs with neither VNNI nor AMX. The
    other is 16 bits for which oneDNN has no kernels: float16, and bfloat16 on x86 without AVX-512.
    """
    if tf.config.list_physical_devices("GPU"):
        return
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    unwanted = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in ("0", "false")
    if is_x86 and not unwanted and not _pywrap_util_port.IsMklEnabled():
        warnings.warn(
            "fit: oneDNN is off, with which convolutions train about twice as fast: set "
            "TF_ENABLE_ONEDNN_OPTS=1 before Python starts, or 0 to keep it off without a warning",
            stacklevel=4,
        )
    if _is_emulated(precision):
        warnings.warn(
            f'fit: precision "{precision}" takes many times as long as "float32" on this CPU',
            stacklevel=4,
        )


def _is_emulated(precision: str) -> bool:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text() if cpuinfo.is_file() else "", re.M)
    has_avx512 = not flags or "avx512f" in flags[1].split()
    return precision == "mixed_float16" or (precision == "mixed_bfloat16" and not has_avx512)


def fused(model: keras.Model, settings: Settings) -> keras.Model:
    """The model with the layers that the settings want for training; its config stays as it is.

    Whatever they want, Keras's Conv1D and Conv2D become the ones whose gradients oneDNN computes right.
    """
    classes = {"Conv1D": layers.SubsampledConv1D, "Conv2D": layers.SubsampledConv2D}
    if settings.ghost_batch:
        classes["BatchNormalization"] = layers.ghost_class(
            settings.ghost_batch, settings.fuse_batch_normalization
        )
    elif settings.fuse_batch_normalization:
        classes["BatchNormalization"] = layers.FusedBatchNormalization
    if settings.fuse_activations:
        classes["Activation"] = layers.FusedActivation
    if settings.pack_small_images and settings.precision != "float32":
        classes["Conv2D"] = layers.PackedConv2D
    return layers.exchange(model, classes)


def _with_dtype(config: Any, precision: str, exact: set[str]) -> Any:
    """A model's config with the dtype policy of every layer, at any depth, but the exact ones."""
    if isinstance(config, list | tuple):
        return type(config)(_with_dtype(value, precision, exact) for value in config)
    if not isinstance(config, dict):
        return config
    config = {key: _with_dtype(value, precision, exact) for key, value in config.items()}
    inner, kind = config.get("config"), config.get("class_name")
    is_layer = isinstance(inner, dict) and {"name", "dtype"} <= set(inner)
    if is_layer and kind not in ("InputLayer", "__keras_tensor__"):
        inner["dtype"] = "float32" if inner["name"] in exact else precision
    return config


def copy_variables(source: keras.Model, target: keras.Model) -> None:
    """Assigns every variable (weights, statistics, random states) of one model to its twin."""
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(tf.convert_to_tensor(old))
    derived.renew(target)


def _float32_layers(model: keras.Model) -> set[str]:
    """Names of the output layers and of what feeds them, back to the nearest layers with weights."""
    wanted, names = list(model.outputs), set()
    makers = makers_of(model)
    while wanted:
        layer = makers.get(id(wanted.pop()))
        if layer is None or layer.name in names:
            continue
        names.add(layer.name)
        if isinstance(layer, keras.Model):
            names |= _float32_layers(layer)
        if not layer.weights and not isinstance(layer, keras.layers.InputLayer):
            wanted += tf.nest.flatten(layer.input)
    return names


def makers_of(model: keras.Model) -> dict[int, keras.layers.Layer]:
    """Which layer made which tensor, by the tensor's id; layers called more than once are left out."""
    return {id(t): layer for layer in model.layers for t in _outputs_of(layer)}


def _outputs_of(layer: keras.layers.Layer) -> list:
    try:
        return tf.nest.flatten(layer.output)
    except (AttributeError, ValueError):  # shared: called more than once, so no single output
        return []


class LossScale:
    """The factor that keeps float16 gradients out of the underflow, and the count of skipped steps.

    A finite step counts; `growth_steps` of them in a row double the scale. A step with a gradient
    that is not finite is skipped whole (weights, slots and schedule unchanged), halves the scale and
    starts the count again. The scale stays within [1, 2²⁴].

    Args:
        initial: the first scale.
        dynamic: whether it moves; a static scale still skips steps that overflowed.
        growth_steps: finite steps before it doubles (2000 as in Keras and NVIDIA's Apex).
    """

    def __init__(self, initial: float = 2.0**15, dynamic: bool = True, growth_steps: int = 2000):
        self.dynamic, self.growth_steps = dynamic, growth_steps
        self.scale = tf.Variable(min(max(float(initial), MIN_SCALE), MAX_SCALE), trainable=False)
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int64)
        self.skipped_steps = tf.Variable(0, trainable=False, dtype=tf.int64)
        self.stuck_steps = tf.Variable(0, trainable=False, dtype=tf.int64)

    @property
    def variables(self) -> list[tf.Variable]:
        return [self.scale, self.good_steps, self.skipped_steps, self.stuck_steps]

    def multiply(self, loss: tf.Tensor) -> tf.Tensor:
        """loss · S."""
        return loss * self.scale

    def divide(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """gradients / S, in float32; exact for a scale that is a power of two."""
        return [tf.cast(g, tf.float32) / self.scale for g in gradients]

    def step(self, gradients: Sequence[tf.Tensor], update: Callable[[], None]) -> None:
        """Calls `update` if every gradient is finite, else skips; then moves the scale. Traced."""
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        tf.cond(finite, lambda: self._accept(update), self._skip)

    def _accept(self, update):
        update()
        good = self.good_steps + 1
        grow = tf.logical_and(good >= self.growth_steps, self.dynamic)
        self.scale.assign(tf.where(grow, tf.minimum(self.scale * 2.0, MAX_SCALE), self.scale))
        self.good_steps.assign(tf.where(grow, tf.zeros_like(good), good))
        self.stuck_steps.assign(0)
        return True

    def _skip(self):
        at_floor = self.scale <= MIN_SCALE if self.dynamic else True
        self.stuck_steps.assign(tf.where(at_floor, self.stuck_steps + 1, self.stuck_steps))
        if self.dynamic:
            self.scale.assign(tf.maximum(self.scale / 2.0, MIN_SCALE))
        self.good_steps.assign(0)
        self.skipped_steps.assign_add(1)
        return False


class NoScale:
    """What float32 and bfloat16 use in place of a `LossScale`: nothing is scaled, no step skipped."""

    variables: tuple = ()

    def multiply(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss itself."""
        return loss

    def divide(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients themselves."""
        return list(gradients)

    def step(self, gradients: Sequence[tf.Tensor], update: Callable[[], None]) -> None:
        """Always updates."""
        update()


def loss_scale_for(precision: str, setting: str | float) -> LossScale | NoScale:
    """The loss scale of a run: `setting` is `"dynamic"` or a factor, and matters for float16 only."""
    if precision != "mixed_float16":
        return NoScale()
    return LossScale() if setting == "dynamic" else LossScale(float(setting), dynamic=False)
