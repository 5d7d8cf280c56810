"""Compact files: the same operators and answers in fewer bytes."""

import pathlib
import tempfile

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

import tfeffi
from tfeffi.errors import BadInput
from tfeffi.export import compaction, flatbuffer, litert, recipes

IMAGES = np.random.default_rng(0).random((40, 12, 12, 3), dtype=np.float32)
TOLERANT = {"tolerance": 5.0, "min_agreement": 0}  # nothing is trained here


def network(widths=(8, 8)):
    x = image = keras.Input((12, 12, 3), name="image")
    for width in widths:
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = keras.layers.DepthwiseConv2D(3, activation="relu")(x)
    return keras.Model(image, keras.layers.Dense(4, name="logits")(keras.layers.Flatten()(x)))


def answers(path):
    """What the file says to some inputs, and what its ends and signatures are called."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (given_to,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for image in IMAGES[:5]:
        if given_to["dtype"] != np.float32:
            image = np.round(image * 255 - 128)
        interpreter.set_tensor(given_to["index"], image[None].astype(given_to["dtype"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(gives["index"]))
    return np.array(outputs), given_to["name"], gives["name"], interpreter.get_signature_list()


KINDS = (None, "int8", "dynamic_int4_blocks", "int16x8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_compact_file_is_smaller_and_answers_the_same(tmp_path, kind):
    model, plain, small = network(), tmp_path / "plain.tflite", tmp_path / "small.tflite"
    calibrated = kind is not None and recipes.RECIPES[kind].calibrated
    given_images = {"calibration" if calibrated else "check_with": IMAGES}
    before = tfeffi.export(model, plain, quantize=kind, **given_images, **TOLERANT)
    after = tfeffi.export(model, small, quantize=kind, compact=True, **given_images, **TOLERANT)
    assert after.bytes == small.stat().st_size < before.bytes
    assert after.operators == before.operators and after.weight_types == before.weight_types
    (was, *names), (now, *same) = answers(plain), answers(small)
    np.testing.assert_array_equal(was, now)
    assert names == same


def test_the_zero_points_of_channels_take_no_space(tmp_path):
    """Eight bytes a channel: half of what a depthwise kernel's quantization takes."""
    sizes = {}
    for compact in (False, True):
        made = tfeffi.export(
            network((64,)), tmp_path / f"{compact}.tflite", quantize="int8", calibration=IMAGES,
            compact=compact, integer_io=True, **TOLERANT,
        )  # fmt: skip
        sizes[compact] = made.bytes
    assert sizes[False] - sizes[True] > 8 * 64  # the second of two equal vectors, at least


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_compact_once_is_compact(widths):
    """And what tensors hold begins at multiples of 16, as the schema demands."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.tflite"
        tfeffi.export(network(widths), path)
        content = path.read_bytes()
    once = compaction.compact(content)
    assert compaction.compact(once) == once
    model = flatbuffer.parsed(once)
    for number in range(model.BuffersLength()):
        buffer = model.Buffers(number)
        if buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            assert start % 16 == 0
            assert once[start : start + buffer.DataLength()] == buffer.DataAsNumpy().tobytes()


def test_constants_behind_the_flatbuffer_come_into_it(tmp_path):
    image = keras.Input((12, 12, 3))
    wide = keras.layers.Dense(700, activation="relu")(keras.layers.Flatten()(image))
    model = keras.Model(image, keras.layers.Dense(4)(wide))
    for compact in (False, True):
        path = tmp_path / f"{compact}.tflite"
        tfeffi.export(
            model, path, quantize="weights_int8", compact=compact, check_with=IMAGES, **TOLERANT
        )
    content = (tmp_path / "False.tflite").read_bytes()
    parsed = flatbuffer.parsed(content)
    assert any(parsed.Buffers(i).Offset() > 1 for i in range(parsed.BuffersLength()))
    np.testing.assert_array_equal(
        answers(tmp_path / "False.tflite")[0], answers(tmp_path / "True.tflite")[0]
    )


def test_several_graphs(tmp_path):
    """A recurrent network has graphs of their own for its loop."""
    image = keras.Input((6, 3))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GRU(4)(image)))
    values = np.random.default_rng(1).random((5, 6, 3), dtype=np.float32)
    found = []
    for compact in (False, True):
        path = tmp_path / f"{compact}.tflite"
        tfeffi.export(model, path, quantize="float16", compact=compact)
        found.append(next(iter(litert.run(path, values).values())))
    np.testing.assert_array_equal(*found)


def test_more_than_a_flatbuffer_can_hold_is_said(monkeypatch):
    monkeypatch.setattr(compaction, "_MOST_BYTES", 3)
    with pytest.raises(BadInput, match="compact: 4 bytes are more than one flatbuffer"):
        compaction.compact(b"TFL3")
