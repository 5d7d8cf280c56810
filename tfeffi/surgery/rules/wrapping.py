"""Layers around a layer: the rule is that of the layer inside, its weights and config lie deeper."""

import dataclasses
from collections.abc import Callable

from tfeffi.surgery.channels import Channels, Tensor
from tfeffi.surgery.graph import Layer, kind_of
from tfeffi.surgery.rules.base import Edit, Opaque, Rule, Site, cut


class SpectralNormalization(Rule):
    """SpectralNormalization: the kernel inside is cut, and its singular vector with it.

    At inference the layer computes with the kernel as it is, so that surgery is exact. In training
    it divides the kernel by its largest singular value, which is another one when channels go.
    """

    def __init__(self, rule_for: Callable[[Site], Rule]):
        self.rule_for = rule_for

    def choose(self, site):
        rule = self.rule_for(self.inside(site))
        return rule if isinstance(rule, Opaque) else _Wrapped(self, rule)

    def inside(self, site: Site) -> Site:
        """The call of the layer inside."""
        outer = site.layer
        entry = outer.config["layer"]
        layer = Layer(outer.path, kind_of(entry), entry["config"], entry, outer.live.layer)
        call = dataclasses.replace(site.call, layer=layer)
        inputs, outputs = (tuple(map(self.seen, t)) for t in (site.inputs, site.outputs))
        return Site(call, inputs, outputs)

    def seen(self, tensor: Tensor) -> Tensor:
        """A tensor as the layer inside sees it."""
        return tensor

    def shown(self, channels: Channels | None) -> Channels | None:
        """The channels of its outputs as they are outside."""
        return channels

    def more(self, edit: Edit, rank: int) -> dict:
        """Cuts of the weights of the wrapper itself."""
        [kernel] = [edit.cuts[name] for name in _KERNELS if name in edit.cuts] or [()]
        last = [one for one in kernel if one.axis in (-1, rank - 1)]
        return {"vector_u": (cut(1, last[0].index.copy()),)} if last else {}


class TimeDistributed(SpectralNormalization):
    """TimeDistributed: the layer inside sees every tensor without its second axis."""

    def seen(self, tensor):
        shape, channels = tensor.shape, tensor.channels
        if channels is not None:
            at = channels.axis - (channels.axis > 1)
            channels = None if channels.axis == 1 else Channels(at, channels.labels)
        return Tensor(None if shape is None else (shape[0], *shape[2:]), channels)

    def shown(self, channels):
        return None if channels is None else Channels(channels.axis + 1, channels.labels)

    def more(self, edit, rank):
        return {}

    def choose(self, site):
        if any(t.channels is not None and t.channels.axis == 1 for t in site.inputs):
            return Opaque("{layer} takes one step of their axis after the other")
        return super().choose(site)


class _Wrapped(Rule):
    """The rule of the layer inside, through its wrapper."""

    def __init__(self, outer: SpectralNormalization, rule: Rule):
        self.outer, self.rule = outer, rule
        self.mints, self.reads, self.parts = rule.mints, rule.reads, rule.parts
        self.tied_calls = rule.tied_calls

    def label(self, site, labels):
        made = self.rule.label(self.outer.inside(site), labels)
        return [self.outer.shown(channels) for channels in made]

    def route(self, site, read):
        return self.rule.route(self.outer.inside(site), read)

    def incoming(self, site, read):
        return self.rule.incoming(self.outer.inside(site), read)

    def edit(self, site, read, written):
        inside = self.outer.inside(site)
        edit = self.rule.edit(inside, read, written)
        entry = {k: v for k, v in inside.layer.entry.items() if k != "build_config"}
        entry["config"] = {**entry["config"], **edit.config}
        rank = max((len(shape) for shape in inside.layer.shapes.values()), default=0)
        return Edit({"layer": entry}, {**edit.cuts, **self.outer.more(edit, rank)})


_KERNELS = ("kernel", "embeddings")


def rules(rule_for: Callable[[Site], Rule]) -> dict[str, Rule]:
    """The rules of the wrappers, which ask `rule_for` about the layer inside."""
    return {
        "SpectralNormalization": SpectralNormalization(rule_for),
        "TimeDistributed": TimeDistributed(rule_for),
    }
