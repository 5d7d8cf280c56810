"""kill -9 at any step, start again: the same weights, bit for bit, as without the kill."""

import json
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.train.cases import convnet, images
from tfeffi.errors import BadInput
from tfeffi.train import Settings, fit


def train(workdir, kill_at=None):
    command = [sys.executable, "-m", "tests.train.killed", str(workdir)]
    return subprocess.run(
        command + ([str(kill_at)] if kill_at else []), capture_output=True, text=True, check=False
    )


def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(whole).returncode == 0
    # 6 steps an epoch: in the middle of an epoch, at an epoch's last step, then right after resuming
    for kill_at in (4, 8, 1):
        assert train(broken, kill_at).returncode == -signal.SIGKILL
        assert (broken / "checkpoint.npz").exists() or kill_at == 4
        assert not (broken / "model.keras").exists()
    finished = train(broken)
    assert finished.returncode == 0, finished.stderr[-2000:]
    a, b = (keras.models.load_model(folder / "model.keras") for folder in (whole, broken))
    for x, y in zip(a.variables, b.variables, strict=True):
        np.testing.assert_array_equal(np.array(x), np.array(y))
    kept = [json.loads((folder / "history.json").read_text())["rows"] for folder in (whole, broken)]
    for x, y in zip(*kept, strict=True):
        for key in set(x) - {"seconds", "images_per_second"}:
            assert x[key] == y[key], key
    assert kept[0][-1]["counted"] == 4


@pytest.mark.parametrize("content", [b"", b"PK not a zip", b"\x93NUMPY"])
def test_an_unreadable_checkpoint_says_so(tmp_path, content):
    (tmp_path / "checkpoint.npz").write_bytes(content)
    with pytest.raises(BadInput, match="cannot be read"):
        fit(convnet(), images(), settings=Settings(epochs=1, batch_size=32), workdir=tmp_path,
            verbose=False)  # fmt: skip
