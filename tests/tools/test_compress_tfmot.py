"""tfeffi-compress with the methods that train in tensorflow-model-optimization."""

import importlib.util
import json

import keras
import pytest

from tests.tools import many
from tfeffi.export import buffers

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow_model_optimization"), reason="needs the extra tfmot"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfmot")
    inputs = x = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(8, 5, strides=3, activation="relu", name="conv")(x)
    x = keras.layers.Dense(10, name="logits")(keras.layers.Flatten()(x))
    keras.Model(inputs, x).save(folder / "m.keras")
    x = keras.layers.Multiply(name="gate")([inputs, inputs])
    x = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    keras.Model(inputs, x).save(folder / "gated.keras")
    return folder


TRAIN = ["--dataset=fashion_mini", "--split=train[:128]", "--epochs=1"]


def test_prune_cluster_and_quantize_in_a_row(folder):
    common = [*TRAIN, "--batch_size=32"]
    done = many.run("compress", [
        [f"--model={folder}/m.keras", f"--output={folder}/p.keras", "--method=tfmot_prune",
         "--sparsity=0.5", "--finetune_epochs=1", *common],
        [f"--model={folder}/p.keras", f"--output={folder}/c.keras", "--method=tfmot_cluster",
         "--clusters=8", *common],
        [f"--model={folder}/c.keras", f"--output={folder}/q.keras", "--method=tfmot_qat",
         f"--tflite={folder}/q.tflite", "--integer_io", "--min_agreement=0", *common],
    ])  # fmt: skip
    assert [one[0] for one in done] == [0, 0, 0], done
    for kernel in buffers.kernels(folder / "q.tflite"):
        assert kernel.zeros >= 0.49 and kernel.values_per_channel <= 8
    settings = json.loads((folder / "q.json").read_text())["settings"]
    assert settings["tflite_bytes"] == (folder / "q.tflite").stat().st_size


def test_mistakes_are_one_line_and_leave_nothing(folder):
    cases = {
        "clusters=1 must be a whole number": [
            "m",
            "--method=tfmot_cluster",
            "--clusters=1",
            *TRAIN,
        ],
        "sparsity=1.0 must be a fraction": ["m", "--method=tfmot_prune", "--sparsity=1", *TRAIN],
        "needs --dataset=NAME": ["m", "--method=tfmot_qat"],
        "takes no clusters": ["m", "--method=tfmot_qat", "--clusters=4", *TRAIN],
        'does not know "gate" (Multiply)': ["gated", "--method=tfmot_qat", *TRAIN],
    }
    before = sorted(folder.iterdir())
    runs = [
        [f"--model={folder}/{name}.keras", f"--output={folder}/bad.keras", *rest]
        for name, *rest in cases.values()
    ]
    for message, (code, _, error) in zip(cases, many.run("compress", runs), strict=True):
        assert code == 2 and message in error and error.strip().count("\n") == 0, error
    assert sorted(folder.iterdir()) == before
