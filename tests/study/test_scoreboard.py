"""The scoreboard as an experiment: rows of exported files, networks made from others, cells kept."""

import importlib.util
import pathlib

import numpy as np
import pytest

from tfeffi import bench, compress, data, files
from tfeffi.errors import BadInput
from tfeffi.study import experiments
from tfeffi.study.experiments import Cells, scoreboard
from tfeffi.train import Settings

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "mlperf_tiny.py"
LOOSE = {"min_agreement": 0.0, "tolerance": 10.0}  # next to nothing is learned
EXPORTS = {"int8": {"quantize": "int8", "integer_io": True, **LOOSE}}


def config(folder):
    return {
        "name": "tiny",
        "experiment": "scoreboard",
        "data": {"name": "fashion_mini", "train": "train[:256]", "test": "test[:100]"},
        "train": {"epochs": 1, "batch_size": 64, "learning_rate": 0.05},
        "exports": EXPORTS,
        "networks": {
            "reference": {
                "model": {"name": "resnet_short", "widths": (8, 16), "repeats": (0, 1)},
                "seeds": (0, 1, 2),
                "exports": {**EXPORTS, "float32": {}},
                "keep": {"int8": "kept.tflite"},
            },
            "pruned": {
                "base": "reference", "seeds": (0,), "train": {"epochs": 2, "augment": {"crop": 1}},
                "compress": {"method": "prune", "importance": "l2", "budget": {"macs": 0.5}},
                "teacher": {"network": "reference", "export": "int8", "seeds": (0, 1)},
            },
            "student": {
                "model": {"name": "resnet_short", "widths": (8, 8), "repeats": (0, 0)},
                "seeds": (0,), "train": {"augment": {"crop": 1}},
                "teacher": {"network": "reference", "export": "int8", "seeds": (0, 1)},
            },
        },
        "clock": {"rounds": 2, "min_runs": 4, "min_seconds": 0.0, "warmup_runs": 1},
    }  # fmt: skip


def taught_by(**other):
    teacher = {"network": "reference", "export": "int8", "seeds": (0,), **other}
    return {"model": {"name": "resnet_short"}, "seeds": (0,), "teacher": teacher}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scoreboard")
    return folder, experiments.run(config(folder), folder / "work", verbose=False)


def test_a_row_for_each_file_held_against_the_first(made):
    rows = made[1].rows
    names = ["reference, int8", "reference, float32", "pruned, int8", "student, int8"]
    assert [row["name"] for row in rows] == names
    assert [row["n"] for row in rows] == [3, 3, 1, 1] and "accuracy_std" not in rows[2]
    assert all(row["ratio_to"] == names[0] and row["p50_ms"] > 0 for row in rows)
    assert rows[0]["bytes"] < rows[1]["bytes"] and rows[2]["bytes"] < rows[0]["bytes"]
    assert rows[2]["macs"] <= 0.5 * rows[0]["macs"]


def test_what_bases_and_teachers_cost_counts_once(made):
    first, _, pruned, student = made[1].rows
    teachers = 2 * first["train_macs_mean"]  # one of them is the base, too
    assert pruned["train_macs_mean"] == teachers + 2 * 256 * 3 * pruned["macs"]
    assert student["train_macs_mean"] == teachers + 256 * 3 * student["macs"]


def test_the_kept_file_is_that_of_the_median_seed(made):
    folder, result = made
    row, kept = result.rows[0], folder / "work" / "kept.tflite"
    assert row["file"] == kept.name and row["sha256"] == files.sha256(kept)
    assert row["bytes"] == kept.stat().st_size
    accuracy = bench.evaluate(kept, data.load("fashion_mini", "test[:100]"))
    assert accuracy == sorted(row["accuracies"])[1]


