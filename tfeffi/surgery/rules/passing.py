"""Layers that leave every channel where it is: pooling, padding, resizing, noise, elementwise ops."""

import keras

from tfeffi.surgery.channels import Channels
from tfeffi.surgery.rules.base import Edit, Opaque, Rule, channel_axis


class Input(Rule):
    """InputLayer: of the model itself fixed; of a nested model whatever it is called on."""

    tied_calls = True

    def label(self, site, labels):
        return [site.source.channels if site.inputs else None]

    def route(self, site, read):
        return [read[0] if site.inputs else None]

    def edit(self, site, read, written):
        if not site.inputs or read[0] is None:
            return Edit()
        shape = list(site.config["batch_shape"])
        shape[site.source.channels.axis] = len(read[0])
        return Edit({"batch_shape": shape})


class Spatial(Rule):
    """Works on positions, each channel alone: pooling, padding, cropping, up-sampling."""

    def label(self, site, labels):
        reason = f"{site.layer} works along their axis"
        return [labels.along(site.source, channel_axis(site), reason)]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]


class SpatialOperation(Spatial):
    """keras.ops of images; a data format that is not given is the global one."""

    def label(self, site, labels):
        given = site.config.get("data_format") or keras.config.image_data_format()
        axis = 1 if given == "channels_first" else site.rank - 1
        return [labels.along(site.source, axis, f"{site.layer} works along their axis")]


class GlobalPooling(Spatial):
    """GlobalAveragePooling, GlobalMaxPooling: positions go, channels stay."""

    def label(self, site, labels):
        [channels] = super().label(site, labels)
        if channels is None or site.config.get("keepdims"):
            return [channels]
        return [Channels(1, channels.labels)]


class Noise(Rule):
    """Dropout and noise: passes, unless `noise_shape` counts the channels."""

    def label(self, site, labels):
        channels, shape = site.source.channels, site.config.get("noise_shape")
        if channels is not None and shape is not None and shape[channels.axis] not in (None, 1):
            labels.pin(channels, f"{site.layer} has a noise_shape that counts channels")
            return [None]
        return [channels]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]


class Rescaling(Rule):
    """Rescaling by numbers, or by lists with a value for each channel, which follow them."""

    tied_calls = True

    def choose(self, site):
        channels = site.source.channels
        for value in (site.config.get("scale"), site.config.get("offset")):
            if isinstance(value, (int, float)):
                continue
            last = channels is not None and channels.axis == site.rank - 1
            if not (last and isinstance(value, list) and len(value) == len(channels)):
                return Opaque("{layer} has a value for each position of another axis")
        return self

    def edit(self, site, read, written):
        lists = {key: site.config[key] for key in ("scale", "offset")}
        return Edit({
            key: [value[i] for i in read[0]]
            for key, value in lists.items()
            if isinstance(value, list) and read[0] is not None
        })  # fmt: skip


class Reduction(Rule):
    """keras.ops mean, max, sum over other axes than the channels."""

    def label(self, site, labels):
        channels, axes = site.source.channels, site.config.get("axis")
        if channels is None:
            return [None]
        axes = list(range(site.rank)) if axes is None else axes
        axes = [a % site.rank for a in (axes if isinstance(axes, (list, tuple)) else [axes])]
        if channels.axis in axes:
            labels.mixes(site.layer.path, channels, f"{site.layer} takes statistics over channels")
            return [None]
        gone = 0 if site.config.get("keepdims") else sum(a < channels.axis for a in axes)
        return [Channels(channels.axis - gone, channels.labels)]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]


_POOLING = [f"{kind}Pooling{n}D" for kind in ("Average", "Max") for n in (1, 2, 3)]
_POOLING += [f"Adaptive{name}" for name in _POOLING]
_SPATIAL = ["Resizing", "CenterCrop"]
_SPATIAL += [f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)]
_NOISE = ["Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"]
_NOISE += [f"SpatialDropout{n}D" for n in (1, 2, 3)]
_OPS = (
    "Abs Absolute Angle Arccos Arccosh Arcsin Arcsinh Arctan Arctanh BitwiseInvert BitwiseNot Cast "
    "Cbrt Ceil Celu Clip Conj Conjugate Copy Cos Cosh Deg2rad Elu Erf Erfc Erfinv Exp Exp2 Expm1 "
    "Fabs Floor Gelu HardShrink HardSigmoid HardSilu HardTanh I0 Imag Isfinite Isinf Isnan Isneginf "
    "Isposinf Isreal LeakyRelu Log Log10 Log1p Log2 LogSigmoid LogicalNot NanToNum Negative OnesLike "
    "Rad2deg Real Reciprocal Relu Relu6 Round Rsqrt SaturateCast Selu Sigmoid Sign Signbit Silu Sin "
    "Sinc Sinh SoftShrink Softplus Softsign SparsePlus SparseSigmoid Sqrt Square Squareplus "
    "StopGradient Tan Tanh TanhShrink Threshold Trunc ZerosLike"
)
_REDUCTIONS = (
    "All Amax Amin Any Argmax Argmin CountNonzero Logsumexp Max Mean Median Min Nanmax Nanmean "
    "Nanmedian Nanmin Nanprod Nanstd Nansum Nanvar Norm Prod Ptp Std Sum Var"
)
_OPS_SPATIAL = "AveragePool MaxPool AdaptiveAveragePool AdaptiveMaxPool Resize"

RULES = {
    "InputLayer": Input(),
    **{name: Spatial() for name in (*_POOLING, *_SPATIAL)},
    **{f"Global{k}Pooling{n}D": GlobalPooling() for k in ("Average", "Max") for n in (1, 2, 3)},
    **{name: Noise() for name in _NOISE},
    **{name: Rule() for name in ("Identity", "ActivityRegularization")},
    "Rescaling": Rescaling(),
    **{f"ops.{name}": Rule() for name in _OPS.split()},
    **{f"ops.{name}": Reduction() for name in _REDUCTIONS.split()},
    **{f"ops.{name}": SpatialOperation() for name in _OPS_SPATIAL.split()},
}
