"""Pieces of a .tflite: put one after the other they compute what the whole file computes."""

import functools

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from tests.bench.devices.macs import macs
from tests.export import handmade
from tests.surgery.drawn import randomize
from tfeffi.bench import groups
from tfeffi.bench.one_layer import exported
from tfeffi.errors import BadInput
from tfeffi.export import convert, export, litert
from tfeffi.export.flatbuffer import ModelError, inspect

SHAPE = (12, 12, 3)


@functools.cache
def whole(quantize=None):
    """One path: what is timed apart and what is not."""
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.ZeroPadding2D(1),
            layers.DepthwiseConv2D(3, strides=2),
            layers.Conv2D(16, 1, activation="relu6"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
            layers.Softmax(),
        ]
    )
    randomize(model, 1)
    return exported(model, quantize)


def written(content, folder, name="m"):
    path = folder / f"{name}.tflite"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_pieces_one_after_the_other_are_the_whole(tmp_path, quantize):
    content = whole(quantize)
    program = groups.Program(content)
    assert [group.kind for group in program.groups] == [
        "CONV_2D", "PAD + DEPTHWISE_CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX",
    ]  # fmt: skip
    x = images = np.random.default_rng(0).random((1, *SHAPE), np.float32)
    for number, group in enumerate(program.groups):
        path = written(program.alone(group, 2), tmp_path, str(number))
        one, other = litert.run(path, x, threads=1).values()
        np.testing.assert_array_equal(one, other)
        x = one
    (expected,) = litert.run(written(content, tmp_path), images, threads=1).values()
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_so_many_copies_do_so_much_work_and_share_their_weights(count):
    program = groups.Program(whole())
    for group in program.groups:
        one, several = program.alone(group, 1), program.alone(group, count)
        assert macs(several) == count * macs(one)
        assert len(several) - len(one) < 1500 * count
    assert sum(macs(program.alone(group, 1)) for group in program.groups) == macs(whole())


def test_what_it_weighs_and_what_goes_through_it():
    first, padded, *_ = groups.Program(whole()).groups
    assert first.weight_bytes == 4 * (3 * 3 * 3 * 8 + 8)
    assert (first.input_bytes, first.output_bytes) == (4 * 12 * 12 * 3, 4 * 12 * 12 * 8)
    assert padded.weight_bytes == 4 * (3 * 3 * 8 + 8 + 8)  # and where zeros go: 4 pairs
    small = groups.Program(whole("int8")).groups[0]
    assert small.weight_bytes == 3 * 3 * 3 * 8 + 4 * 8 and small.output_bytes == 12 * 12 * 8


def test_a_key_tells_what_changes_the_time_and_nothing_else():
    def key(layer, shape=(6, 6, 4), quantize=None):
        model = keras.Sequential([keras.Input(shape), layer])
        return groups.Program(exported(model, quantize)).groups[0].key

    plain = key(layers.Conv2D(8, 3, name="one"))
    assert plain == key(
        layers.Conv2D(8, 3, name="two", kernel_initializer="ones", activation="relu")
    )
    others = [
        key(layers.Conv2D(8, 3, padding="same")),
        key(layers.Conv2D(8, 3, strides=2)),
        key(layers.Conv2D(8, 3), (7, 6, 4)),
        key(layers.Conv2D(9, 3)),
        key(layers.Conv2D(8, 3), quantize="int8"),
    ]
    assert len({plain, *others}) == 6
    assert plain.startswith("CONV_2D(float32 1x6x6x4, float32 8x3x3x4*) -> float32 1x4x4x8 [")


def test_unpacking_weights_belongs_to_who_reads_them():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(64, activation="sigmoid")])
    program = groups.Program(convert.convert(model, convert.specs(model, 1, None), "float16"))
    assert [group.kind for group in program.groups] == [
        "DEQUANTIZE + FULLY_CONNECTED", "LOGISTIC",
    ]  # fmt: skip
    assert macs(program.alone(program.groups[0], 3)) == 3 * 6 * 64


def test_padding_that_two_read_is_a_piece_of_its_own():
    inputs = keras.Input((6, 6, 4))
    padded = layers.ZeroPadding2D(1)(inputs)
    x = layers.Add()([layers.Conv2D(4, 1)(padded), padded])
    found = [group.kind for group in groups.Program(exported(keras.Model(inputs, x))).groups]
    assert found == ["PAD", "CONV_2D", "ADD"]


def test_as_many_copies_as_fill_the_memory():
    group = groups.Program(whole()).groups[0]
    own = group.weight_bytes + group.output_bytes
    assert groups.copies(group, own) == groups.copies(group, 1) == 1
    assert groups.copies(group, 10 * own) == 10
    assert groups.copies(group, 1 << 40) == groups.MOST_COPIES
    assert groups.rounded(1) == groups.rounded(70_000) == 1 << 16
    assert groups.rounded(3_000_000) == groups.rounded(4_000_000) == 1 << 22


def test_what_is_no_program(tmp_path):
    with pytest.raises(ModelError, match="damaged"):
        groups.Program(b"\x10\x00\x00\x00TFL3" + bytes(40))
    content = exported(keras.Sequential([keras.Input((4,)), layers.Dense(2)]))
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.subgraphs.append(model.subgraphs[0])
    with pytest.raises(ModelError, match=r"has 2 graphs \(loops, branches\)"):
        groups.Program(packed(model))
    handmade.aborting(tmp_path / "if.tflite")
    with pytest.raises(ModelError, match=r"has control flow \(IF\)"):
        groups.Program((tmp_path / "if.tflite").read_bytes())
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.subgraphs[0].tensors[0].shapeSignature = [-1, -1]
    with pytest.raises(BadInput, match=r"open shape \[-1, -1\]; export the model with input_shape"):
        groups.Program(packed(model))


def packed(model):
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_constants_behind_the_flatbuffer_are_constants(tmp_path):
    """As litert-quantizer writes them, from 256 kB on."""
    image = keras.Input(SHAPE)
    wide = layers.Dense(700, activation="relu")(layers.Flatten()(image))
    model = keras.Model(image, layers.Dense(4)(wide))
    programs = []
    for compact in (False, True):
        path = tmp_path / f"{compact}.tflite"
        export(model, path, quantize="weights_int8", compact=compact, tolerance=1)
        programs.append(groups.Program(path.read_bytes()))
    behind, within = programs
    assert behind.groups == within.groups and behind.memory > 12 * 12 * 3 * 700
    largest = max(behind.groups, key=lambda group: group.weight_bytes)
    alone = inspect(written(behind.alone(largest, 1), tmp_path))
    assert len(alone.inputs) == 1 and alone.weight_types["int8"] == 12 * 12 * 3 * 700
