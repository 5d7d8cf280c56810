"""The whole way on few images: train, compress, fine-tune, export, time; and again without work."""

import dataclasses
import json
import shutil

import pytest

from tfeffi.analysis.cost import cost
from tfeffi.bench import evaluate
from tfeffi.data import load
from tfeffi.errors import BadInput
from tfeffi.models import load as load_model
from tfeffi.study import runs, specs, variants
from tfeffi.study.results import Result
from tfeffi.train import experiment

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


def test_every_step_leaves_its_file_and_is_not_repeated(tmp_path, capsys):
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
        assert row["dataset"] == "fashion_mini test[:200]"
        assert 0 < row["speedup_low"] <= row["speedup"] <= row["speedup_high"]
    assert rows["float32"]["speedup"] == 1  # the others are timed against it
    other = dataclasses.replace(
        result, name="other", rows=[{**r, "dataset": "x"} for r in result.rows]
    )
    other.write(tmp_path / "other.json")
    study = runs.load([tmp_path, tmp_path / "other.json"])
    assert [{e.run for e in group} for group in study.groups(runs.ACCURACY, "bytes")] == [{0}, {1}]
    (tmp_path / "other.json").unlink()
    assert json.loads((tmp_path / "pruned" / "history.json").read_text())["rows"][0]["epoch"] == 1
    assert json.loads((tmp_path / "pruned" / "report.json").read_text())["method"] == "prune"

    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    kept = variants.run(config(), tmp_path, verbose=True)
    assert kept == result  # nothing was made or measured again, and it says so
    assert "has measured these files" in " ".join(capsys.readouterr().err.split())
    assert made == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}

    made = {path: t for path, t in made.items() if path.suffix == ".tflite"}
    (tmp_path / "separable" / "variant.json").unlink()  # as if killed while exporting it
    again = variants.run(config(), tmp_path, verbose=False)
    changed = {path.parent.name for path, t in made.items() if path.stat().st_mtime_ns != t}
    assert changed == {"separable"}
    assert [r["bytes"] for r in again.rows] == [r["bytes"] for r in result.rows]
    fewer = config()
    del fewer["variants"]["pruned_int8"]
    assert len(variants.run(fewer, tmp_path, verbose=False).rows) == 3  # other rows: measured again
    (tmp_path / "separable" / "model.tflite").write_bytes(b"another")
    with pytest.raises(BadInput, match="is not the file whose accuracy was measured; remove"):
        variants.run(fewer, tmp_path, verbose=False)

    for name, other in others().items():  # none of them may report the numbers of this one
        with pytest.raises(BadInput, match=f'holds another "{name}".* remove that folder'):
            variants.run(other, tmp_path, verbose=False)


def others():
    """Other experiments in the same workdir, and the folder that is theirs no more."""
    spec = config()["variants"]
    budget = {**spec["pruned"], "compress": {"method": "prune", "budget": {"macs": 0.6}}}
    return {
        "float32": config(variants={**spec, "float32": {"export": {"quantize": "float16"}}}),
        "pruned": config(variants={**spec, "pruned": budget}),
        "baseline": config(model={"name": "mnist_classifier", "width_multiplier": 0.5}),
    }


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"name": "mnist_classifier", "width_multiplier": 0.5}},
        {"data": {"name": "fashion_mini", "train": "train[:400]", "test": "test[:100]"}},
        {"train": {"epochs": 3, "batch_size": 40, "learning_rate": 0.05}},
        {"seed": 1},
    ],
)
def test_all_that_numbers_depend_on_is_in_every_identity(change):
    mine, theirs = (specs.identities(experiment.plain(config(**c))) for c in ({}, change))
    assert mine.keys() == theirs.keys() == {"baseline", *config()["variants"]}
    assert not set(mine.values()) & set(theirs.values())


def test_a_base_that_changed_changes_what_is_made_of_it_and_nothing_else():
    spec = config()["variants"]
    budget = {**spec["pruned"], "compress": {"method": "prune", "budget": {"macs": 0.6}}}
    mine, theirs = (
        specs.identities(experiment.plain(config(variants=v)))
        for v in (spec, {**spec, "pruned": budget})
    )
    assert {n for n in mine if mine[n] != theirs[n]} == {"pruned", "pruned_int8"}


