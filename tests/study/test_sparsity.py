"""The experiment on zeros and shared values, end to end on a few images."""

import numpy as np
import pytest

from tfeffi import compress, models
from tfeffi.export import litert
from tfeffi.study import experiments
from tfeffi.study.experiments import sparsity
from tfeffi.study.experiments.sparsity import (
    break_even_density,
    count_sparse_tensors,
    pointwise_network,
    time_products,
    with_sparse_tensors,
)

TRAIN = {"epochs": 1, "batch_size": 100, "learning_rate": 0.02}
TUNE = {"split": "train[:200]", "settings": TRAIN}
CONFIG = {
    "name": "sparsity", "experiment": "sparsity", "seeds": (0,),
    "data": {"name": "fashion_mini", "train": "train[:200]", "test": "test[:100]"},
    "train": TRAIN, "tune": {"sparsity": TUNE, "bits": TUNE},
    "sparsities": (0.9,), "bits": (8, 2), "untuned_bits": (8,), "pointwise_sparsities": (0.8,),
    "timing": True, "clock": {"rounds": 1, "min_runs": 2, "min_seconds": 0.0},
    "shapes": ((64, 32),), "columns": (4,), "densities": (0.5, 0.01), "rounds": 2,
}  # fmt: skip


@pytest.mark.slow
def test_zeros_and_shared_values_from_trained_classifiers(tmp_path):
    config = {**CONFIG, "trained_workdir": str(tmp_path / "trained")}
    result = experiments.run(config, tmp_path / "work", verbose=False)
    dense, zeros, values = (result.row(name) for name in ("dense", "90% zero", "4 values"))
    assert zeros["n"] == values["n"] == 1 and zeros["ratio_to"] == "dense"
    assert abs(zeros["bytes"] - dense["bytes"]) < 1000 > abs(values["bytes"] - dense["bytes"])
    assert zeros["zip_bytes"] < 0.3 * dense["zip_bytes"] > values["zip_bytes"]
    sparse = result.row("90% zero, sparse tensors")
    assert sparse["bytes"] < 0.3 * zeros["bytes"] and sparse["sparse_tensors"] >= 2
    assert "untuned_accuracy_mean" in values and "untuned_accuracy_mean" not in result.row(
        "256 values"
    )
    assert values["theoretical_bytes"] < values["bytes"] / 10
    tuned = models.load(tmp_path / "work" / "sparsity_0.9_0" / "model.keras")
    kernels = [np.asarray(w) for w in tuned.weights if w.name == "kernel"]
    assert sum((k == 0).sum() for k in kernels) == round(0.9 * sum(k.size for k in kernels))
    assert result.row("pointwise, 80% zero")["ratio_to"] == "pointwise, dense"
    assert result.row("matmul 64x32, 4 columns, 1 % dense")["sparse_ms"] > 0
    sparsity.draw(result, tmp_path / "sparsity.png")
    assert (tmp_path / "sparsity.png").stat().st_size > 10_000


def test_a_file_of_sparse_tensors_computes_the_same(tmp_path):
    sparse, _ = compress.sparsify(models.build("mnist_classifier"), 0.9, scope="layer")
    content = with_sparse_tensors(sparse)
    (tmp_path / "m.tflite").write_bytes(content)
    x = np.random.default_rng(0).random((1, 28, 28, 1), np.float32)
    (found,) = litert.run(tmp_path / "m.tflite", {"image": x}).values()
    np.testing.assert_allclose(found, np.asarray(sparse(x)), rtol=1e-4, atol=1e-5)
    assert count_sparse_tensors(content) == 4


def test_the_pointwise_network_has_zeros_in_its_1x1_kernels_alone():
    model = pointwise_network(0.75)
    for layer in model.layers:
        if layer.weights:
            zeros = float((layer.get_weights()[0] == 0).mean())
            assert zeros == pytest.approx(0.75 if "pointwise" in layer.name else 0, abs=1e-3)


def test_products_agree_before_they_are_timed():
    found = time_products((32, 16), 3, 0.2, rounds=2)
    assert found["n"] == 2 and found["dense_ms"] > 0 and found["sparse_ms"] > 0
    assert found["speedup_low"] <= found["speedup"] <= found["speedup_high"]


def test_break_even_density():
    def rows(*pairs):
        return [{"density": d, "speedup": s} for d, s in pairs]

    assert break_even_density(rows((0.1, 0.5), (0.01, 2.0))) == pytest.approx(0.1**1.5)
    assert break_even_density(rows((0.1, 0.5), (0.05, 1.0), (0.01, 2.0))) == pytest.approx(0.05)
    assert break_even_density(rows((0.1, 0.5), (0.01, 0.9))) is None
    assert break_even_density(rows((0.1, 1.5), (0.01, 3.0))) is None
