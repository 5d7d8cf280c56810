"""The four ways to export, against Keras, run here by LiteRT's own interpreter."""

import json
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import tfeffi
from tfeffi import bench
from tfeffi.errors import BadInput
from tfeffi.export import CalibrationWarning, ExportError, contract, samples
from tfeffi.export.flatbuffer import inspect

from .conftest import CLASSES, network, striped

WAYS = (None, "float16", "dynamic", "int8")


def run(path, images):
    """The oracle: LiteRT itself, image by image, quantizing by hand."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for image in images:
        if given["dtype"] == np.int8:
            scale, zero_point = given["quantization"]
            image = np.clip(np.rint(image / scale) + zero_point, -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        output = interpreter.get_tensor(found["index"])[0]
        if found["dtype"] == np.int8:
            scale, zero_point = found["quantization"]
            output = (output.astype(np.float32) - zero_point) * scale
        outputs.append(output)
    return np.stack(outputs)


def made(model, folder, quantize=None, **kwargs):
    path = folder / f"{quantize}.tflite"
    if quantize == "int8":
        kwargs.setdefault("calibration", striped(200, seed=1)[0])
    return tfeffi.export(model, path, quantize=quantize, **kwargs)


@pytest.mark.parametrize("quantize", WAYS)
def test_the_file_computes_what_keras_computes(model, tmp_path, quantize):
    images, labels = striped(100, seed=2)
    exported = made(model, tmp_path, quantize, check_with=images)
    keras_logits, logits = model.predict(images, verbose=0), run(exported.path, images)

    limit = {None: 1e-5, "float16": 5e-3, "dynamic": 0.05, "int8": 0.1}[quantize]
    assert np.abs(logits - keras_logits).max() <= limit * np.abs(keras_logits).max()
    assert (keras_logits.argmax(1) == labels).mean() > 0.95  # or the agreement says nothing
    assert (logits.argmax(1) == keras_logits.argmax(1)).mean() >= 0.98
    assert exported.relative_difference <= limit
    assert exported.top1_agreement >= 0.98


def test_the_ways_differ_in_what_they_are_for(model, tmp_path):
    ways = {quantize: made(model, tmp_path, quantize) for quantize in WAYS}
    contents = {quantize: inspect(exported.path) for quantize, exported in ways.items()}
    weights = {quantize: next(iter(c.weight_types)) for quantize, c in contents.items()}
    assert weights == {None: "float32", "float16": "float16", "dynamic": "int8", "int8": "int8"}
    assert contents["int8"].activation_bytes < 0.3 * contents[None].activation_bytes
    assert contents["float16"].activation_bytes == contents[None].activation_bytes
    for quantize, exported in ways.items():
        size = len((tmp_path / f"{quantize}.tflite").read_bytes())
        assert exported.bytes == size and 0 < exported.zip_bytes < size


@pytest.mark.parametrize("quantize", (None, "int8"))
def test_batch_normalization_is_folded(model, tmp_path, quantize):
    operators = made(model, tmp_path, quantize, integer_io=quantize == "int8").operators
    assert operators == {
        "CONV_2D": 3, "DEPTHWISE_CONV_2D": 2, "ADD": 1, "MEAN": 1, "FULLY_CONNECTED": 1,
    }  # fmt: skip


@pytest.mark.parametrize("integer_io", (False, True))
def test_int8_is_integer_between_its_ends(model, tmp_path, integer_io):
    exported = made(model, tmp_path, "int8", integer_io=integer_io)
    ends = [exported.inputs[0], exported.outputs[0]]
    assert inspect(exported.path).float_operators == ()
    assert [end.dtype for end in ends] == (["int8"] * 2 if integer_io else ["float32"] * 2)
    assert all((end.scale is not None) == integer_io for end in ends)
    assert ("DEQUANTIZE" in exported.operators) == (not integer_io)
    if integer_io:  # the images fill [0, 1], so its 255 steps do
        assert ends[0].scale == pytest.approx(1 / 255, rel=0.02)


@pytest.mark.parametrize("quantize", WAYS)
def test_a_dynamic_batch_takes_any_batch(model, tmp_path, quantize):
    exported = made(model, tmp_path, quantize, batch_size=None)
    assert exported.inputs[0].shape == (None, 12, 12, 1)
    assert exported.outputs[0].shape == (None, CLASSES)
    images = striped(7, seed=3)[0]
    one_by_one = run(exported.path, images)
    interpreter = Interpreter(exported.path)
    given = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(given, [7, 12, 12, 1])
    interpreter.allocate_tensors()
    interpreter.set_tensor(given, images)
    interpreter.invoke()
    together = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(together, one_by_one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("quantize", (None, "int8"))
def test_a_static_batch_is_kept(model, tmp_path, quantize):
    exported = made(model, tmp_path, quantize, batch_size=3, check_with=striped(40, seed=3)[0])
    assert exported.inputs[0].shape == (3, 12, 12, 1)
    assert exported.top1_agreement == 1.0


@pytest.mark.parametrize("policy", ("mixed_bfloat16", "mixed_float16", "bfloat16"))
def test_a_mixed_precision_model_is_exported_in_float32(saved, tmp_path, policy):
    trained = keras.models.load_model(saved, compile=False)
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        mixed = network()
    finally:
        keras.config.set_dtype_policy(previous)
    mixed.set_weights(trained.get_weights())
    exported = made(mixed, tmp_path)
    images = striped(50, seed=4)[0]
    wanted = trained.predict(images, verbose=0)
    error = np.abs(run(exported.path, images) - wanted).max() / np.abs(wanted).max()
    # bfloat16 weights have lost bits for good, the others are float32 beneath their policy
    assert error <= (5e-2 if policy == "bfloat16" else 1e-5)
    assert "CAST" not in exported.operators
    assert mixed.layers[1].compute_dtype == policy.removeprefix("mixed_")  # untouched


def test_the_same_input_gives_the_same_bytes(model, saved, tmp_path):
    first = made(model, tmp_path, "int8")
    keras.Input((3,))  # names that Keras counts up must not reach the file
    second = tfeffi.export(
        saved, tmp_path / "again.tflite", quantize="int8", calibration=striped(200, seed=1)[0]
    )
    assert (tmp_path / "int8.tflite").read_bytes() == (tmp_path / "again.tflite").read_bytes()
    assert first.operators == second.operators


def test_calibration_comes_in_several_forms(model, tmp_path):
    images, labels = striped(60, seed=5)
    stored = np.rint(images * 255).astype(np.uint8)
    images = stored / np.float32(255)
    forms = {
        "array": images,
        "tensor": tf.constant(images),
        "images": tf.data.Dataset.from_tensor_slices(images).batch(16),
        "pairs": tf.data.Dataset.from_tensor_slices((images, labels)).batch(16),
        "forever": tf.data.Dataset.from_tensor_slices(images).batch(60).repeat(),
        "Images": types.SimpleNamespace(images=stored, labels=labels, split="train[:60]"),
    }
    contents = {}
    for name, calibration in forms.items():
        path = tmp_path / f"{name}.tflite"
        tfeffi.export(model, path, quantize="int8", calibration=calibration)
        contents[name] = path.read_bytes()
    assert len(set(contents.values())) == 1


def test_several_inputs_and_outputs(tmp_path):
    a, b = keras.Input((4,), name="b"), keras.Input((3,), name="a")
    x = keras.layers.Concatenate()([keras.layers.Dense(5)(a), b])
    two = keras.Model(
        {"b": a, "a": b}, {"sum": keras.layers.Dense(2)(x), "all": keras.layers.ReLU()(x)}
    )
    exported = tfeffi.export(two, tmp_path / "two.tflite")
    assert exported.relative_difference < 1e-5
    assert sorted(t.shape for t in exported.inputs) == [(1, 3), (1, 4)]
    assert exported.top1_agreement is None
    with pytest.raises(BadInput, match="check_with is images of one input, this model has 2"):
        tfeffi.export(two, tmp_path / "none.tflite", check_with=np.zeros((2, 4), np.float32))


def test_an_open_size_needs_a_shape(tmp_path):
    x = image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    model = keras.Model(image, x)
    with pytest.raises(tfeffi.BadInput, match="give input_shape"):
        tfeffi.export(model, tmp_path / "m.tflite")
    exported = tfeffi.export(model, tmp_path / "m.tflite", input_shape=(9, 7, 3))
    assert exported.outputs[0].shape == (1, 9, 7, 4)


def test_an_autoencoder_has_no_classes_but_is_checked(tmp_path):
    x = image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid")(x)
    images = np.random.default_rng(0).random((50, 8, 8, 1), np.float32)
    path = tmp_path / "m.tflite"
    exported = tfeffi.export(keras.Model(image, x), path, quantize="int8", calibration=images)
    assert exported.top1_agreement is None and 0 < exported.relative_difference < 0.1
    with pytest.raises(tfeffi.BadInput, match="min_agreement is for classifiers"):
        made(keras.Model(image, x), tmp_path, "int8", calibration=images, min_agreement=0.9)


def test_the_record_is_json(model, tmp_path):
    exported = made(model, tmp_path, "int8", integer_io=True)
    record = json.loads(json.dumps(exported.to_json(), allow_nan=False))
    assert record["inputs"][0]["shape"] == [1, 12, 12, 1]
    assert record["inputs"][0]["scale"] == exported.inputs[0].scale
    assert record["bytes"] == exported.bytes
    assert None not in record.values()
    assert "int8 1x12x12x1 -> int8 1x4" in exported.table()


def test_converting_prints_nothing(model, tmp_path, capfd):
    made(model, tmp_path, "int8")
    assert capfd.readouterr() == ("", "")


def test_the_package_is_the_function_and_loads_nothing_heavy():
    code = (
        "import sys, tfeffi; from tfeffi.export import flatbuffer; from tfeffi import export; "
        "assert callable(export) and export is sys.modules['tfeffi.export'] is tfeffi.export; "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def left(folder):
    return sorted(file.name for file in folder.iterdir())


def test_images_in_another_range_draw_a_warning(model, tmp_path):
    images = striped(100, seed=1)[0]
    with pytest.warns(CalibrationWarning, match=r"lie in \[.*255\], expected is \[0, 1\]"):
        made(model, tmp_path, "int8", calibration=np.rint(images * 255).astype(np.uint8))
    (tmp_path / "int8.tflite").unlink()
    # scaled twice, they are nearly black: what the file learns from them is of no use on images
    with (
        pytest.warns(CalibrationWarning),
        pytest.raises(ExportError, match=r"the same class; wanted are 90\.0%; calibrate on"),
    ):
        made(model, tmp_path, "int8", calibration=images / 255, check_with=images)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("limit", "line"),
    (
        ({"tolerance": 0.0}, "differs from Keras by .*; allowed is 0"),
        ({"min_agreement": 1.0}, "the same class; wanted are 100"),
    ),
)
def test_a_broken_contract_leaves_nothing(model, tmp_path, limit, line):
    with pytest.raises(ExportError, match=line):  # noise of many near ties
        noise = np.random.default_rng(0).random((200, 12, 12, 1), np.float32)
        made(model, tmp_path / "new" / "folder", "int8", check_with=noise, **limit)
    assert left(tmp_path) == []


def test_int8_must_agree_on_the_classes(model, tmp_path):
    """30000 on every output hides their differences from any tolerance, and int8 cannot keep them."""
    bias = model.get_layer("logits").bias
    bias.assign(bias.numpy() + 30000)
    with pytest.raises(ExportError, match=r"wanted are 90\.0%; .*set min_agreement"):
        made(model, tmp_path, "int8")
    assert left(tmp_path) == []
    exported = made(model, tmp_path, "int8", min_agreement=0.0)
    assert exported.top1_agreement < 0.9 and exported.relative_difference < 0.05


@pytest.mark.parametrize("quantize", ("float16", "dynamic"))
def test_weights_are_what_was_asked_for(model, tmp_path, quantize):
    made(model, tmp_path)
    with pytest.raises(ExportError, match=f"{quantize}: CONV_2D would still have 2304 float32"):
        contract.check_structure(tmp_path / "None.tflite", quantize, False)
    assert inspect(tmp_path / "None.tflite").float_weights == {
        "CONV_2D": 8 * 32 * 9, "DEPTHWISE_CONV_2D": 32 * 9, "FULLY_CONNECTED": 32 * CLASSES,
    }  # fmt: skip
    weights = inspect(made(model, tmp_path, quantize).path).float_weights
    assert max(weights.values(), default=0) < 1024


def brightness(dtype):
    """Tells dark from bright pixels, which it takes as stored."""
    image = keras.Input((4, 4, 1), dtype=dtype)
    x = keras.layers.Rescaling(1 / 255)(image)
    logits = keras.layers.Dense(2, name="logits")
    model = keras.Model(image, logits(keras.layers.GlobalAveragePooling2D()(x)))
    logits.set_weights([np.array([[-1.0, 1.0]]), np.array([0.5, -0.5])])
    return model


@pytest.mark.parametrize("dtype", ("uint8", "int32"))
def test_integer_inputs_take_stored_pixels(tmp_path, dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 1, 1)) * np.ones((4, 4, 1), int)
    data = types.SimpleNamespace(
        images=pixels.astype(np.uint8), labels=(pixels[:, 0, 0, 0] > 127).astype(int), split="test"
    )
    path = tmp_path / "m.tflite"
    exported = tfeffi.export(brightness(dtype), path, check_with=data)
    assert exported.inputs[0].dtype == dtype and exported.top1_agreement == 1.0
    assert 0 < data.labels.mean() < 1
    assert bench.evaluate(path, data) == 1.0
    assert bench.evaluate(path, data.images, data.labels) == 1.0
    with pytest.raises(tfeffi.BadInput, match=r"takes whole numbers.*give stored pixels"):
        bench.evaluate(path, data.images / 255, data.labels)
    with pytest.raises(tfeffi.BadInput, match=r"check_with values .* give stored pixels"):
        tfeffi.export(brightness(dtype), tmp_path / "n.tflite", check_with=data.images / 255)


def test_random_pixels_cover_their_range():
    random = np.random.default_rng(0)
    for name in ("uint8", "int8"):
        limits = np.iinfo(name)
        values = samples.random_values(random, (16, 12, 12, 3), np.dtype(name), (0.0, 1.0))
        assert (values.min(), values.max()) == (limits.min, limits.max)
        assert values.dtype == name


def test_outputs_must_be_finite(tmp_path):
    image = keras.Input((4,))
    x = keras.layers.Dense(4, kernel_initializer=keras.initializers.Constant(3e38))(image)
    with pytest.raises(ExportError, match="not finite"):
        tfeffi.export(keras.Model(image, x), tmp_path / "m.tflite")
    assert left(tmp_path) == []


@keras.saving.register_keras_serializable("tests")
class NoBuiltin(keras.layers.Layer):
    """Has a TensorFlow kernel, but no builtin one."""

    def call(self, x):
        return tf.math.betainc(x + 1.0, x + 2.0, x)


@keras.saving.register_keras_serializable("tests")
class OnlyFloat(keras.layers.Layer):
    """Has a builtin kernel, but no integer one: the converter would leave it in floating point."""

    def call(self, x):
        return tf.math.cos(x)


@pytest.mark.parametrize(
    ("layer", "quantize", "line"),
    ((NoBuiltin, None, "Betainc"), (OnlyFloat, "int8", "int8: COS would still")),
)
def test_an_operator_without_a_kernel_is_named(tmp_path, layer, quantize, line):
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, layer()(image))
    images = np.random.default_rng(0).random((20, 4, 4, 1), np.float32)
    with pytest.raises(ExportError, match=line) as caught:
        made(model, tmp_path, quantize, **({"calibration": images} if quantize else {}))
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_weights_must_be_finite(model, tmp_path):
    kernel = model.get_layer("logits").kernel
    kernel.assign(kernel.numpy() * np.nan)
    with pytest.raises(tfeffi.BadInput, match=r"logits/kernel.* is not finite"):
        made(model, tmp_path)


def test_a_model_must_be_built(tmp_path):
    with pytest.raises(tfeffi.BadInput, match="no defined inputs"):
        made(keras.Sequential([keras.layers.Dense(3)]), tmp_path)


@pytest.mark.parametrize(
    ("kwargs", "line"),
    (
        ({"quantize": "int9", "calibration": 0}, 'did you mean "int8"'),
        ({"quantize": "int8"}, "int8 needs calibration images"),
        ({"quantize": "int8", "calibration": np.zeros((0, 12, 12, 1))}, "calibration has no images"),
        ({"quantize": "int8", "calibration": []}, "calibration has no images"),
        ({"quantize": "int8", "calibration": 7}, "calibration is a int"),
        ({"quantize": "int8", "calibration": np.zeros((9, 8, 8, 3))}, r"\(8, 8, 3\).*\(12, 12, 1\)"),
        ({"quantize": "int8", "calibration": np.full((9, 12, 12, 1), np.nan)}, "not finite"),
        ({"integer_io": True}, 'integer_io needs quantize="int8" or .*, not float32'),
        ({"batch_size": 0}, "batch_size 0 must be at least 1"),
        ({"batch_size": 1.5}, "batch_size 1.5 must be at least 1 and whole"),
        ({"tolerance": float("nan")}, "tolerance nan must be at least 0"),
        ({"tolerance": -0.1}, "tolerance -0.1 must be at least 0"),
        ({"min_agreement": 1.01}, "min_agreement 1.01 must be a fraction"),
        ({"min_agreement": float("nan")}, "min_agreement nan must be a fraction"),
        ({"check_with": np.zeros((0, 12, 12, 1))}, "check_with has no images"),
        ({"input_shape": (12, 12, 3)}, r"\(12, 12, 3\) does not fit the model's \(12, 12, 1\)"),
        ({"check_with": np.zeros((4, 5, 5, 1))}, r"\(5, 5, 1\)"),
    ),
)  # fmt: skip
def test_what_cannot_be_used_is_refused(model, tmp_path, kwargs, line):
    with pytest.raises(tfeffi.BadInput, match=line):
        tfeffi.export(model, tmp_path / "m.tflite", **kwargs)
    assert left(tmp_path) == []


@pytest.mark.parametrize("split", ("test", "test[:500]", "train+test", "validation"))
def test_test_images_do_not_calibrate_but_may_check(model, tmp_path, split):
    images, labels = striped(40, seed=6)
    stored = np.rint(images * 255).astype(np.uint8)
    held_out = types.SimpleNamespace(images=stored, labels=labels, split=split)
    with pytest.raises(tfeffi.BadInput, match="use training images only"):
        made(model, tmp_path, "int8", calibration=held_out)
    assert made(model, tmp_path, "int8", check_with=held_out).checked_images == 40


def test_files_are_not_overwritten_or_mistaken(model, saved, tmp_path):
    finished = tmp_path / "None.tflite"
    finished.write_text("finished")
    with pytest.raises(tfeffi.BadInput, match="exists already"):
        made(model, tmp_path)
    assert finished.read_text() == "finished"
    text = tmp_path / "text.keras"
    text.write_text("not a model")
    for source, target, line in (
        (model, "m.lite", "must end in .tflite"),
        (tmp_path / "no.keras", "m.tflite", "no model file"),
        (finished, "m.tflite", "is not a .keras file"),
        (text, "m.tflite", "not a .keras file inside"),
    ):
        with pytest.raises(tfeffi.BadInput, match=line):
            tfeffi.export(source, tmp_path / target)
