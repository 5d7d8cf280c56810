"""The whole way on few images: train, compress, fine-tune, export, time; and again without work."""

import json

import pytest

from tfeffi.bench import evaluate
from tfeffi.data import load
from tfeffi.errors import BadInput
from tfeffi.study import variants
from tfeffi.study.results import Result

TUNE = {"epochs": 1}


def config(**changed):
    return {
        "name": "few",
        "data": {"name": "fashion_mini", "train": "train[:400]", "test": "test[:200]"},
        "model": {"name": "mnist_classifier", "width_multiplier": 0.25},
        "train": {"epochs": 2, "batch_size": 40, "learning_rate": 0.05},
        "variants": {
            "float32": {"export": {}},
            "pruned_int8": {"base": "pruned", "export": {"quantize": "int8"}},
            "pruned": {
                "compress": {"method": "prune", "budget": {"macs": 0.5}, "multiple_of": 4},
                "finetune": TUNE,
            },
            "separable": {"compress": {"method": "separable"}},
        },
    } | changed


def test_every_step_leaves_its_file_and_is_not_repeated(tmp_path):
    result = variants.run(config(), tmp_path, verbose=False)
    rows = {row["name"]: row for row in result.rows}
    assert list(rows) == ["float32", "pruned", "separable", "pruned_int8"]
    assert Result.read(tmp_path / "result.json").rows == result.rows
    assert rows["pruned"]["macs"] <= 0.5 * rows["float32"]["macs"]
    assert rows["pruned_int8"]["bytes"] < rows["pruned"]["bytes"] < rows["float32"]["bytes"]
    assert rows["pruned"]["train_seconds_mean"] > rows["float32"]["train_seconds_mean"]
    assert rows["separable"]["train_seconds_mean"] == rows["float32"]["train_seconds_mean"]
    assert {row["ratio_to"] for row in rows.values()} == {"float32"}
    for name, row in rows.items():
        file = tmp_path / name / "model.tflite"
        assert row["p50_ms"] > 0 and row["runs"] >= 200 and row["bytes"] == file.stat().st_size
        assert row["accuracy_mean"] == evaluate(file, load("fashion_mini", "test[:200]"))
    assert json.loads((tmp_path / "pruned" / "history.json").read_text())["rows"][0]["epoch"] == 1
    assert json.loads((tmp_path / "pruned" / "report.json").read_text())["method"] == "prune"

    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tflite")}
    (tmp_path / "separable" / "variant.json").unlink()  # as if killed while exporting it
    again = variants.run(config(), tmp_path, verbose=False)
    changed = {path.parent.name for path, t in made.items() if path.stat().st_mtime_ns != t}
    assert changed == {"separable"}
    assert [r["bytes"] for r in again.rows] == [r["bytes"] for r in result.rows]

    other = config()
    other["variants"]["float32"] = {"export": {"quantize": "float16"}}
    with pytest.raises(BadInput, match='holds another "float32"'):
        variants.run(other, tmp_path, verbose=False)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no variants"),
        ({"a": {"exprt": {}}}, '"export"'),
        ({"a": {"base": "bb"}, "b": {}}, 'no base "bb"'),
        ({"a": {"compress": {"method": "prun"}}}, '"prune"'),
        ({"a": {"base": "b"}, "b": {"base": "a"}, "c": {}}, "a, b are each other's base"),
    ],
)
def test_variants_that_cannot_be_made_say_so_before_anything_is_trained(given, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        variants.run(config(variants=given), tmp_path, verbose=False)
    assert not list(tmp_path.iterdir())
