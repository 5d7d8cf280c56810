"""Drop-in Keras layers: same files as Keras's own, less time or better training."""

from tfeffi.layers.exchange import exchange
from tfeffi.layers.fused_activation import FusedActivation
from tfeffi.layers.fused_batch_normalization import (
    FusedBatchNormalization,
    fuse_batch_normalization,
)
from tfeffi.layers.ghost_batch_normalization import (
    GhostBatchNormalization,
    check_ghost_batch,
    ghost_batch_normalization,
    ghost_class,
)
from tfeffi.layers.packed_convolution import PackedConv2D
from tfeffi.layers.subsampled_convolution import SubsampledConv1D, SubsampledConv2D, subsampled

__all__ = [
    "FusedActivation", "FusedBatchNormalization", "GhostBatchNormalization", "PackedConv2D",
    "SubsampledConv1D", "SubsampledConv2D", "check_ghost_batch", "exchange", "fuse_batch_normalization",
    "ghost_batch_normalization", "ghost_class", "subsampled",
]  # fmt: skip
