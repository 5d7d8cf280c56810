"""The layers that keras.applications defines for itself."""

from tfeffi.surgery.rules.base import Edit, Rule, cut, cuts
from tfeffi.surgery.rules.merging import Elementwise

_HOME = "keras.src.applications"


class LayerScale(Rule):
    """ConvNeXt's LayerScale: a factor for each channel of the last axis."""

    tied_calls = True

    def label(self, site, labels):
        return [labels.along(site.source, site.rank - 1, f"{site.layer} scales another axis")]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]

    def edit(self, site, read, written):
        if written[0] is None:
            return Edit()
        weights = {name: cut(0, written[0]) for name in site.layer.shapes}
        return Edit({"projection_dim": len(written[0])}, cuts(**weights))


RULES = {
    f"{_HOME}.convnext>LayerScale": LayerScale(),
    f"{_HOME}.convnext>StochasticDepth": Rule(),  # keeps or drops all channels of a sample
    f"{_HOME}.inception_resnet_v2>CustomScaleLayer": Elementwise(),  # a + scale·b
}
