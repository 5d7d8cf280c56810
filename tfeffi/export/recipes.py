"""The ways to write a network in fewer bits, by name: what `quantize` and `recipe` may say.

Nothing heavy is imported here: configs are checked against these names before anything is trained.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping

from tfeffi.errors import BadInput, near

FLOAT32 = "float32"
MIXED = "recipe"  # what a file is called that differs from layer to layer
CONVERTER, QUANTIZER = "converter", "litert-quantizer"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way to quantize.

    Attributes:
        name: as in `quantize="int8"`.
        by: what makes it: TensorFlow's converter, or litert-quantizer after the conversion.
        weights: the type of the kernels. Where that is int4, kernels that LiteRT computes with 8
            bits only (depthwise and transposed convolutions) are int8.
        activations: the type of what flows between operators.
        integer: whether products are of integers; "dynamic" ones round float activations for that.
        block: how many inputs of a dense layer share a scale; 0 for one scale an output channel.
        about: a line for help texts.
    """

    name: str
    by: str
    weights: str
    activations: str
    integer: bool
    block: int
    about: str

    @property
    def calibrated(self) -> bool:
        """Whether it needs images: ranges of activations are settled before the file is written."""
        return self.activations != FLOAT32


_TABLE = (
    ("float16", CONVERTER, "float16", FLOAT32, False, 0, "float16 weights, float32 arithmetic"),
    ("dynamic", CONVERTER, "int8", FLOAT32, True, 0, "int8 weights of 1024 elements and more, "
     "activations rounded as they come"),
    ("int8", CONVERTER, "int8", "int8", True, 0, "int8 weights and activations"),
    ("weights_int8", QUANTIZER, "int8", FLOAT32, False, 0, "int8 weights, float32 arithmetic"),
    ("weights_int4", QUANTIZER, "int4", FLOAT32, False, 0, "int4 weights, float32 arithmetic"),
    ("dynamic_int8", QUANTIZER, "int8", FLOAT32, True, 0, "int8 weights of any size, activations "
     "rounded as they come"),
    ("dynamic_int4", QUANTIZER, "int4", FLOAT32, True, 0, "int4 weights, activations rounded to "
     "int8 as they come"),
    ("dynamic_int4_blocks", QUANTIZER, "int4", FLOAT32, True, 32, "the same, with a scale for "
     "every 32 inputs of dense layers"),
    ("static_int8", QUANTIZER, "int8", "int8", True, 0, "int8 weights and activations"),
    ("static_int4", QUANTIZER, "int4", "int8", True, 0, "int4 weights, int8 activations"),
    ("int16x8", QUANTIZER, "int8", "int16", True, 0, "int8 weights, int16 activations"),
)  # fmt: skip
RECIPES = {row[0]: Recipe(*row) for row in _TABLE}
# Layer by layer it is always litert-quantizer that does it: these are its names for the same.
_IN_LAYERS = {
    FLOAT32: None,
    "dynamic": RECIPES["dynamic_int8"],
    "int8": RECIPES["static_int8"],
    **{r.name: r for r in RECIPES.values() if r.by == QUANTIZER or r.name == "float16"},
}


def named(quantize: str | None) -> Recipe | None:
    """The recipe of that name; None for float32. BadInput names near ones if there is none."""
    if quantize is None:
        return None
    if not isinstance(quantize, str) or quantize not in RECIPES:
        raise BadInput(f'unknown quantize "{quantize}"; {near(str(quantize), RECIPES)}')
    return RECIPES[quantize]


def by_layer(recipe) -> tuple[tuple[str, Recipe | None], ...]:
    """Patterns of layer names with the recipe of each, checked.

    Args:
        recipe: {pattern: name} or pairs of them, a name as in `quantize` or "float32". A pattern is
            a regular expression that the whole name of a layer has to match; the first that does
            counts. None for no recipe.

    Returns:
        The pairs in their order, None for float32.

    Raises:
        BadInput: no pairs, a pattern that is no regular expression, or an unknown name.

    Example:
        by_layer({"stem.*": "float32", ".*": "int8"})
    """
    if recipe is None:
        return ()
    pairs = list(recipe.items() if isinstance(recipe, Mapping) else _pairs(recipe))
    if not pairs:
        raise BadInput('recipe is empty; give pairs such as {"stem.*": "float32", ".*": "int8"}')
    for pattern, name in pairs:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise BadInput(f"recipe: {pattern!r} is no regular expression ({error})") from None
        if not isinstance(name, str) or name not in _IN_LAYERS:
            raise BadInput(f'recipe: unknown "{name}" for "{pattern}"; {near(name, _IN_LAYERS)}')
    return tuple((pattern, _IN_LAYERS[name]) for pattern, name in pairs)


def spoken(recipe) -> tuple[tuple[str, str], ...] | None:
    """The pairs of pattern and name as they were given."""
    if recipe is None:
        return None
    return tuple(recipe.items()) if isinstance(recipe, Mapping) else tuple(map(tuple, recipe))


def _pairs(recipe) -> Iterable[tuple[str, str]]:
    given = recipe if isinstance(recipe, Iterable) and not isinstance(recipe, str) else [recipe]
    for pair in given:
        if isinstance(pair, str) or not isinstance(pair, Iterable) or len(pair := list(pair)) != 2:
            raise BadInput(f'recipe: {pair!r} is not a pair such as ("stem.*", "float32")')
        yield tuple(pair)


def check(quantize: str | None, recipe=None, integer_io: bool = False) -> str | None:
    """Everything that `quantize`, `recipe` and `integer_io` can have wrong before there is a model.

    Returns:
        The name of a recipe that needs calibration images, None if none does.

    Raises:
        BadInput: an unknown name, both at once, or integer ends of a network of floats.
    """
    whole, layers = named(quantize), by_layer(recipe)
    if whole and layers:
        raise BadInput(
            f'quantize="{quantize}" and recipe exclude each other; put (".*", "{quantize}") last in '
            f"the recipe"
        )
    if integer_io and not (whole and whole.calibrated):
        given = "a recipe by layer" if layers else quantize or FLOAT32
        wanted = " or ".join(f'"{r.name}"' for r in RECIPES.values() if r.calibrated)
        raise BadInput(f"integer_io needs quantize={wanted}, not {given}")
    used = [one for one in (whole, *(r for _, r in layers)) if one and one.calibrated]
    return used[0].name if used else None
