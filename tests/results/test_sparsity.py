"""What results/sparsity.json shows: zeros and shared values bring zipped bytes, and no time."""

import pathlib

import pytest

from tfeffi.study.results import Result

RESULT = Result.read(pathlib.Path(__file__).parents[2] / "results" / "sparsity.json")
DENSE = RESULT.row("dense")
ZEROS = [row for row in RESULT.rows if row["name"].endswith("% zero") and "n" in row]
STORED = [row for row in RESULT.rows if "sparse_tensors" in row and "n" in row]
VALUES = [row for row in RESULT.rows if "bits" in row]
TIMED = pytest.mark.skipif("p50_ms" not in DENSE, reason="no times in this file")


def test_the_rows_that_were_asked_for():
    assert [row["sparsity"] for row in ZEROS] == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    assert [row["bits"] for row in VALUES] == [8, 7, 6, 5, 4, 3, 2]
    for row in (DENSE, *ZEROS, *VALUES):
        assert row["n"] == DENSE["n"] >= 2 and 0 < row["accuracy_mean"] < 1


def test_files_stay_as_large_and_zip_smaller():
    for row in (*ZEROS, *VALUES):
        assert abs(row["bytes"] / DENSE["bytes"] - 1) < 0.001
        assert row["zip_bytes"] < DENSE["zip_bytes"]
    for rows in (ZEROS, VALUES):
        zipped = [row["zip_bytes"] for row in rows]
        assert zipped == sorted(zipped, reverse=True)
    assert RESULT.row("90% zero")["zip_bytes"] * 4 < DENSE["zip_bytes"]


def test_sparse_tensors_make_the_file_itself_smaller():
    assert RESULT.row("90% zero, sparse tensors")["bytes"] * 4 < DENSE["bytes"]
    for row, dense in zip(STORED, ZEROS, strict=True):
        assert row["sparsity"] == dense["sparsity"] and row["bytes"] < dense["bytes"]


def test_zeros_cost_little_accuracy_where_they_are_tuned():
    for row in ZEROS:
        if row["sparsity"] <= 0.9:
            assert DENSE["accuracy_mean"] - row["accuracy_mean"] < 0.005
    most = RESULT.row("99% zero")
    assert most["untuned_accuracy_mean"] + 0.05 < most["accuracy_mean"]


def test_sixteen_values_are_enough():
    assert DENSE["accuracy_mean"] - RESULT.row("16 values")["accuracy_mean"] < 0.005
    assert RESULT.row("16 values")["theoretical_bytes"] * 7 < DENSE["bytes"]


@TIMED
def test_litert_is_not_faster_with_zeros():
    """Neither on the classifier, nor on the one shape of network it documents sparse inference for."""
    for row in RESULT.rows:
        if "p50_ms" in row:
            assert 0.85 < row["speedup"] < 1.15, row["name"]


@TIMED
def test_the_sparse_product_of_tensorflow_pays_at_a_few_percent_and_less_in_batches():
    titles = [row for row in RESULT.rows if "best_density" in row]
    assert len(titles) == 6
    for row in titles:
        assert row.get("break_even_density", 0) < (0.1 if row["height"] == 4096 else 0.3), row[
            "name"
        ]
    large = [row for row in titles if row["height"] == 4096]
    even = [row["break_even_density"] for row in sorted(large, key=lambda row: row["columns"])]
    assert even[-1] < even[0] / 2
