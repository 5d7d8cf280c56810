"""One rule for each kind of layer; a layer without one pins its channels.

Register a rule for a layer of your own:

    class Scale(tfeffi.surgery.Rule):
        def edit(self, site, read, written):
            return Edit(cuts=cuts(gamma=cut(0, written[0])))

    tfeffi.surgery.register(MyScale, Scale())
"""

from tfeffi.errors import BadInput
from tfeffi.surgery.rules import activations, merging, mixing, normalizing, passing, reshaping
from tfeffi.surgery.rules.base import Opaque, Rule, Site

_RULES: dict[str, Rule] = {
    **passing.RULES,
    **mixing.RULES,
    **merging.RULES,
    **reshaping.RULES,
    **activations.RULES,
    **normalizing.RULES,
}
_REGISTERED: dict[type, Rule] = {}
_UNKNOWN = Opaque("{layer} has no rule")


def register(layer: type, rule: Rule) -> None:
    """Teaches surgery a layer class of your own.

    Args:
        layer: the class; its subclasses are not included.
        rule: how it passes labels and which of its weights follow, see `Rule`.

    Raises:
        BadInput: `layer` is not a class or `rule` not a Rule.
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
