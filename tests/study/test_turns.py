"""Candidates take turns in order; medians and quartiles are of single rounds."""

import time

import pytest

from tfeffi.study.turns import interleaved, quartiles, speedup


def test_each_takes_its_turn_in_every_round():
    order, said = [], []
    turns = {name: (lambda name=name: order.append(name)) for name in "abc"}
    found = interleaved(turns, 2, said.append)
    assert order == list("abcabc") and len(said) == 2
    assert [len(found[name]) for name in "abc"] == [2, 2, 2]


def test_the_clock_is_the_turn_s_own():
    found = interleaved({"slow": lambda: time.sleep(0.05), "fast": lambda: None}, 2, str)
    assert min(found["slow"]) >= 0.05 > max(found["fast"])


def test_median_and_quartiles():
    found = quartiles("step_ms", [5, 1, 4, 2, 3])
    assert found == {"step_ms": 3, "q1_step_ms": 2.0, "q3_step_ms": 4.0}
    assert quartiles("step_ms", [7]) == {"step_ms": 7, "q1_step_ms": 7, "q3_step_ms": 7}


def test_speedup_is_round_by_round():
    assert speedup([1, 2, 4], [2, 4, 8]) == pytest.approx(
        {"speedup": 2, "q1_speedup": 2, "q3_speedup": 2}
    )
    assert speedup([4.0], [1.0])["speedup"] == 0.25
