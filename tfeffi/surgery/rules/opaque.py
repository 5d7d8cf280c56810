"""Keras layers that surgery does not see through, with the reason that a report gives."""

from tfeffi.surgery.rules.base import Opaque

_REASONS = {
    "{layer} mixes channels by products": (
        "Dot ops.Dot ops.Matmul ops.Einsum ops.Tensordot ops.Inner ops.Outer ops.Vdot ops.Cross"
    ),
    "{layer} mixes channels by attention": (
        "Attention AdditiveAttention MultiHeadAttention GroupQueryAttention ops.DotProductAttention"
    ),
    "{layer} carries a state from step to step": (
        "RNN SimpleRNN LSTM GRU ConvLSTM1D ConvLSTM2D ConvLSTM3D Bidirectional"
    ),
    "{layer} is code that surgery cannot read": (
        "Lambda TFSMLayer JaxLayer FlaxLayer TorchModuleWrapper"
    ),
    "{layer} sums over axes that its equation names": "EinsumDense",
    "{layer} looks for a value in all channels": "Masking",
    "{layer} looks values up": (
        "ReversibleEmbedding CategoryEncoding Discretization HashedCrossing Hashing IntegerLookup "
        "StringLookup TextVectorization ops.OneHot ops.MultiHot"
    ),
    "{layer} works on signals, not channels": "MelSpectrogram STFTSpectrogram",
    "{layer} works on images, not channels": (
        "AugMix AutoContrast ContrastLimitedAdaptiveHistogramEqualization CutMix Equalization "
        "MaxNumBoundingBoxes MixUp Pipeline RandAugment RandomBrightness RandomColorDegeneration "
        "RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing "
        "RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective "
        "RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear "
        "RandomTranslation RandomZoom Solarization"
    ),
}

RULES = {name: Opaque(why) for why, names in _REASONS.items() for name in names.split()}
