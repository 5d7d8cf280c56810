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
    ),
)
def test_bad_input_is_one_line_and_exit_code_2(model, tmp_path, flags, line):
    done = export(f"--model={model}", f"--output={tmp_path / 'm.tflite'}", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_reads_well():
    done = export("--help")
    assert (
        "tfeffi-export --model=model.keras" in done.stdout and "--calibration_split" in done.stdout
    )