def test_the_kept_file_goes_where_the_result_goes(made, tmp_path):
    folder, result = made
    experiments.write(result, folder / "work", tmp_path / "tiny.json")
    assert files.sha256(tmp_path / "kept.tflite") == result.rows[0]["sha256"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.tflite", "tiny.json"]


def test_the_teacher_answers_once(made):
    """Its seeds' files, for all views of the augmentation that the student sees."""
    (answers,) = (made[0] / "work" / "answers").iterdir()
    targets = np.load(answers)
    assert targets.shape == (256, 9, 10) and np.allclose(targets.sum(2), 1, atol=1e-2)
    images = data.load("fashion_mini", "train[:256]")
    folder = made[0] / "work" / "files"
    teachers = [next(folder.glob(f"reference_int8_{seed}-*.tflite")) for seed in (0, 1)]
    again = compress.taught(images, teachers, {"crop": 1})
    np.testing.assert_array_equal(again.targets, targets)


def test_nothing_is_done_twice(made):
    folder, result = made
    before = {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("*.json")}
    again = list(scoreboard.measure(config(folder), Cells(folder / "work", verbose=False)))
    assert [row["p50_ms"] for row in again] == [row["p50_ms"] for row in result.rows]
    for path in (folder / "work" / "cells").glob("*.json"):
        assert path.stat().st_mtime_ns == before[path]


def test_another_recipe_of_the_same_name_has_another_file(made):
    folder = made[0] / "work"
    before = {path: files.sha256(path) for path in folder.rglob("*.tflite")}
    asked = config(made[0])
    network = {**asked["networks"]["reference"], "seeds": (0,), "exports": EXPORTS, "keep": {}}
    networks = {"reference": {**network, "train": {"learning_rate": 0.01}}}
    asked = {**asked, "networks": networks, "clock": None}
    assert len(list(scoreboard.measure(asked, Cells(folder, verbose=False)))) == 1
    assert len(list(folder.rglob("*.tflite"))) == len(before) + 1
    assert {path: files.sha256(path) for path in before} == before


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"modle": {}, "seeds": (0,)}, 'unknown key "modle"; did you mean "model"'),
        ({"seeds": (0,)}, 'needs a "model" or a "base"'),
        ({"base": "refrence", "seeds": (0,)}, 'no base "refrence" before it'),
        ({"base": "reference", "seeds": (0, 7)}, "has not all of its seeds"),
        ({"base": "reference", "seeds": (0,), "train": {"epochs": 0}}, "epochs=0"),
        ({"base": "reference"}, 'needs "seeds"'),
        ({"base": "reference", "seeds": (0,), "compress": {"method": "prun"}}, "prune"),
        ({"base": "reference", "seeds": (0,), "exports": {"a": {"quantise": "int8"}}}, "quantize"),
        ({"base": "reference", "seeds": (0,), "exports": {"a": {"quantize": "int7"}}}, "int8"),
        ({"base": "reference", "seeds": (0,), "keep": {"int4": "a.tflite"}}, 'no export "int4"'),
        (
            {"base": "reference", "seeds": (0,), "keep": {"int8": "a/b.tflite"}},
            "must be a file name",
        ),
        ({"base": "reference", "seeds": (0,), "keep": {"int8": "kept.tflite"}}, "of another file"),
        ({"base": "reference", "seeds": (0,), "methods": [{"name": "muon"}]}, "muon"),
        (taught_by(network="referee"), 'no network "referee" before this one'),
        (taught_by(network="wrong"), 'no network "wrong" before this one'),
        (taught_by(seeds=(7,)), r"seeds=\(7,\); give some of \[0, 1, 2\]"),
        (taught_by(seeds=()), r"seeds=\(\); give some"),
        (taught_by(export="int4"), 'no export "int4"; did you mean "int8"'),
        (taught_by(network=["a"]), "no network"),
        (taught_by(alpha=2.0), r"teacher: alpha=2\.0; give the teacher's share"),
        (taught_by() | {"train": {"label_smoothing": 0.1}}, "needs label_smoothing=0 and"),
        (taught_by() | {"teacher": None}, "must be a mapping"),
        (taught_by() | {"exports": {"int8": {"views": "flop"}}}, 'views="flop" is not known'),
        (taught_by(temprature=2.0), "the keys network, export, seeds, temperature, alpha"),
    ],
)
def test_what_cannot_be_made_is_said_first(tmp_path, network, message):
    wrong = config(tmp_path)
    wrong["networks"]["wrong"] = network
    with pytest.raises(BadInput, match=message):
        list(scoreboard.measure(wrong, Cells(tmp_path, verbose=False)))
    assert not any(tmp_path.iterdir())


def test_the_committed_config_can_be_made():
    spec = importlib.util.spec_from_file_location("mlperf_tiny", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plans = scoreboard.plan(module.get_config().to_dict())
    assert all(Settings.from_mapping(one["train"]) for one in plans.values())
    part = scoreboard.plan(module.get_config("ResNet-8,large").to_dict())
    with pytest.raises(BadInput, match='no network "smal"; did you mean "small"'):
        module.get_config("ResNet-8,smal")
    assert part == {name: plans[name] for name in ("ResNet-8", "large")}
