"""What results/backends.json shows, and that its benchmark compares the same step."""

import pathlib
import sys

import numpy as np
import pytest

from benchmarks import backends
from tfeffi.errors import BadInput
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "backends.json"
SHAPE = (8, 1, 4, 1)


def rows():
    return {row["name"]: row for row in Result.read(RESULT).rows}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    paths, _ = backends.saved(*SHAPE[:2], tmp_path_factory.mktemp("network"))
    rng = np.random.default_rng(0)
    return paths["float32"], rng.integers(0, 256, (4, 32, 32, 3), "uint8"), rng.integers(0, 10, 4)


@pytest.fixture(scope="module")
def losses(network):
    stock = backends.Stock(*network, batch=4, jit=False)
    return [stock.step() for _ in range(3)]


# ---------------------------------------------------------------- the benchmark


def test_our_loop_takes_the_step_of_fit(network, losses):
    ours = backends.Ours(*network, batch=4, precision="float32")
    found = [ours.step() for _ in range(3)]
    assert backends.same_step("tfeffi", found, losses, "float32") < 2e-3


def test_a_step_without_momentum_is_noticed(network, losses, monkeypatch):
    monkeypatch.setattr(backends, "MOMENTUM", 0.0)
    other = backends.Stock(*network, batch=4, jit=False)
    found = [other.step() for _ in range(3)]
    assert found[:2] == pytest.approx(losses[:2], rel=1e-4)
    for precision in backends.TOLERANCE:
        with pytest.raises(BadInput, match="does not take the step of tensorflow float32"):
            backends.same_step("other", found, losses, precision)


def test_a_loss_that_is_no_number_is_not_the_same():
    with pytest.raises(BadInput):
        backends.same_step("other", [1.0, float("nan")], [1.0, 0.9], "float32")


def test_processes_answer_in_turns():
    name = "tensorflow float32, no jit"
    candidates = {backends.STOCK: (sys.executable, "tensorflow", "float32", False)}
    (row,) = backends.rows("toy", candidates, SHAPE, rounds=2)
    assert row["name"] == f"toy {backends.STOCK}" and row["n"] == 2 and row["loss_gap"] == 0
    assert row["speedup"] == 1 and row["q1_step_ms"] <= row["step_ms"] <= row["q3_step_ms"]
    assert row["step_macs"] == 3 * 4 * row["macs"] and row["peak_memory_mb"] > 100
    assert name in backends.wanted("width 16", None)


def test_without_another_python_its_backends_are_left_out():
    for python, expected in ((None, {"tensorflow", "tfeffi"}), ("p", {"jax", "torch"})):
        chosen = {one[1] for one in backends.wanted("small", python).values()}
        assert expected <= chosen and ("jax" in chosen) == (python is not None)


def test_a_python_without_torch_is_one_line():
    with pytest.raises(BadInput, match=r"the process of torch ended: .*[Tt]orch.*needs keras, jax"):
        backends.Candidate(sys.executable, "torch", path="", batch=1, burst=1, precision="float32")


def test_a_python_that_is_none():
    with pytest.raises(BadInput, match='--python="/no/python" does not run: No such file'):
        backends.Candidate("/no/python", "torch")


# ---------------------------------------------------------------- the result


def test_every_backend_is_there_in_every_size_and_precision():
    found = rows()
    for size in backends.SIZES:
        for name in backends.wanted(size, "python"):
            assert f"{size} {name}" in found
    assert {row["keras_version"] for row in found.values()} == {"3.15.1"}


def test_all_took_the_same_step():
    found = rows()
    for row in found.values():
        reference = found[row["ratio_to"]]["losses"]
        gap = backends.same_step(row["name"], row["losses"], reference, row["precision"])
        assert gap == pytest.approx(row["loss_gap"])


def test_figures_belong_together():
    for row in rows().values():
        assert row["n"] >= 5 and row["q1_step_ms"] <= row["step_ms"] <= row["q3_step_ms"]
        assert row["step_macs"] == 3 * row["batch_size"] * row["macs"]
        assert row["ratio_to"].endswith(backends.STOCK)


def test_no_step_of_ours_is_slower_than_fit_on_tensorflow_in_the_same_precision():
    found = rows()
    for name, row in found.items():
        if row["backend"] == "tfeffi":
            stock = found[name.replace("tfeffi", "tensorflow")]
            assert row["step_ms"] < stock["step_ms"]
