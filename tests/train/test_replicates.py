"""What a row says of several replicates of one training."""

import statistics

import keras
import pytest

from tfeffi import data, methods, models
from tfeffi.train import Settings, experiment, fit


def test_what_differs_between_replicates_has_a_mean_and_a_spread():
    keras.utils.set_random_seed(0)
    images = data.load("fashion_mini", "train[:100]")
    prune = {"ratio": 0.5, "interval": 1, "relative": True, "threshold": 0.95}
    trained = [
        fit(
            models.build("mnist_classifier", width_multiplier=0.25), images,
            settings=Settings(epochs=2, batch_size=50), verbose=False,
            methods=[methods.build("prune_train", **prune)] if pruned else [],
        )
        for pruned in (False, True)
    ]  # fmt: skip
    row = experiment.measure(trained, data.load("fashion_mini", "test[:50]"), {})
    macs = [made.train_macs for made in trained]
    assert macs[1] < macs[0] and row["train_macs"] == statistics.fmean(macs)
    assert row["train_macs_std"] == pytest.approx(statistics.stdev(macs))
    assert row["macs_std"] > 0 < row["params_std"] and row["weight_bytes"] == 4 * row["params"]
    assert row["epochs"] == 2 and "epochs_std" not in row
    alike = experiment.measure(trained[:1] * 2, data.load("fashion_mini", "test[:50]"), {})
    assert isinstance(alike["macs"], int) and not {"macs_std", "params_std"} & alike.keys()
