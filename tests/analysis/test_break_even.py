"""Bounds against tfeffi.cost of layers that are built: below they save, from there on they do not."""

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfeffi import cost
from tfeffi.analysis.break_even import bound, break_even_rank
from tfeffi.errors import BadInput

CHANNELS = st.integers(1, 9)
L = keras.layers


def macs(shape, *layers):
    image = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return cost(keras.Model(image, x)).macs


def counted(full, pair):
    """The largest rank that saves, found by building."""
    rank = 0
    while pair(rank + 1) < full:
        rank += 1
    return rank


@given(CHANNELS, CHANNELS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2),
       st.sampled_from(["same", "valid"]))  # fmt: skip
@settings(max_examples=25)
def test_1d(inputs, outputs, height, width, stride, padding):
    shape, options = (5, 4, inputs), {"padding": padding, "strides": stride}
    layer = L.Conv2D(outputs, (height, width), **options)
    full = macs(shape, layer)

    def pair(rank):
        return macs(
            shape,
            L.Conv2D(rank, (height, 1), padding=padding, strides=(stride, 1)),
            L.Conv2D(outputs, (1, width), padding=padding, strides=(1, stride)),
        )

    widths = {"input_width": shape[1], "output_width": layer.compute_output_shape((1, *shape))[2]}
    assert break_even_rank("1d", inputs, outputs, (height, width), **widths) == counted(full, pair)


@given(CHANNELS, CHANNELS, st.integers(1, 3))
@settings(max_examples=10)
def test_channel_dense_and_separable(inputs, outputs, size):
    shape = (4, 4, inputs)
    full = macs(shape, L.Conv2D(outputs, size))
    assert break_even_rank("channel", inputs, outputs, size) == counted(
        full, lambda rank: macs(shape, L.Conv2D(rank, size), L.Conv2D(outputs, 1))
    )
    assert break_even_rank("separable", inputs, outputs, size) == counted(
        full,
        lambda rank: macs(
            shape, L.DepthwiseConv2D(size, depth_multiplier=rank), L.Conv2D(outputs, 1)
        ),
    )
    assert break_even_rank("dense", inputs, outputs) == counted(
        macs((inputs,), L.Dense(outputs)),
        lambda rank: macs((inputs,), L.Dense(rank), L.Dense(outputs)),
    )


def test_the_network_of_the_source():
    """NKL/(K+L) holds for SAME padding and stride 1; a VALID 7×7 kernel on 7×7 has a third of it."""
    assert float(bound("1d", 1, 32, 5)) == pytest.approx(4.85, abs=5e-3)
    assert float(bound("1d", 32, 64, 5)) == pytest.approx(106.67, abs=5e-3)
    valid = bound("1d", 64, 128, 7, input_width=7, output_width=1)
    assert valid == bound("1d", 7 * 64, 128, 7) / 7  # N·K·L / (N·K + L)
    assert float(valid) == pytest.approx(99.56, abs=5e-3)
    assert float(bound("1d", 64, 128, 7)) == pytest.approx(298.67, abs=5e-3)
    assert break_even_rank("dense", 784, 300) == 216
    assert break_even_rank("dense", 4096, 4096) == 2047


def test_a_bound_that_is_whole_saves_nothing():
    assert bound("dense", 2, 2) == 1 and break_even_rank("dense", 2, 2) == 0
    assert bound("1d", 64, 64, 3) == 96 and break_even_rank("1d", 64, 64, 3) == 95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2d", 1, 1), 'unknown kind "2d"'),
        (("1d", 0, 4, 3), "0 among the sizes"),
        (("1d", 3, 4, (3, 2.0)), "2.0 among"),
        (("dense", True, 4), "True among"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message):
        bound(*arguments)
