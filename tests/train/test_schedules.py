"""Schedules against their formulas, step by step."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfeffi.errors import BadInput
from tfeffi.train import schedules

PER_EPOCH = 10


def values(schedule, epochs=10, rate=0.4):
    made = schedules.build(schedule, rate, epochs, PER_EPOCH)
    return np.array([float(made(s)) for s in range(epochs * PER_EPOCH)])


def test_constant():
    assert set(values({"name": "constant"})) == {np.float32(0.4)}


def test_step_falls_at_the_first_step_of_each_milestone():
    lr = values({"name": "step", "milestones": (4, 8), "factor": 0.5})
    np.testing.assert_allclose(lr[[0, 39, 40, 79, 80, 99]], [0.4, 0.4, 0.2, 0.2, 0.1, 0.1])


def test_cosine():
    lr = values({"name": "cosine", "final": 0.1})
    t = np.arange(100) / 100
    np.testing.assert_allclose(lr, 0.4 * (0.1 + 0.9 * 0.5 * (1 + np.cos(math.pi * t))), rtol=1e-4)


def test_warm_restarts_are_sgdr():
    lr = values({"name": "warm_restarts", "first_epochs": 2, "multiply": 2.0}, epochs=14)
    starts = [0, 20, 60]
    np.testing.assert_allclose(lr[starts], 0.4, rtol=1e-5)
    np.testing.assert_allclose(lr[20 + 13], 0.2 * (1 + math.cos(math.pi * 13 / 40)), rtol=1e-4)


def test_triangle_rises_to_its_peak_and_falls_to_its_end():
    lr = values({"name": "triangular", "peak_at": 0.2, "start": 0.25, "final": 0.1})
    assert lr[0] == pytest.approx(0.1) and lr.argmax() == 20 and lr[20] == pytest.approx(0.4)
    np.testing.assert_allclose(np.diff(lr[:21]), 0.3 / 20, rtol=1e-4)
    np.testing.assert_allclose(np.diff(lr[20:]), -0.36 / 80, rtol=1e-4)


def test_cycles_repeat_the_triangle():
    lr = values({"name": "triangular", "cycles": 4, "peak_at": 0.5})
    np.testing.assert_allclose(lr[:25], lr[25:50])


def test_warm_up_multiplies_the_schedule_it_stands_before():
    plain = values({"name": "cosine"})
    warm = values({"name": "cosine", "warmup_epochs": 0.5, "warmup_from": 0.2})
    np.testing.assert_allclose(warm[:5] / plain[:5], [0.36, 0.52, 0.68, 0.84, 1.0], rtol=1e-5)
    np.testing.assert_allclose(warm[5:], plain[5:])


@settings(max_examples=25)
@given(
    name=st.sampled_from(["constant", "cosine", "triangular", "warm_restarts"]),
    warmup=st.floats(0, 3),
)
def test_never_above_the_peak_never_negative_and_survives_serialization(name, warmup):
    made = schedules.build({"name": name, "warmup_epochs": warmup}, 0.1, 4, 5)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    for step in range(0, 20, 3):
        assert -1e-9 <= float(made(step)) <= 0.1 + 1e-7
        assert float(made(step)) == float(twin(step))


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"name": "cosin"}, '"cosine"'),
        ({"name": "cosine", "finall": 0.1}, '"final"'),
        ({"name": "cosine", "warmup_epochs": 11}, "warmup_epochs=11"),
        ({"name": "cosine", "warmup_epochs": 1, "warmup_from": "0.1"}, "warmup_from='0.1'"),
        ({"name": "step", "milestones": (8, 4)}, "milestones"),
        ({"name": "triangular", "peak_at": 0.0}, "peak_at"),
        ({"name": "warm_restarts", "first_epochs": 0}, "first_epochs"),
        ({"name": "warm_restarts", "multiply": 0.5}, "multiply=0.5 must be at least 1"),
    ],
)
def test_bad_schedules_say_what_is_wrong(schedule, words):
    with pytest.raises(BadInput, match=words):
        values(schedule)
