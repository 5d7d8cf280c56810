"""Growing the batch: the noise scale is that of the decaying schedule, in fewer steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.cases import convnet, images
from tfeffi import methods
from tfeffi.analysis.noise_scale import noise_scale
from tfeffi.errors import BadInput
from tfeffi.methods.batch_growth import grown, rate_factor
from tfeffi.train import Settings, fit

STEPS = {"name": "step", "milestones": (1, 2, 3), "factor": 0.5}


def trained(schedule=STEPS, epochs=5, examples=960, chosen=None):
    settings = Settings(
        epochs=epochs, batch_size=16, learning_rate=0.01, schedule=schedule,
        optimizer={"name": "sgd", "momentum": 0.9},
    )  # fmt: skip
    grow = methods.build("batch_growth", **(chosen or {}))
    return fit(
        convnet(norm=False), images(examples), settings=settings, methods=[grow], verbose=False
    )


def test_the_batch_grows_until_its_limit_then_the_rate_decays():
    made = trained(chosen={"max_batch": 64})
    rows = made.history
    assert [row["batch_size"] for row in rows] == [16, 32, 64, 64, 64]
    decayed = [0.01 * 0.5 ** min(epoch, 3) for epoch in range(5)]
    wanted = [noise_scale(rate, 960, 16, 0.9) for rate in decayed]
    np.testing.assert_allclose([row["noise_scale"] for row in rows], wanted, rtol=1e-4)
    rates = [row["learning_rate"] for row in rows]
    np.testing.assert_allclose(rates[:3], 0.01, rtol=0.06)  # of a twentieth and less of the images
    assert rates[3] == pytest.approx(rates[2] / 2, rel=1e-5)  # at the limit it decays
    assert made.train_macs == 3 * 5 * 960 * (8 * 8 * 9 * 6 + 8 * 8 * 6 * 4)


def test_the_limit_is_a_tenth_of_the_images():
    assert [row["batch_size"] for row in trained().history] == [16, 32, 64, 96, 96]


@given(
    examples=st.integers(1000, 10**6), first=st.integers(1, 64), times=st.integers(0, 8),
    factor=st.floats(0.1, 0.9), multiple=st.sampled_from([1, 2, 4]), limit=st.integers(1, 900),
)  # fmt: skip
def test_rate_and_batch_have_the_noise_of_the_schedule(
    examples, first, times, factor, multiple, limit
):
    first *= multiple
    batch = grown(first, factor, times, limit, multiple)
    assert first <= batch <= max(first, limit) and batch % multiple == 0
    decayed = 0.1 * factor**times
    rate = decayed * rate_factor(examples, first, batch)
    assert noise_scale(rate, examples, batch) == pytest.approx(
        noise_scale(decayed, examples, first)
    )
    if batch * 50 < examples and multiple == 1 and limit > first / factor**times:
        assert rate == pytest.approx(0.1, rel=0.02 + 1 / first)  # the rate stays: the batch grows


@pytest.mark.parametrize("times", [0, 1, 3])
def test_it_is_multiplied_as_often_as_the_rate_would_be_divided(times):
    assert grown(128, 0.2, times, 10**6) == 128 * 5**times


def test_steps_that_float16_skips_do_not_part_the_batch_from_the_rate():
    """The schedule decays where the batch grows, though the optimizer has counted fewer steps."""
    rates = []

    class Rates(methods.Method):
        def on_model(self, run):
            run.loss_scale.scale.assign(2.0**24)

        def on_epoch_end(self, run):
            rates.append(run.learning_rate_at(run.updates))  # of the next step

    settings = Settings(
        epochs=2, batch_size=16, learning_rate=0.01, precision="mixed_float16",
        schedule={"name": "step", "milestones": (1,), "factor": 0.5},
    )  # fmt: skip
    chosen = [methods.build("batch_growth"), Rates()]
    made = fit(convnet(), images(960), settings=settings, methods=chosen, verbose=False)
    assert made.history[0]["skipped_steps"] > 2
    assert rates[0] == pytest.approx(0.01 * 0.5 * rate_factor(960, 16, 32), rel=1e-5)


def test_behind_a_growth_that_leaves_the_rate_alone_it_acts():
    growth = methods.build("net2net", epochs=[1], widen=1.5)
    settings = Settings(epochs=3, batch_size=16, schedule=STEPS)
    both = [growth, methods.build("batch_growth")]
    rows = fit(convnet(), images(960), settings=settings, methods=both, verbose=False).history
    assert rows[0]["batch_size"] == 16 and rows[-1]["batch_size"] > 16


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("switch_optimizer", {"epoch": 1, "optimizer": {"name": "sgd"}, "learning_rate": 0.1}),
        ("net2net", {"epochs": [1], "widen": 1.5, "learning_rate_factor": 0.1}),
    ],
)
def test_behind_what_changes_the_rate_its_noise_would_be_of_the_next_epoch(name, own):
    settings = Settings(epochs=2, batch_size=16, schedule=STEPS)
    with pytest.raises(BadInput, match=f"batch_growth: list it ahead of {name}"):
        fit(convnet(), images(960), settings=settings,
            methods=[methods.build(name, **own), methods.build("batch_growth")])  # fmt: skip


def test_a_batch_that_is_at_its_limit_is_noticed():
    with pytest.warns(methods.NoEffectWarning, match="batch_size=16 is already at the limit of 9"):
        rows = trained(examples=96, epochs=2).history
    assert [row["batch_size"] for row in rows] == [16, 16]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"schedule": {"name": "cosine"}}, 'schedule "cosine" has no steps to grow at'),
        ({"schedule": {**STEPS, "milestones": (1.5,)}}, "milestones=.* must be whole epochs"),
        ({"schedule": {**STEPS, "milestones": 5}}, "milestones=5 must be whole epochs"),
        ({"schedule": {**STEPS, "milestones": ("a",)}}, "milestones=.* must be whole epochs"),
        (
            {"schedule": {**STEPS, "milestones": (float("nan"),)}},
            "milestones=.* must be whole epochs",
        ),
        ({"schedule": {**STEPS, "factor": "0.5"}}, "factor='0.5' must be in"),
        ({"examples": 16}, "batch_size=16 is all 16 training images"),
        ({"schedule": {**STEPS, "factor": 2.0}}, r"factor=2.0 must be in \(0, 1\)"),
        ({"chosen": {"max_batch": 960}}, "max_batch=960 must be below the 960 training images"),
        ({"chosen": {"max_batch": 0}}, "max_batch=0 must be a whole number of at least 1"),
        ({"chosen": {"max_batch": 64.0}}, "max_batch=64.0 must be a whole number"),
    ],
)
def test_settings_that_do_not_fit(arguments, words):
    with pytest.raises(BadInput, match=f"batch_growth: .*{words}"):
        trained(**arguments)
