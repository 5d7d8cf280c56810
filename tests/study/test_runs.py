"""Reading runs: which rows there are, what they are compared with, and which are on the front."""

import json

import pytest

from tests.study import samples
from tfeffi.errors import BadInput
from tfeffi.study import runs
from tfeffi.study.results import Result, ResultError


def names(entries):
    return [entry.label for entry in entries]


def test_a_run_folder_is_its_rows_and_its_training_curves(tmp_path):
    study = runs.load([samples.run(tmp_path / "demo")])
    assert names(study.entries) == [row[0] for row in samples.VARIANTS]
    assert [curve.name for curve in study.curves] == ["baseline", "pruned"]
    assert study.curves[1].values("loss") == [
        (1, 2.0),
        (2, 1.0),
        (3, pytest.approx(2 / 3)),
        (4, 0.5),
    ]
    assert study.notes == []


def test_fronts_in_two_and_three_dimensions(tmp_path):
    study = runs.load([samples.run(tmp_path / "demo")])
    assert [names(front) for front in study.fronts("p50_ms")] == [samples.LATENCY_FRONT]
    assert [names(front) for front in study.fronts("bytes")] == [samples.BYTES_FRONT]
    (deep,) = study.fronts("p50_ms", "bytes")
    assert names(deep) == ["pruned_int8", "int8", "pruned", "float16"]


def test_ratios_are_to_the_row_named_else_to_the_first(tmp_path):
    result = samples.result()
    result.add_row(name="alone", bytes=660_000)
    result.add_row(name="other", bytes=100, ratio_to="int8")
    study = runs.of(result)
    by_name = {entry.label: entry for entry in study.entries}
    assert by_name["float16"].ratio("bytes") == pytest.approx(1_320_000 / 664_000)
    assert by_name["alone"].ratio("bytes") == 2.0
    assert by_name["other"].ratio("bytes") == 3410.0
    assert by_name["baseline"].is_baseline and not by_name["float16"].is_baseline


def test_two_runs_have_their_names_before_rows_and_curves_that_they_share(tmp_path):
    samples.run(tmp_path / "a", "wide")
    samples.run(tmp_path / "b", "narrow")
    study = runs.load([tmp_path / "a", tmp_path / "b"])
    assert study.names == ["wide", "narrow"]
    assert names(study.entries)[0] == "wide/baseline"
    assert [c.name for c in study.curves][2:] == ["narrow/baseline", "narrow/pruned"]
    samples.run(tmp_path / "c", "wide")
    assert runs.load([tmp_path / "a", tmp_path / "c"]).names == ["a", "c"]


def test_only_what_was_measured_alike_is_on_one_front(tmp_path):
    here, there = samples.result("here"), samples.result("there")
    there.hardware = {**there.hardware, "cpu": "another"}
    here.write(tmp_path / "here.json")
    there.write(tmp_path / "there.json")
    study = runs.load([tmp_path / "here.json", tmp_path / "there.json"])
    assert len(study.fronts("p50_ms")) == 2
    assert len(study.fronts("train_seconds_mean")) == 2
    assert len(study.fronts("bytes")) == 1  # a byte is a byte anywhere


@pytest.mark.parametrize("change", [{"threads": 2}, {"device": "phone"}, {"dataset": "other"}])
def test_other_threads_devices_or_data_are_another_front(change):
    result = samples.result()
    result.rows[1] |= change
    assert len(runs.of(result).fronts("p50_ms")) == 2


def test_rows_that_lack_a_figure_are_told_apart():
    result = samples.result()
    result.add_row(name="untimed", accuracy_mean=0.99, bytes=1)
    study = runs.of(result)
    assert names(study.lacking(runs.ACCURACY, "p50_ms")) == ["untimed"]
    assert "untimed" not in names(study.fronts("p50_ms")[0])
    assert names(study.fronts("bytes")[0]) == ["untimed"]


def test_a_broken_training_curve_is_noted_and_left_out(tmp_path):
    folder = samples.run(tmp_path / "demo")
    (folder / "pruned" / "history.json").write_text("{")
    (folder / "baseline" / "history.json").write_text(json.dumps({"rows": [1, 2]}))
    study = runs.load([folder])
    assert study.curves == []
    assert study.notes == [
        f"The training curve of {name} cannot be read and is left out."
        for name in ("baseline", "pruned")
    ]


def test_a_curve_leaves_out_epochs_without_the_figure():
    curve = runs.Curve("x", [{"epoch": 1, "loss": 1.0}, {"epoch": 2}, {"epoch": 3, "loss": None}])
    assert curve.values("loss") == [(1, 1.0)]


def test_a_path_that_holds_no_run_is_bad_input_with_a_way_out(tmp_path):
    samples.run(tmp_path / "runs" / "demo")
    with pytest.raises(BadInput, match=r'there is no run ".*demos"; did you mean "demo"'):
        runs.load([tmp_path / "runs" / "demos"])
    with pytest.raises(BadInput, match=r"holds no result.json; its folders have: .*runs/demo"):
        runs.load([tmp_path / "runs"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"holds no result.json; has the run finished"):
        runs.load([tmp_path / "empty"])
    with pytest.raises(BadInput, match="is given twice"):
        runs.load([tmp_path / "runs" / "demo"] * 2)
    with pytest.raises(BadInput, match="no runs"):
        runs.load([])


def test_a_broken_or_empty_result_is_bad_input(tmp_path):
    folder = samples.run(tmp_path / "demo")
    (folder / "result.json").write_text("{")
    with pytest.raises(ResultError, match=r"result.json.* is not JSON"):
        runs.load([folder])
    Result.new("x").write(folder / "result.json")
    with pytest.raises(BadInput, match="has no rows"):
        runs.load([folder])
