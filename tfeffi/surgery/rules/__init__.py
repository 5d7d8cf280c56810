"""One rule for each kind of layer; a layer without one pins its channels.

Register a rule for a layer of your own with `register`; what a rule is says `rules.base`.
"""

from tfeffi.errors import BadInput
from tfeffi.surgery.rules import (
    activations,
    applications,
    merging,
    mixing,
    normalizing,
    opaque,
    passing,
    reshaping,
    slicing,
    wrapping,
)
from tfeffi.surgery.rules.base import Opaque, Rule, Site

_RULES: dict[str, Rule] = {
    **passing.RULES,
    **mixing.RULES,
    **merging.RULES,
    **reshaping.RULES,
    **slicing.RULES,
    **activations.RULES,
    **normalizing.RULES,
    **applications.RULES,
    **opaque.RULES,
}
_REGISTERED: dict[type, Rule] = {}
_UNKNOWN = Opaque("{layer} has no rule")


def register(layer: type, rule: Rule) -> None:
    """Teaches surgery a layer class of your own, in the models made from now on.

    A layer that passes each channel on by itself needs to say which weights have a place for each:
    `edit`. One that sums over channels and makes new ones is told which of both stay; the easiest
    way is to start from the rule of the Keras layer that it resembles.

    Args:
        layer: the class; its subclasses are not included.
        rule: how it passes labels and which of its weights follow, see `Rule`.

    Raises:
        BadInput: `layer` is not a class or `rule` not a Rule.

    Example:
        >>> import keras
        >>> from tfeffi.surgery import Edit, Rule, cut, cuts, register, reindex
        >>> class Gain(keras.layers.Layer):
        ...     def build(self, shape):
        ...         self.gain = self.add_weight(shape=(shape[-1],), name="gain")
        ...     def call(self, x):
        ...         return x * self.gain
        >>> class GainRule(Rule):
        ...     tied_calls = True  # it has weights for its channels
        ...     def edit(self, site, read, written):
        ...         return Edit(cuts=cuts(gain=cut(0, written[0])))
        >>> register(Gain, GainRule())
        >>> chain = [keras.layers.Dense(4, name="a"), Gain(name="gain"), keras.layers.Dense(2)]
        >>> model = keras.Sequential([keras.Input((3,)), *chain])
        >>> small, _ = reindex(model, {"a": [0, 2, 3]})
        >>> tuple(small.get_layer("gain").gain.shape)
        (3,)
    """
    if not isinstance(layer, type) or not isinstance(rule, Rule):
        raise BadInput(f"register: expected a layer class and a Rule, got {layer!r} and {rule!r}")
    _REGISTERED[layer] = rule


def rule_for(site: Site) -> Rule:
    """The rule for one call."""
    layer = site.layer
    rule = _REGISTERED.get(type(layer.live)) or _RULES.get(layer.kind, _UNKNOWN)
    if site.inputs and any(t.shape is None for t in site.inputs):
        return Opaque("{layer} has inputs of unknown shape")
    return rule.choose(site)


_RULES.update(wrapping.rules(rule_for))
