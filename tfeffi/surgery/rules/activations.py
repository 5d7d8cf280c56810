"""Which activations work on each element alone, so that channels pass through them."""

from tfeffi.surgery.rules.base import Edit, Opaque, Rule, cut, cuts

ELEMENTWISE = frozenset((
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish",
    "sigmoid", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "log_sigmoid", "mish",
    "softplus", "softsign", "soft_shrink", "hard_shrink", "tanh_shrink", "tanh", "threshold",
    "exponential", "squareplus", "sparse_plus", "sparse_sigmoid",
))  # fmt: skip
STATISTICS = frozenset(("softmax", "log_softmax", "sparsemax"))  # over the last axis
LAYERS = ("ReLU", "LeakyReLU", "ELU")


def is_elementwise(activation) -> bool:
    """Whether an activation, as a layer's config has it, works on each element alone."""
    if activation is None:
        return True
    if isinstance(activation, dict):
        if str(activation.get("module", "")).startswith("keras.layers"):
            inner = activation.get("config", {}).get("activation")
            kind = activation.get("class_name")
            return kind in LAYERS or (kind == "Activation" and is_elementwise(inner))
        builtin = activation.get("class_name") == "function"
        activation = activation.get("config") if builtin else None
        return isinstance(activation, str) and activation in ELEMENTWISE
    return activation in ELEMENTWISE


def pin_unless_elementwise(site, labels, channels) -> bool:
    """Pins the channels a layer makes if its own activation mixes them; whether they may go."""
    activation = site.config.get("activation")
    if not is_elementwise(activation):
        name = activation.get("config") if isinstance(activation, dict) else activation
        reason = f"the activation {name} of {site.layer} may mix channels"
        if name in STATISTICS:
            return labels.mixes(site.layer.path, channels, reason)
        labels.pin(channels, reason)
        return False
    return True


class Activation(Rule):
    """Activation: passes, unless it mixes channels (softmax)."""

    def label(self, site, labels):
        channels = site.source.channels
        if channels is None or not pin_unless_elementwise(site, labels, channels):
            return [None]
        return [channels]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]


class Softmax(Rule):
    """Softmax: over another axis than the channels it passes, over the channels it pins."""

    def choose(self, site):
        return self if len(site.inputs) == 1 else Opaque("{layer} takes a mask")

    def label(self, site, labels):
        channels, axis = site.source.channels, site.config.get("axis", -1)
        axes = axis if isinstance(axis, (list, tuple)) else [axis]
        if channels is None:
            return [None]
        if channels.axis in [a % site.rank for a in axes]:
            reason = f"{site.layer} is a softmax over channels"
            if not labels.mixes(site.layer.path, channels, reason):
                return [None]
        return [channels]

    def route(self, site, read):
        return [None if site.outputs[0].channels is None else read[0]]


class PReLU(Rule):
    """PReLU: a slope for each channel (and position, unless shared)."""

    tied_calls = True

    def edit(self, site, read, written):
        channels = site.source.channels
        if channels is None or channels.axis in (site.config.get("shared_axes") or ()):
            return super().edit(site, read, written)
        return Edit(cuts=cuts(alpha=cut(channels.axis - 1, read[0])))


RULES = {
    "Activation": Activation(),
    **{name: Softmax() for name in ("Softmax", "ops.Softmax", "ops.LogSoftmax", "ops.Sparsemax")},
    "PReLU": PReLU(),
    **{name: Rule() for name in LAYERS},
}
