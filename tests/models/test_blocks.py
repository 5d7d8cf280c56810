"""The blocks: shapes, costs by formula, names."""

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfeffi.analysis.cost import cost
from tfeffi.errors import BadInput
from tfeffi.models import blocks


def built(name, filters, shape=(8, 8, 16), **more):
    inputs = keras.Input(shape)
    return keras.Model(inputs, blocks.get(name)(inputs, filters, name="block", **more))


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(sorted(blocks.BLOCKS)),
    filters=st.integers(4, 20),
    stride=st.integers(1, 2),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20)),
)
def test_every_block_gives_the_filters_and_the_stride(name, filters, stride, shape):
    model = built(name, filters, shape, stride=stride)
    channels = 4 * filters if name == "bottleneck" else filters
    height, width = (-(-size // stride) for size in shape[:2])
    assert model.output_shape == (None, height, width, channels)
    assert all(layer.name.startswith("block_") for layer in model.layers[1:])


@pytest.mark.parametrize(
    ("name", "filters", "more", "macs"),
    [
        ("residual", 16, {}, 64 * 2 * 9 * 16 * 16),
        ("residual", 32, {"stride": 2}, 16 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)),
        ("bottleneck", 4, {}, 64 * (16 * 4 + 9 * 4 * 4 + 4 * 16)),
        ("inverted_residual", 16, {}, 64 * (16 * 96 + 9 * 96 + 96 * 16)),
        ("inverted_residual", 8, {"expansion": 1}, 64 * (9 * 16 + 16 * 8)),
        ("residual", 32, {"stride": 2, "shortcut": False}, 16 * (9 * 16 * 32 + 9 * 32 * 32)),
        ("bottleneck", 8, {"shortcut": False}, 64 * (16 * 8 + 9 * 8 * 8 + 8 * 32)),
        ("inverted_residual", 16, {"shortcut": False}, 64 * (16 * 96 + 9 * 96 + 96 * 16)),
        ("separable", 32, {}, 64 * 16 * (9 + 32)),
        ("1d", 32, {"middle": 8}, 64 * 3 * 8 * (16 + 32)),
        ("1d", 32, {"middle": 8, "stride": 2}, 4 * 8 * 3 * 16 * 8 + 16 * 3 * 8 * 32),
        ("inception", 16, {}, 64 * 16 * (4 + 6 + 1 + 2) + 64 * (9 * 6 * 8 + 25 * 1 * 2)),
    ],
)
def test_costs_by_formula(name, filters, more, macs):
    assert cost(built(name, filters, **more)).macs == macs


def test_an_inception_block_with_a_shortcut_costs_the_mixing_convolution_more():
    plain, joined = (built("inception", 16, shortcut=shortcut) for shortcut in (False, True))
    assert cost(joined).macs - cost(plain).macs == 64 * 16 * 16
    assert joined.layers[-2].name == "block_add"


def test_inception_has_the_proportions_of_googlenets_3a():
    model = built("inception", 256, (28, 28, 192))
    filters = {layer.name: layer.filters for layer in model.layers if hasattr(layer, "filters")}
    assert filters == {
        "block_1x1_conv": 64,
        "block_3x3_reduce_conv": 96,
        "block_3x3_conv": 128,
        "block_5x5_reduce_conv": 16,
        "block_5x5_conv": 32,
        "block_pool_conv": 32,
    }


def test_residual_keeps_the_identity_where_the_shape_stays():
    names = [layer.name for layer in built("residual", 16).layers]
    assert not [name for name in names if "shortcut" in name]
    assert [name for name in names if "add" in name] == ["block_add"]


def test_unknown_block():
    with pytest.raises(BadInput, match='no block "residul"; did you mean "residual"'):
        blocks.get("residul")
    with pytest.raises(BadInput, match="at least 4"):
        built("inception", 3)
