"""Two replicas of a strategy take the steps of one."""

import json
import subprocess
import sys

import pytest


def test_two_replicas_take_the_steps_of_one():
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.replicas"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["float32 two"] == pytest.approx(found["float32 one"], rel=1e-4, abs=1e-6)
    assert found["mixed_float16 two"] == pytest.approx(
        found["mixed_float16 one"], rel=2e-2, abs=2e-3
    )
