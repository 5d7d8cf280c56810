"""Layers that read every channel and make new ones: dense layers and convolutions of all kinds."""

import numpy as np

from tfeffi.errors import BadInput
from tfeffi.surgery.channels import Channels
from tfeffi.surgery.rules.activations import pin_unless_elementwise
from tfeffi.surgery.rules.base import Edit, Rule, channel_axis, cut, cuts, expand


class Dense(Rule):
    """Dense on any rank: kernel (in, units), over the last axis."""

    mints = reads = tied_calls = True
    width = "units"  # the config key that counts the new channels

    def axis(self, site) -> int:
        return site.rank - 1

    def label(self, site, labels):
        axis = self.axis(site)
        labels.along(site.source, axis, f"{site.layer} does not sum over their axis")
        made = Channels(axis, labels.mint(site.layer.path, site.config[self.width]))
        pin_unless_elementwise(site, labels, made)
        return [made]

    def incoming(self, site, read):
        """The kept positions of the input along the axis that the kernel reads."""
        channels = site.source.channels
        return read[0] if channels is not None and channels.axis == self.axis(site) else None

    def edit(self, site, read, written):
        kernel = [cut(0, self.incoming(site, read), shared=True), cut(1, written[0])]
        return self.result(written[0], kernel=kernel, bias=cut(0, written[0]))

    def result(self, written, **weights) -> Edit:
        return Edit({self.width: len(written)}, cuts(**weights))


class Convolution(Dense):
    """Conv1D, 2D, 3D: kernel (..., in, filters); strides and dilation do not matter."""

    width = "filters"

    def axis(self, site):
        return channel_axis(site)

    def choose(self, site):
        groups = site.config.get("groups", 1)
        if groups == 1:
            return self
        source = site.source
        if source.channels is not None and source.shape[self.axis(site)] == groups:
            return _ONE_CHANNEL_GROUPS
        return _GROUPED

    def edit(self, site, read, written):
        kernel = [cut(-2, self.incoming(site, read), shared=True), cut(-1, written[0])]
        return self.result(written[0], kernel=kernel, bias=cut(0, written[0]))


class GroupedConvolution(Convolution):
    """groups > 1: all groups keep the same positions, so that the number of groups stays."""

    def label(self, site, labels):
        [made] = super().label(site, labels)
        source = site.source.channels
        for channels in (made, source):
            if channels is not None and channels.axis == self.axis(site):
                by_group = channels.labels.reshape(site.config["groups"], -1)
                labels.tie(by_group, by_group[:1])
        return [made]

    def edit(self, site, read, written):
        groups, source = site.config["groups"], self.incoming(site, read)
        self.positions(site, written[0], site.config["filters"] // groups)
        if source is not None:
            source = self.positions(site, source, len(site.source.channels) // groups)
        kernel = [cut(-2, source, shared=True), cut(-1, written[0])]
        return self.result(written[0], kernel=kernel, bias=cut(0, written[0]))

    def positions(self, site, index, width):
        """The kept positions within a group, the same in every group."""
        groups = site.config["groups"]
        if len(index) % groups == 0:
            inside = index.reshape(groups, -1) - width * np.arange(groups)[:, None]
            if (inside == inside[0]).all() and inside.min() >= 0 and inside.max() < width:
                return inside[0]
        raise BadInput(
            f"reindex: {site.layer} has {groups} groups, which must keep the same positions in the "
            "same order"
        )


class OneChannelGroups(Convolution):
    """groups == in: a depthwise convolution; groups go with their channel."""

    mints = reads = False

    def label(self, site, labels):
        channels = site.source.channels
        if channels.axis != self.axis(site):
            labels.pin(channels, f"{site.layer} does not group by their axis")
            return [None]
        made = np.repeat(channels.labels, site.config["filters"] // len(channels))
        pin_unless_elementwise(site, labels, made)
        return [Channels(channels.axis, made)]

    def route(self, site, read):
        if site.outputs[0].channels is None:
            return [None]
        return [expand(read[0], site.config["filters"] // len(site.source.channels))]

    def edit(self, site, read, written):
        if written[0] is None:
            return Edit()
        config = {"groups": len(read[0]), "filters": len(written[0])}
        return Edit(config, cuts(kernel=cut(-1, written[0]), bias=cut(0, written[0])))


class Transposed(Convolution):
    """Conv1D/2D/3DTranspose: kernel (..., filters, in)."""

    def choose(self, site):
        return self

    def edit(self, site, read, written):
        kernel = [cut(-1, self.incoming(site, read), shared=True), cut(-2, written[0])]
        return self.result(written[0], kernel=kernel, bias=cut(0, written[0]))


class Depthwise(Rule):
    """DepthwiseConv1D, 2D: kernel (..., in, multiplier); output channel in·multiplier + i."""

    tied_calls = True

    def label(self, site, labels):
        axis = channel_axis(site)
        channels = labels.along(site.source, axis, f"{site.layer} does not convolve their axis")
        if channels is None:
            return [None]
        made = np.repeat(channels.labels, site.config["depth_multiplier"])
        pin_unless_elementwise(site, labels, made)
        return [Channels(axis, made)]

    def route(self, site, read):
        if site.outputs[0].channels is None:
            return [None]
        return [expand(read[0], site.config["depth_multiplier"])]

    def edit(self, site, read, written):
        if written[0] is None:
            return Edit()
        return Edit(cuts=cuts(kernel=cut(-2, read[0]), bias=cut(0, written[0])))


class Separable(Convolution):
    """SeparableConv1D, 2D: a depthwise kernel, then a pointwise one."""

    def choose(self, site):
        return self

    def edit(self, site, read, written):
        source = self.incoming(site, read)
        parts = expand(source, site.config["depth_multiplier"])
        return self.result(
            written[0],
            depthwise_kernel=cut(-2, source),
            pointwise_kernel=[cut(-2, parts, shared=True), cut(-1, written[0])],
            bias=cut(0, written[0]),
        )


class Embedding(Dense):
    """Embedding: a row for each word, a column for each channel."""

    reads = False
    width = "output_dim"

    def axis(self, site):
        return site.rank

    def incoming(self, site, read):
        return None

    def label(self, site, labels):
        labels.pin(site.source.channels, f"{site.layer} looks them up")
        return [Channels(site.rank, labels.mint(site.layer.path, site.config[self.width]))]

    def edit(self, site, read, written):
        return self.result(written[0], embeddings=cut(1, written[0]))


_GROUPED = GroupedConvolution()
_ONE_CHANNEL_GROUPS = OneChannelGroups()

RULES = {
    "Dense": Dense(),
    "Embedding": Embedding(),
    **{f"Conv{n}D": Convolution() for n in (1, 2, 3)},
    **{f"Conv{n}DTranspose": Transposed() for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": Depthwise() for n in (1, 2)},
    **{f"SeparableConv{n}D": Separable() for n in (1, 2)},
}