def test_what_a_killed_run_of_another_variant_left_is_not_gone_on_with(tmp_path):
    spec = {"small": {"compress": {"method": "prune", "budget": {"macs": 0.5}, "multiple_of": 4}}}
    variants.run(config(variants=spec), tmp_path, verbose=False)
    (tmp_path / "small" / "variant.json").unlink()  # killed: only compressed.keras is there
    (tmp_path / "small" / "model.tflite").unlink()
    other = {"small": {"compress": {**spec["small"]["compress"], "budget": {"macs": 0.3}}}}
    with pytest.raises(BadInput, match='holds another "small"'):
        variants.run(config(variants=other), tmp_path, verbose=False)
    shutil.rmtree(tmp_path / "small")  # as the message says
    (row,) = variants.run(config(variants=other), tmp_path, verbose=False).rows
    macs = cost(load_model(tmp_path / "baseline" / "model.keras")).macs
    assert row["macs"] <= 0.3 * macs


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no variants"),
        ({"a": {"exprt": {}}}, '"export"'),
        ({"a": {"base": "bb"}, "b": {}}, 'no base "bb"'),
        ({"a": {"compress": {"method": "prun"}}}, '"prune"'),
        ({"a": {"base": "b"}, "b": {"base": "a"}, "c": {}}, "a, b are each other's base"),
        ({"a": {"base": ["b"]}}, "no base"),
        ([1], "must be a mapping"),
        ({"a": "prune"}, "config.variants.a='prune' must be a mapping"),
        ({"a": {"compress": "prune"}}, "compress='prune' must be a mapping"),
        ({"a": {"compress": {}}}, "a.compress: method=None must be one of prune, factorize"),
        (
            {"a": {"compress": {"method": "prune", "budgt": {}}}},
            '"prune" takes no "budgt".*"budget"',
        ),
        ({"a": {"compress": {"method": "prune", "data": 1}}}, 'takes no "data"'),
        ({"a": {"compress": {"method": "prune", "budget": 0.5}}}, "budget=0.5 must be a mapping"),
        ({"a": {"compress": {"method": "prune", "budget": {"mac": 0.5}}}}, '"mac"; .*"macs"'),
        ({"a": {"compress": {"method": "prune", "budget": {"macs": -1}}}}, "is not positive"),
        ({"a": {"compress": {"method": "prune", "budget": {"latency": 3}}}}, "is above 1; give a"),
        (
            {"a": {"compress": {"method": "prune", "budget": {"macs": 0.5, "device": "x"}}}},
            "device='x' is for latency",
        ),
        (
            {"a": {"compress": {"method": "prune", "budget": {"macs": 0.5}, "iterations": 3}}},
            r"iterations=3 need config.variants.a.finetune",
        ),
        (
            {"a": {"compress": {"method": "prune", "iterations": 1.5}, "finetune": TUNE}},
            r"iterations=1.5 must be from 1 on, whole",
        ),
        ({"a": {"compress": {"method": "prune", "finetune": 1}}}, 'takes no "finetune"'),
        ({"a": {"finetune": {"epoch": 1}}}, 'a.finetune: .*"epoch"; .*"epochs"'),
        ({"a": {"finetune": {"precision": "float8"}}}, "a.finetune: .*float8"),
        ({"a": {"finetune": 3}}, "finetune=3 must be a mapping"),
        ({"a": {"export": {"quantise": "int8"}}}, '"quantise"; did you mean "quantize"'),
        ({"a": {"export": {"quantize": "int4"}}}, 'unknown quantize "int4"'),
        ({"a": {"export": {"integer_io": True}}}, 'integer_io needs quantize="int8"'),
        ({"a": {"export": {"recipe": [("conv(", "int8")]}}}, "is no regular expression"),
        ({"a": {"export": {"recipe": [("conv", "int9")]}}}, 'unknown "int9" for "conv"'),
        ({"a": {"export": "int8"}}, "export='int8' must be a mapping"),
        ({"baseline": {}}, '"baseline" is the trained model itself'),
        ({"../a": {}}, "name '../a' must be of letters"),
        ({".a": {}}, "name '.a' must be of letters"),
        ({"a b": {}}, "name 'a b' must be of letters"),
        ({1: {}}, "name 1 must be of letters"),
    ],
)
def test_variants_that_cannot_be_made_say_so_before_anything_is_trained(given, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        variants.run(config(variants=given), tmp_path, verbose=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"replicates": 2}, "sweep runs one replicate"),
        ({"train": {"epoch": 2}}, 'config.train: .*"epochs"'),
        ({"train": {"loss": "reconstruction"}}, 'loss="reconstruction" has no accuracy'),
    ],
)
def test_a_config_that_cannot_be_swept_says_so_before_anything_is_trained(change, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        variants.run(config(**change), tmp_path, verbose=False)
    assert not list(tmp_path.iterdir())


def test_fine_tuning_keeps_zeros_and_shared_values(tmp_path):
    spec = {"method": "sparsify", "sparsity": 0.9, "scope": "layer"}
    changed = {"variants": {"sparse": {"compress": spec, "finetune": TUNE}}}
    variants.run(config(**changed), tmp_path, verbose=False)
    model = load_model(tmp_path / "sparse" / "model.keras")
    for layer in model.layers:
        if layer.weights:
            kernel = layer.get_weights()[0]
            assert (kernel == 0).sum() == round(0.9 * kernel.size)


def test_pruning_in_steps_tunes_after_each_and_goes_on_where_it_was(tmp_path):
    spec = {"method": "prune", "budget": {"params": 0.4}, "iterations": 2, "importance": "l2"}
    changed = {"variants": {"float32": {}, "steps": {"compress": spec, "finetune": TUNE}}}
    first = variants.run(config(**changed), tmp_path, verbose=False)
    whole, small = first.rows
    assert small["params"] <= 0.4 * whole["params"]
    report = json.loads((tmp_path / "steps" / "report.json").read_text())
    assert len(report["settings"]["steps"]) == 2 and report["train_seconds"] > 0
    trained = small["train_seconds_mean"] - whole["train_seconds_mean"]
    assert trained > report["train_seconds"]  # what followed the last step is counted, too
    assert (tmp_path / "steps" / "step_1" / "model.keras").exists()
    for name in ("variant.json", "model.tflite"):  # killed after the compression
        (tmp_path / "steps" / name).unlink()
    again = variants.run(config(**changed), tmp_path, verbose=False)
    assert again.rows[1]["train_seconds_mean"] == pytest.approx(small["train_seconds_mean"])
