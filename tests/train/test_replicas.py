"""Two replicas of a strategy take the steps of one."""

import json
import subprocess
import sys

import pytest


def replicas(*what):
    """What `tests.train.replicas` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.replicas", *what],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_two_replicas_take_the_steps_of_one():
    found = replicas("steps")
    assert found["float32 two"] == pytest.approx(found["float32 one"], rel=1e-4, abs=1e-6)
    assert found["mixed_float16 two"] == pytest.approx(
        found["mixed_float16 one"], rel=2e-2, abs=2e-3
    )


@pytest.mark.parametrize("layer", ["ghost", "synchronized"])
def test_moving_statistics_have_the_momentum_of_the_settings(layer):
    """A synchronized layer lets the replicas take turns within a forward pass."""
    assert replicas("moving_mean", layer) == [pytest.approx(0.4, abs=1e-4), 0.7]
