"""The ways to quantize by litert-quantizer: whole networks, layer by layer, and the same bytes again."""

import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfeffi
from tfeffi import bench, data
from tfeffi.export import (
    ExportError,
    ModelError,
    buffers,
    contract,
    convert,
    flatbuffer,
    layers,
    plan,
    recipes,
    steps,
)
from tfeffi.export import litert as running
from tfeffi.export.flatbuffer import inspect

from . import again, handmade
from .conftest import striped

QUANTIZER = [r.name for r in recipes.RECIPES.values() if r.by == recipes.QUANTIZER]
TRAIN, TEST = "train[:3000]", "test[:1000]"


def types_of(path):
    """{output: (operator, type of its kernel, types of its activations)} of a file."""
    return {
        step.outputs[0]: (step.operator, step.kernel_type, step.activations)
        for step in steps.read(path.read_bytes())
        if step.operator not in ("QUANTIZE", "DEQUANTIZE")
    }


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """A small network trained on Fashion-MNIST, and the images it was trained on."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((28, 28, 1))
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, strides=2, use_bias=False, padding="same")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.8)(x))
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.Dense(10, name="logits")(x))
    images = data.load("fashion_mini", TRAIN)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(images.images / np.float32(255), images.labels, batch_size=64, epochs=4, verbose=0)
    path = tmp_path_factory.mktemp("fashion") / "float32.tflite"
    tfeffi.export(model, path)
    return model, images, bench.evaluate(path, data.load("fashion_mini", TEST))


@pytest.mark.parametrize("quantize", QUANTIZER)
def test_accuracy_is_kept_on_fashion(fashion, tmp_path, quantize):
    model, images, accuracy = fashion
    recipe, path = recipes.RECIPES[quantize], tmp_path / "m.tflite"
    made = tfeffi.export(
        model, path, quantize=quantize, check_with=images,
        calibration=images if recipe.calibrated else None,
    )  # fmt: skip
    four = recipe.weights == "int4"
    assert accuracy > 0.75
    assert bench.evaluate(path, data.load("fashion_mini", TEST)) > accuracy - (
        0.05 if four else 0.01
    )
    assert made.top1_agreement >= (0.9 if four else 0.97)
    kinds = {"int8"} if recipe.activations == "int8" else {recipe.activations}
    found = types_of(path).values()
    for operator, kernel, activations in found:
        assert set(activations) <= {*kinds, "int32"}
        if operator in plan.KERNELS:
            narrow = four and operator != "DEPTHWISE_CONV_2D"
            assert kernel == ("int4" if narrow else "int8")
    assert sum(operator in plan.KERNELS for operator, *_ in found) == 5
    assert {t.dtype for t in (*made.inputs, *made.outputs)} == {"float32"}


@pytest.mark.parametrize(("quantize", "ends"), (("static_int8", "int8"), ("int16x8", "int16")))
def test_integer_ends(model, tmp_path, quantize, ends):
    made = tfeffi.export(
        model, tmp_path / "m.tflite", quantize=quantize, calibration=striped(100, 1)[0],
        integer_io=True, batch_size=None,
    )  # fmt: skip
    assert [t.dtype for t in (*made.inputs, *made.outputs)] == [ends] * 2
    assert made.inputs[0].shape[0] is None and made.top1_agreement > 0.97
    with pytest.raises(ExportError, match=f"integer_io: inputs and outputs are .'{ends}'., not"):
        contract.check_structure(made.path, "int8" if ends == "int16" else "int16x8", True)


def confusing():
    """Layers whose scopes in the trace are called like other layers, one used twice, one nested."""
    dense = keras.layers.Dense(6, name="twice")
    inner_in = keras.Input((6,))
    inner = keras.Model(inner_in, keras.layers.Dense(6, name="dense_1")(inner_in), name="inner")
    x = image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, name="conv_1")(x)
    x = keras.layers.Conv2D(4, 3, name="conv", activation="relu")(x)
    x = keras.layers.Dense(6, name="dense", activation="relu")(keras.layers.Flatten()(x))
    x = keras.layers.ReLU()(inner(dense(x)))
    return keras.Model(image, keras.layers.Softmax(name="end")(dense(x)))


@pytest.mark.parametrize("reproducible", (False, True))
def test_each_layer_gets_its_own(tmp_path, reproducible):
    path = tmp_path / "m.tflite"
    recipe = {
        "conv": "weights_int4",
        "twice": "dynamic_int8",
        "dense_1": "float16",
        "conv_.*": "int8",
    }
    made = tfeffi.export(
        confusing(), path, recipe=recipe, reproducible=reproducible, min_agreement=0,
        calibration=np.random.default_rng(0).random((20, 8, 8, 1), np.float32),
    )  # fmt: skip
    kernels = [
        kernel for operator, kernel, _ in types_of(path).values() if operator in plan.KERNELS
    ]
    #          conv_1, conv,  dense,      twice,  inner/dense_1, twice
    assert kernels == ["int8", "int4", "float32", "int8", "float16", "int8"]
    assert made.quantize == "recipe" and dict(made.recipe) == recipe
    assert any("conv_1" in name for name in types_of(path)) != reproducible
    assert made.to_json()["recipe"][0] == ("conv", "weights_int4")


@pytest.mark.parametrize(
    ("recipe", "line"),
    (
        (
            {"conv9": "int8"},
            r'"conv9" matches no layer; the layers are conv2d, batch_norm.*, logits$',
        ),
        (
            {"re_lu": "int8"},
            r'"re_lu" matches re_lu, which LiteRT computes within other layers; those',
        ),
        ({"conv(": "int8"}, r"'conv\(' is no regular expression"),
        ({".*": "int9"}, r'unknown "int9" for "\.\*"; did you mean "int8"'),
        ({}, "recipe is empty"),
        ("int8", "'int8' is not a pair"),
        ([("a", "int8", 3)], "is not a pair"),
    ),
)
def test_a_recipe_that_cannot_be_used_is_one_line(model, tmp_path, recipe, line):
    with pytest.raises(tfeffi.BadInput, match=line) as caught:
        tfeffi.export(model, tmp_path / "m.tflite", recipe=recipe, calibration=striped(20, 1)[0])
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kwargs", "line"),
    (
        ({"quantize": "static_int8"}, "static_int8 needs calibration images"),
        ({"quantize": "static_int4", "calibration": []}, "calibration has no images"),
        ({"recipe": {".*": "int8"}}, "static_int8 needs calibration images"),
        ({"quantize": "dynamic", "recipe": {".*": "int8"}}, "exclude each other"),
        ({"recipe": {".*": "int8"}, "integer_io": True}, "not a recipe by layer"),
        ({"quantize": "weights_int2"}, 'did you mean "weights_int8" or "weights_int4"'),
        ({"quantize": ["int8"]}, "unknown quantize"),
    ),
)
def test_what_cannot_be_used_is_refused(model, tmp_path, kwargs, line):
    with pytest.raises(tfeffi.BadInput, match=line):
        tfeffi.export(model, tmp_path / "m.tflite", **kwargs)


NAMES = ("float32", "int8", "dynamic", "weights_int4")
PATTERNS = ("a", "b", "a.*", ".b", "inner/.*", ".*")


@given(
    pairs=st.lists(st.tuples(st.sampled_from(PATTERNS), st.sampled_from(NAMES)), min_size=1),
    owned=st.lists(st.sampled_from((0, 1, 2, 3, None)), max_size=6),
)
def test_the_first_pattern_that_matches_counts(pairs, owned):
    paths = ("a", "ab", "inner/b", "bb")
    made = [steps.Step("ADD", (f"t{i}",), None, None, None, (), (), ()) for i in range(len(owned))]
    patterns = recipes.by_layer(pairs)
    try:
        planned = plan.by_layer(made, owned, paths, patterns)
    except tfeffi.BadInput as error:
        assert "matches" in str(error)
        return
    for one, owner in zip(planned, owned, strict=True):
        wanted = None
        for pattern, recipe in patterns if owner is not None else ():
            if any(re.fullmatch(pattern, n) for n in (paths[owner], paths[owner].split("/")[-1])):
                wanted = recipe
                break
        assert one.recipe == wanted


def test_layers_have_their_names_back(model):
    before = [layer.name for layer in model.layers]
    with pytest.raises(ZeroDivisionError), layers.numbered(model):
        assert model.layers[1].name == "layer_0."
        raise ZeroDivisionError
    assert [layer.name for layer in model.layers] == before


def test_other_types_than_planned_are_refused(model, tmp_path):
    path = tmp_path / "m.tflite"
    tfeffi.export(model, path)
    found = steps.read(path.read_bytes())
    for name, line in (
        ("weights_int4", "weights_int4: the weights of CONV_2D are float32, not int4"),
        ("dynamic_int8", "dynamic_int8: the weights of CONV_2D are float32, not int8"),
    ):
        with pytest.raises(ExportError, match=line):
            contract.check_plan(plan.whole(found, recipes.RECIPES[name]), found)
    with pytest.raises(ExportError, match="quantizing changed the operators"):
        contract.check_plan(plan.whole(found, recipes.RECIPES["int8"]), found[1:])
    with pytest.raises(ExportError, match=r"static_int8: .*CONV_2D.* would still compute"):
        contract.check_structure(path, "static_int8", False)


def test_large_files_keep_their_constants_behind_the_model(tmp_path):
    x = image = keras.Input((64,))
    x = keras.layers.Dense(300, activation="relu")(keras.layers.Dense(1024, activation="relu")(x))
    path = tmp_path / "m.tflite"
    made = tfeffi.export(
        keras.Model(image, keras.layers.Dense(10)(x)), path, quantize="dynamic_int8"
    )
    assert made.weight_types["int8"] == 64 * 1024 + 1024 * 300 + 300 * 10
    assert [np.prod(kernel.shape) for kernel in buffers.kernels(path)] == [65536, 307200, 3000]
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ModelError, match="damaged or cut short"):
        inspect(cut)


def test_the_arena_is_measured(model, tmp_path):
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 8, 8, 3))
    rows = np.zeros((1, 8, 8, 3), np.float32)
    _, arena = running.run_measured(path, rows, arena=True)
    assert arena in (4 * 8 * 8 * 3, 2 * 4 * 8 * 8 * 3)  # the output may lie on the input
    assert running.run_measured(path, rows)[1] is None
    made = tfeffi.export(model, tmp_path / "n.tflite")
    assert (
        made.arena_bytes > made.activation_bytes == flatbuffer.inspect(made.path).activation_bytes
    )
    assert f"arena here {made.arena_bytes:,}" in made.table()
    assert made.to_json()["arena_bytes"] == made.arena_bytes


PARTS = {
    "activation": lambda: keras.layers.Conv2D(4, 3, activation=keras.layers.LeakyReLU()),
    "cells": lambda: keras.layers.TimeDistributed(
        keras.layers.Bidirectional(keras.layers.SimpleRNN(3, unroll=True))
    ),
    "nested": lambda: keras.Sequential([keras.layers.Dense(3, keras.layers.LeakyReLU())]),
}


@pytest.mark.parametrize("kind", PARTS)
def test_layers_within_layers_do_not_show_when_reproducible(kind):
    files, weights = [], None
    for _ in range(2):  # Keras counts their names up
        image = keras.Input((4, 5, 2))
        model = keras.Model(image, keras.layers.Flatten()(PARTS[kind]()(image)))
        weights = weights or model.get_weights()
        model.set_weights(weights)
        files.append(convert.convert(model, convert.specs(model, 1, None), None, numbered=True))
    assert files[0] == files[1]
    restored = flatbuffer.parsed(layers.with_names(files[1], model)).Subgraphs(0)
    names = [tensor.name for tensor in flatbuffer.tensors(restored)]
    assert not [name for name in names if "part_" in name or "layer_" in name]


def test_another_process_gives_the_same_bytes(tmp_path):
    saved, seed = tmp_path / "saved.keras", "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    again.network().save(saved)
    here = again.made(saved, tmp_path / "here")
    folder = tmp_path / "there"
    folder.mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": seed, "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", again.__name__, str(saved), str(folder)],
        env=environment, cwd=pathlib.Path(__file__).parents[2], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    there = {file.name: file.read_bytes() for file in folder.glob("*.tflite")}
    assert len(here) == len(recipes.RECIPES) + 1 + len(again.ANEW) and here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []


def test_the_quantizer_is_a_guest():
    code = """
import logging, os, sys, warnings
from absl import logging as absl_logging
import tfeffi.export
from tfeffi.export import recipes, plan
assert "litert_quantizer" not in sys.modules and "tensorflow" not in sys.modules
def state():
    roots = (logging.root.level, tuple(logging.root.handlers), absl_logging.get_verbosity())
    return dict(os.environ), roots, list(warnings.filters)
before = state()
from litert_quantizer import quantizer, calibrator
assert state() == before and "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
