"""tfeffi-benchmark --profile, run as a user runs it."""

import json

import keras
import pytest

import tfeffi
from tests.export import handmade
from tests.tools.test_benchmark import benchmark

QUICK = ("--min_runs=3", "--min_seconds=0", "--warmup_runs=1")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    x = image = keras.Input((64, 64, 3))
    for filters in (30, 64):
        x = keras.layers.Conv2D(filters, 3, activation="relu", name=f"conv{filters}")(x)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x))
    model.save(folder / "model.keras")
    tfeffi.export(model, folder / "model.tflite", tolerance=1.0)
    handmade.relu(folder / "open.tflite", shape=(1, 1, 1, 3), signature=(-1, -1, -1, 3))
    handmade.aborting(folder / "aborting.tflite")
    handmade.with_custom_operator(folder / "custom.tflite")
    (folder / "text.tflite").write_text("not a model")
    content = (folder / "model.tflite").read_bytes()
    (folder / "cut.tflite").write_bytes(content[: len(content) // 2])
    return folder


def test_a_table_a_file_and_a_picture(models, tmp_path):
    output, figure = tmp_path / "profile.json", tmp_path / "roofline.png"
    done = benchmark(
        f"--model={models / 'model.tflite'}", "--profile", f"--keras_model={models / 'model.keras'}",
        f"--output={output}", f"--figure={figure}", *QUICK,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "conv64" in done.stdout and "30 filters: prune or pad to a multiple of 8" in done.stdout
    record = json.loads(output.read_text())
    assert [row["operator"] for row in record["rows"]] == ["CONV_2D", "CONV_2D", "MEAN"]
    assert {"conv30", "conv64"} <= {row["layers"][0] for row in record["worst"]}
    assert figure.read_bytes()[:4] == b"\x89PNG"


def test_a_picture_that_is_there_stays(models, tmp_path):
    figure = tmp_path / "roofline.png"
    figure.write_text("finished work")
    done = benchmark(
        f"--model={models / 'model.tflite'}", "--profile", f"--figure={figure}", *QUICK
    )
    assert done.returncode == 2 and 'roofline.png" exists already' in done.stderr
    assert figure.read_text() == "finished work"


@pytest.mark.parametrize(
    ("model", "flags", "line"),
    (
        ("no.tflite", ("--profile",), "there is no model file"),
        ("text.tflite", ("--profile",), "is not a .tflite file"),
        ("cut.tflite", ("--profile",), "damaged or cut short"),
        ("custom.tflite", ("--profile",), 'needs the custom operator "Landmarks"'),
        ("aborting.tflite", ("--profile",), "made LiteRT abort"),
        ("open.tflite", ("--profile",), "open shape"),
        ("model.tflite", ("--profile", "--keras_model=no.keras"), "there is no model file"),
        ("model.tflite", ("--profile", "--device=adb"), "on this machine"),
        ("model.tflite,b.tflite", ("--profile",), "one --model at a time"),
        ("model.tflite", ("--profile", "--figure=roof.gif"), "must end in .png, .svg, .pdf"),
        (
            "model.tflite",
            ("--profile", "--gpu", "--noxnnpack", "--cpu_affinity=99", "--rounds=3"),
            "leave out --rounds, --cpu_affinity, --xnnpack, --gpu",
        ),
        (
            "model.tflite",
            ("--profile", "--nnapi", "--external_delegate=no.so", "--device_python=foo"),
            "leave out --device_python, --nnapi, --external_delegate",
        ),
        ("model.tflite", ("--profile", "--timeout=-1"), "timeout -1.0 must be above 0 seconds"),
        ("model.tflite", ("--figure=roof.png",), "--keras_model and --figure need --profile"),
    ),
)
def test_bad_input_is_one_line_and_exit_code_2(models, model, flags, line):
    done = benchmark(f"--model={models / model}", *flags, *QUICK)
    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr and done.stderr.count("\n") == 1, done.stderr
