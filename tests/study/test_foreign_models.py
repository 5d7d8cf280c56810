"""The experiment on somebody else's models, whole, on a model made here."""

import keras
import pytest

from tfeffi import data
from tfeffi.errors import BadInput
from tfeffi.study.experiments import foreign_models, run


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("foreign")
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(16, 5, strides=3, activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu")(x)
    x = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    keras.Model(inputs, x).save(folder / "m.keras")
    half = {"macs": 0.5}
    variants = {
        "float32": {},
        "int8": {"quantize": "int8"},
        "pruned": {
            "compress": {
                "method": "prune", "importance": "mean_activation", "data": True, "budget": half,
                "multiple_of": 1,
            }
        },
        "recalibrated": {"base": "pruned", "recalibrate": 50},
        "distilled": {
            "base": "recalibrated",
            "distill": {"epochs": 2, "batch_size": 50, "learning_rate": 0.02},
        },
    }  # fmt: skip
    config = {
        "name": "foreign_models",
        "experiment": "foreign_models",
        "cache": str(folder),
        "timing": True,
        "models": {
            "tiny": {
                "source": "file",
                "path": str(folder / "m.keras"),
                "images": {
                    "name": "fashion_mini", "train": "train[:500]", "test": "test[:200]",
                    "measure": 100,
                },
                "latency": {"rounds": 2, "min_runs": 4, "min_seconds": 0.0, "warmup_runs": 1},
                "variants": variants,
            }
        },
    }  # fmt: skip
    return run(config, folder / "run", verbose=False)


def test_the_original_agrees_with_itself(result):
    row = result.row("tiny float32")
    assert row["agreement"] == 1 and abs(row["kl"]) < 1e-6 and row["ratio"] == 1
    assert row["images"] == row["labelled_images"] == 200


def test_steps_add_up(result):
    original, pruned = result.row("tiny float32"), result.row("tiny pruned")
    assert pruned["macs"] <= 0.5 * original["macs"]
    for variant in ("recalibrated", "distilled"):
        row = result.row(f"tiny {variant}")
        assert row["macs"] == pruned["macs"] and row["params"] == pruned["params"]
        assert row["parent_ratio"] > 0
    distilled = result.row("tiny distilled")
    assert distilled["kl"] < result.row("tiny recalibrated")["kl"]
    assert distilled["distill_loss"] >= 0
    assert result.row("tiny int8")["bytes"] < original["bytes"]


def test_an_unknown_source_is_told(tmp_path):
    config = {
        "name": "x", "experiment": "foreign_models", "models": {"a": {"source": "b"}},
    }  # fmt: skip
    with pytest.raises(BadInput, match=r'models\.a\.source="b"'):
        run(config, tmp_path, verbose=False)


def test_tuning_images_have_no_labels():
    tuning, held = foreign_models._data_set("fashion_mini", "train[:50]", "test[:20]")
    assert (tuning.labels == -1).all() and tuning.images.max() <= 1
    assert (held.labels == data.load("fashion_mini", "test[:20]").labels).all()
