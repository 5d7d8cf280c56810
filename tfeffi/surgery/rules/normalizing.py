"""Normalization: over the batch it keeps channels apart; over channels it needs them all."""

from tfeffi.surgery.rules.base import Edit, Opaque, Rule, cut, cuts

_STATISTICS = Opaque("{layer} takes statistics over channels")


class BatchNormalization(Rule):
    """Every weight has one value for each channel."""

    tied_calls = True

    def label(self, site, labels):
        axis = site.config.get("axis", -1)
        axis = (axis[0] if isinstance(axis, (list, tuple)) else axis) % site.rank
        return [labels.along(site.source, axis, f"{site.layer} normalizes another axis")]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]

    def edit(self, site, read, written):
        if written[0] is None:
            return Edit()
        return Edit(cuts=cuts(**{weight: cut(0, written[0]) for weight in site.layer.shapes}))


RULES = {
    "BatchNormalization": BatchNormalization(),
    **{
        name: _STATISTICS
        for name in ("LayerNormalization", "GroupNormalization", "RMSNormalization",
                     "UnitNormalization", "GroupQueryAttention", "MultiHeadAttention")
    },
    "Normalization": Opaque("{layer} has a mean for each channel"),
}  # fmt: skip
