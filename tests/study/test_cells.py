"""Cells: measured once, told apart by their arguments; and seeds become a row."""

import pytest

from tfeffi.errors import BadInput
from tfeffi.study import experiments
from tfeffi.study.experiments import Cells, spread


def test_a_cell_is_measured_once(tmp_path):
    calls = []

    def measure(seed):
        calls.append(seed)
        return {"loss": seed / 2}

    cells = Cells(tmp_path, verbose=False)
    assert cells.once("a", measure, seed=1) == {"loss": 0.5}
    assert Cells(tmp_path, verbose=False).once("a", measure, seed=1) == {"loss": 0.5}
    assert cells.once("a", measure, seed=2) == {"loss": 1.0}
    assert calls == [1, 2]


def test_a_cell_that_fails_leaves_nothing(tmp_path):
    def measure():
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        Cells(tmp_path).once("a", measure)
    assert not list(tmp_path.rglob("*.json"))


def test_seeds_become_mean_and_sample_deviation():
    row = spread([{"loss": 1.0, "kind": "a"}, {"loss": 3.0, "kind": "a"}])
    assert row == {"n": 2, "loss_mean": 2.0, "loss_std": pytest.approx(2**0.5)}
    assert spread([{"loss": 1.0}]) == {"n": 1, "loss_mean": 1.0}


def test_an_unknown_experiment_is_named():
    with pytest.raises(BadInput, match='no experiment "nonsense"'):
        experiments.run({"name": "x", "experiment": "nonsense"}, "unused")
