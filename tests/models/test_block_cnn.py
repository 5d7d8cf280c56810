"""Networks that differ in their block alone, and cost the same."""

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfeffi.analysis.cost import cost
from tfeffi.errors import BadInput
from tfeffi.models import block_cnn

SMALL = {"input_shape": (16, 16, 3), "num_classes": 5, "repeats": 1, "stem": 4}


@settings(max_examples=5, deadline=None)
@given(
    block=st.sampled_from(sorted(block_cnn.KINDS)),
    shortcut=st.booleans(),
    macs=st.integers(400_000, 1_000_000),
)
def test_widths_are_found_that_cost_what_is_asked_for(block, shortcut, macs):
    network = {"block": block, "shortcut": shortcut, **SMALL}
    widths = block_cnn.widths_for_macs(macs, **network)
    counted = cost(block_cnn.build(widths=widths, **network)).macs
    assert abs(counted - macs) <= 0.03 * macs
    assert abs(widths[1] - 2 * widths[0]) <= 1 and widths[2] >= 4 * widths[0] - 2


def test_what_costs_too_little_for_any_width_is_told():
    with pytest.raises(BadInput, match=r"macs=20000: the nearest widths are \(4, 8, 16\), with "):
        block_cnn.widths_for_macs(20_000, **SMALL)


def test_stem_and_classifier_are_the_same_whatever_the_block():
    for block in block_cnn.KINDS:
        model = block_cnn.build(block=block, **SMALL)
        assert model.get_layer("stem_conv").filters == 4
        assert model.output_shape == (None, 5)
    strided = block_cnn.build(stem_stride=4, **SMALL)
    assert strided.get_layer("stem_relu").output.shape[1:] == (4, 4, 4)
    assert strided.get_layer("stem_conv").kernel_size == (5, 5)  # no pixel is skipped


@pytest.mark.parametrize("block", sorted(block_cnn.KINDS))
def test_without_shortcuts_nothing_is_added(block):
    plain = block_cnn.build(block=block, shortcut=False, **{**SMALL, "repeats": 2})
    joined = block_cnn.build(block=block, shortcut=True, **{**SMALL, "repeats": 2})
    adds = [sum(isinstance(layer, keras.layers.Add) for layer in m.layers) for m in (plain, joined)]
    assert adds == [0, 3 if block == "inverted_residual" else 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": "basik"}, "block='basik'; give one of 'basic'"),
        ({"shortcut": 1}, "shortcut=1; give True or False"),
        ({"widths": (8, 16)}, r"widths=\(8, 16\); give 3"),
        ({"repeats": 0}, "repeats=0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(BadInput, match=message):
        block_cnn.build(**{**SMALL, **arguments})
