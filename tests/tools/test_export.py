"""tfeffi-export, run as a user runs it."""

import json
import subprocess
import sys

import keras
import pytest

from tfeffi.export.flatbuffer import inspect


def export(*flags):
    command = [sys.executable, "-m", "tfeffi.tools.export", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    keras.utils.set_random_seed(0)
    x = image = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dense(10, name="logits")(keras.layers.Flatten()(x))
    path = tmp_path_factory.mktemp("model") / "model.keras"
    keras.Model(image, x).save(path)
    return path


def test_int8_calibrated_on_the_embedded_images(model, tmp_path):
    output, report = tmp_path / "m.tflite", tmp_path / "m.json"
    done = export(
        f"--model={model}", f"--output={output}", "--quantize=int8", "--calibration=fashion_mini",
        "--calibration_split=train[:100]", "--integer_io", "--batch_size=0", f"--report={report}",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    contents = inspect(output)
    assert contents.inputs[0].dtype == "int8" and contents.inputs[0].shape == (None, 28, 28, 1)
    assert contents.inputs[0].scale == pytest.approx(1 / 255, rel=0.01)
    record = json.loads(report.read_text())
    assert record["bytes"] == output.stat().st_size and record["checked_images"] == 100
    assert f"{record['bytes']:,} bytes" in done.stdout


@pytest.mark.parametrize(
    ("flags", "line"),
    (
        (("--quantize=int8",), "needs --calibration=DATASET"),
        (
            ("--quantize=int8", "--calibration=fashion_mini", "--calibration_split=test"),
            "use training images only",
        ),
        (("--quantize=flaot16",), 'did you mean "float16"?'),
        (("--quantize=static_int4",), "--quantize=static_int4 needs --calibration=DATASET"),
        (("--quantize_layer=.*=int8",), "needs --calibration=DATASET"),
        (("--quantize_layer=conv9=dynamic",), '"conv9" matches no layer; the layers are conv2d'),
        (("--quantize_layer=int8",), "must read like 'PATTERN=NAME'"),
        (("--quantize_layer=.*=int9", "--calibration=fashion_mini"), 'unknown "int9" for ".*"'),
        (("--quantize=int8", "--quantize_layer=.*=int8"), "exclude each other"),
        (
            ("--quantize=int8", "--calibration=fashion_mini", "--calibration_split=train[:0]"),
            'the split "train[:0]" is empty',
        ),
        (("--quantize=dynamic", "--min_agreement=0.5"), "--min_agreement needs --calibration="),
        (("--quantize=dynamic", "--calibration_split=test"), "--calibration_split needs"),
        (
            ("--quantize=dynamic", "--calibration=fashion_mini", "--calibration_split=test"),
            "use training images only",
        ),
        (("--input_shape=28,wide,1",), "--input_shape=28,wide,1 must be whole numbers from 1"),
        (("--value_range=0",), "--value_range=0 must be two numbers"),
        (("--value_range=1,0",), "the first must be the lower one"),
    ),
)
def test_bad_input_is_one_line_and_exit_code_2(model, tmp_path, flags, line):
    done = export(f"--model={model}", f"--output={tmp_path / 'm.tflite'}", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_layer_by_layer_and_a_warning_about_another_range(model, tmp_path):
    output, report = tmp_path / "m.tflite", tmp_path / "m.json"
    done = export(
        f"--model={model}", f"--output={output}", "--quantize_layer=logits=static_int4",
        "--quantize_layer=.*=int8", "--calibration=fashion_mini", "--value_range=0,255",
        "--calibration_split=train[:100]", "--min_agreement=0", f"--report={report}", "--reproducible",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lie in [0, 1], expected is [0, 255]" in done.stderr and done.stderr.count("\n") == 1
    record = json.loads(report.read_text())
    assert record["recipe"] == [["logits", "static_int4"], [".*", "int8"]]
    assert record["weight_types"]["int4"] == 13 * 13 * 8 * 10 / 2 and record["arena_bytes"] > 0


def test_float_activations_are_compared_on_the_images_of_calibration(model, tmp_path):
    report = tmp_path / "m.json"
    done = export(
        f"--model={model}", f"--output={tmp_path / 'm.tflite'}", "--quantize=dynamic_int8",
        "--calibration=fashion_mini", "--calibration_split=train[:100]", "--min_agreement=0.5",
        f"--report={report}",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(report.read_text())
    assert record["checked_images"] == 100 and 0.5 <= record["top1_agreement"] <= 1


def test_an_open_size_is_given(tmp_path):
    image = keras.Input((None, None, 3))
    path, output = tmp_path / "open.keras", tmp_path / "m.tflite"
    keras.Model(image, keras.layers.Conv2D(4, 3, padding="same")(image)).save(path)
    done = export(f"--model={path}", f"--output={output}", "--input_shape=9,7,3")
    assert (done.returncode, done.stderr) == (0, "")
    assert inspect(output).inputs[0].shape == (1, 9, 7, 3)


def test_help_reads_well():
    done = export("--help")
    assert (
        "tfeffi-export --model=model.keras" in done.stdout and "--calibration_split" in done.stdout
    )
