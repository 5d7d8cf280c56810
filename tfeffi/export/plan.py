"""What is to become of each operator: a recipe for the whole network, or layer by layer."""

import dataclasses
import re
from collections.abc import Sequence

from tfeffi.errors import BadInput
from tfeffi.export.recipes import FLOAT32, Recipe
from tfeffi.export.steps import Step

KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
_FOUR_BITS = ("CONV_2D", "FULLY_CONNECTED")  # LiteRT has kernels for int4 weights of these


@dataclasses.dataclass(frozen=True)
class Planned:
    """One operator and what is to become of it: None for float32. `layer` is its Keras layer."""

    step: Step
    recipe: Recipe | None
    layer: str | None = None

    @property
    def weights(self) -> str:
        """The type that its kernel is to have."""
        if self.recipe is None:
            return FLOAT32
        four = self.recipe.weights == "int4"
        return "int8" if four and self.step.operator not in _FOUR_BITS else self.recipe.weights

    @property
    def block(self) -> int:
        """How many inputs of a dense layer share a scale: only where blocks come out even."""
        block = self.recipe.block if self.recipe else 0
        dense = self.step.operator == "FULLY_CONNECTED" and self.step.kernel_shape
        return block if block and dense and self.step.kernel_shape[-1] % block == 0 else 0


def whole(steps: Sequence[Step], recipe: Recipe) -> list[Planned]:
    """The same for every operator."""
    return [Planned(step, recipe) for step in steps]


def by_layer(
    steps: Sequence[Step],
    owners: Sequence[int | None],
    paths: Sequence[str],
    patterns: Sequence[tuple[str, Recipe | None]],
) -> list[Planned]:
    """What the first pattern says that matches an operator's layer; float32 where none does.

    Args:
        steps, owners: the operators, and the number of the layer that each computes.
        paths: of the layers; a pattern matches "backbone/conv" by "conv" too.
        patterns: of `recipes.by_layer`.

    Raises:
        BadInput: a pattern matches no layer, or only layers that are computed within others.
    """
    matched = [_matching(pattern, paths) for pattern, _ in patterns]
    owning = {owner for owner in owners if owner is not None}
    for (pattern, _), numbers in zip(patterns, matched, strict=True):
        if not numbers:
            raise BadInput(
                f'recipe: "{pattern}" matches no layer; the layers are {", ".join(paths)}'
            )
        if not numbers & owning:
            names = ", ".join(paths[number] for number in sorted(numbers))
            own = ", ".join(paths[number] for number in sorted(owning))
            raise BadInput(
                f'recipe: "{pattern}" matches {names}, which LiteRT computes within other layers; '
                f"those with operators of their own are {own}"
            )
    plan = []
    for step, owner in zip(steps, owners, strict=True):
        recipes = [r for (_, r), numbers in zip(patterns, matched, strict=True) if owner in numbers]
        layer = None if owner is None else paths[owner]
        plan.append(Planned(step, recipes[0] if recipes else None, layer))
    return plan


def _matching(pattern: str, paths: Sequence[str]) -> set[int]:
    return {
        number for number, path in enumerate(paths)
        if re.fullmatch(pattern, path) or re.fullmatch(pattern, path.split("/")[-1])
    }  # fmt: skip
