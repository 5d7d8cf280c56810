"""What results/mlperf_tiny.json claims, and the files that lie beside it."""

import importlib.util
import pathlib

import numpy as np
import pytest

from tfeffi import files
from tfeffi.export import litert
from tfeffi.export.flatbuffer import inspect
from tfeffi.study.results import Result

ROOT = pathlib.Path(__file__).parents[2]
RESULT = ROOT / "results" / "mlperf_tiny.json"
HEADLINES = {"small": "small, int8", "large": "large, int8, six views"}


def rows():
    if not RESULT.exists():
        pytest.skip("mlperf_tiny.json is not measured yet")
    return {row["name"]: row for row in Result.read(RESULT).rows}


def test_the_reference_is_the_reference():
    row = rows()["ResNet-8, int8"]
    assert (row["params"], row["macs"]) == (78_666, 12_501_632)
    assert row["dataset"] == "cifar10 test" and row["ratio"] == 1.0
    assert row["bytes"] == pytest.approx(98_496, rel=0.01)  # the published file's


def test_half_the_bytes_in_half_the_time_at_87_percent():
    found, reference = rows()["small, int8"], rows()["ResNet-8, int8"]
    assert found["n"] >= 3 and found["accuracy_mean"] >= 0.870
    assert found["bytes"] <= 49_248 and found["p50_ms"] <= 0.066
    assert found["ratio"] <= 0.5 and found["ratio_to"] == reference["name"]


def test_91_percent_in_256_kilobytes():
    found = rows()["large, int8, six views"]
    assert found["n"] >= 3 and found["accuracy_mean"] >= 0.910 and found["bytes"] <= 256_000


@pytest.mark.parametrize("network", HEADLINES)
def test_the_files_are_those_that_were_measured(network):
    row = rows()[HEADLINES[network]]
    path = RESULT.parent / row["file"]
    assert files.sha256(path) == row["sha256"] and path.stat().st_size == row["bytes"]
    contents = inspect(path)
    assert [t.dtype for t in (*contents.inputs, *contents.outputs)] == ["int8", "int8"]
    assert not contents.float_operators and set(contents.weight_types) <= {"int8", "int32"}
    outputs = next(iter(litert.run(path, np.zeros((2, 32, 32, 3), np.float32)).values()))
    assert outputs.shape == (2, 10)


def test_every_network_of_the_config_is_there():
    spec = importlib.util.spec_from_file_location("config", ROOT / "configs" / "mlperf_tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {row["network"] for row in rows().values()} == set(module.get_config().networks)
