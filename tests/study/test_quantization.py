"""What docs/quantization.md claims, read from the committed result."""

import pathlib

from benchmarks.quantization import MODELS
from tfeffi.export import recipes
from tfeffi.study.results import Result

RESULTS = pathlib.Path(__file__).parents[2] / "results"


def test_every_recipe_is_measured_and_keeps_its_accuracy():
    rows = Result.read(RESULTS / "quantization.json").rows
    bases = [row for row in rows if row["name"].endswith(" float32")]
    assert {row["name"] for row in bases} == {f"{name} float32" for name in MODELS}
    for base in bases:
        network = base["name"].removesuffix("float32")
        found = {row["name"].removeprefix(network): row for row in rows}
        assert set(recipes.RECIPES) <= set(found)
        for name, recipe in recipes.RECIPES.items():
            lost = base["accuracy_mean"] - found[name]["accuracy_mean"]
            assert lost < (0.05 if recipe.weights == "int4" else 0.01), name
            assert found[name]["bytes"] < base["bytes"] * {"float16": 0.6}.get(recipe.weights, 0.5)
        assert found["int8"]["fallback"] == "none"
        assert "CONV_2D" in found["static_int4"]["fallback"]
        assert found["int16x8"]["xnnpack_operators"] == 0
