"""The experiments on activation-based pruning, end to end on a few examples."""

import numpy as np

from tfeffi.study import experiments
from tfeffi.study.experiments import activation_autoencoder, activation_toy

TOY = {
    "name": "activation_toy", "experiment": "activation_toy", "seeds": (0, 1),
    "units": 60, "samples": 4000, "test_samples": 500,
    "ranges": {"U(-1,1)": {"low": -1.0, "high": 1.0, "variance": 2 / 3}},
    "train": {"epochs": 3, "batch_size": 1000, "learning_rate": 0.15, "momentum": 0.3},
    "cycle_epochs": 1,
    "variants": {"vanilla": {}, "combined": {"l1": 1e-4, "min_cycles": 2, "max_cycles": 2}},
    "minimal": {"tolerance": 1e-6, "samples": 200},
}  # fmt: skip

CYCLES = {"kind": "cycles", "cycle_epochs": 1, "max_cycles": 1}
AUTOENCODER = {
    "name": "activation_autoencoder", "experiment": "activation_autoencoder", "seeds": (0,),
    "data": {"name": "fashion_mini", "train": "train[:200]", "test": "test[:200]"},
    "model": {"name": "mnist_autoencoder", "widths": (6, 8, 6), "final_activation": "sigmoid"},
    "train": {
        "batch_size": 100, "learning_rate": 0.01, "optimizer": {"name": "adam"},
        "loss": "reconstruction",
    },
    "first_epochs": 1,
    "networks": {
        "ours": {
            "kind": "widths", "importance": "mean_activation",
            "steps": ({"widths": (2, 4, 2), "epochs": 1},),
        },
        "outliers": {**CYCLES, "variant": "outliers"},
    },
    "timing": False, "clock": {"rounds": 1, "min_runs": 2, "min_seconds": 0.0},
}  # fmt: skip


def test_the_toy_goes_from_dying_units_to_the_optimum(tmp_path):
    result = experiments.run(TOY, tmp_path, verbose=False)
    first, vanilla = result.row("U(-1,1) first cycle"), result.row("U(-1,1) vanilla")
    assert 0 < first["dead_median"] < 60 and len(first["dead_each"]) == 2
    assert vanilla["units_each"] == [60 - dead for dead in first["dead_each"]]
    minimal = result.row("U(-1,1) vanilla, then merged, removed, refitted")
    assert minimal["units_each"] == [1, 1] and max(minimal["test_mse_each"]) <= 1e-6
    activation_toy.draw(result, tmp_path / "toy.png")
    assert (tmp_path / "toy.png").stat().st_size > 10_000


def test_leaving_out_the_dead_changes_no_step():
    x = activation_toy.inputs(-1, 1, 4000, 0)
    model = activation_toy.network(40, 0)
    activation_toy.train(model, x, TOY["train"], 2)
    living = activation_toy.alive(model, x)
    assert 0 < len(living) < 40
    small = activation_toy.reindex(model, {"hidden": living})[0]
    for one in (model, small):
        activation_toy.train(one, x, TOY["train"], 3)
    assert np.abs(model(x) - small(x)).max() < 1e-4


def test_the_autoencoder_is_trained_once_and_timed_when_asked_for(tmp_path):
    result = experiments.run(AUTOENCODER, tmp_path, verbose=False)
    assert result.row("ours")["widths"] == [[2, 4, 2]]
    assert result.row("ours")["macs_mean"] < result.row("unpruned")["macs_mean"]
    assert result.row("outliers")["n"] == 1 and "p50_ms" not in result.row("unpruned")
    cells = sorted((tmp_path / "cells").iterdir())
    result = experiments.run({**AUTOENCODER, "timing": True}, tmp_path, verbose=False)
    assert len(set((tmp_path / "cells").iterdir()) - set(cells)) == 1
    assert result.row("ours")["p50_ms"] > 0 and "faster" in result.row("ours")
    activation_autoencoder.draw(result, tmp_path / "auto.png")
    assert (tmp_path / "auto.png").stat().st_size > 10_000


def test_images_survive_packing():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    text = activation_autoencoder.pack(images)
    np.testing.assert_array_equal(activation_autoencoder.unpack(text), images[..., 0])
