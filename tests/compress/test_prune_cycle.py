"""prune_cycle: train, count, remove; what the variants add, and what never changes."""

import keras
import numpy as np
import pytest
from keras import layers

from tfeffi import data
from tfeffi.compress import prune_cycle
from tfeffi.compress.prune.cycles import distorted, doomed, regularized, widths
from tfeffi.errors import BadInput
from tfeffi.train import Settings

DATA = np.random.default_rng(1).integers(0, 3, (40, 8, 8, 2)).astype("float32")


def autoencoder(activation="relu"):
    """conv a of 6, deconv b of 5, conv c to the image: whole weights, so that sums are exact."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3, 2, "same", activation=activation, name="a")(inputs)
    x = layers.Conv2DTranspose(5, 3, 2, "same", activation=activation, name="b")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 3, padding="same", name="c")(x))
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.integers(-2, 3, weight.shape))
    return model


def kill(model, name, channels):
    bias = model.get_layer(name).bias
    values = bias.numpy()
    values[channels] = -1000
    bias.assign(values)


def untrained(model, cycle):
    """Trains nothing."""


def test_convolutions_and_deconvolutions_lose_their_dead_channels_and_outputs_stay():
    model = autoencoder()
    kill(model, "a", [0, 3])
    kill(model, "b", [4])
    small, report = prune_cycle(model, DATA, untrained)
    assert small.get_layer("a").filters <= 4 and small.get_layer("b").filters <= 4
    assert small.get_layer("b").kernel.shape[-1] == small.get_layer("a").filters
    assert float(np.abs(model(DATA) - small(DATA)).max()) == 0.0
    first, last = report.settings["cycles"][0], report.settings["cycles"][-1]
    assert first["removed"] == {c.layer: c.before - c.after for c in report.changed}
    assert not last["removed"] and last["widths"] == widths(small)
    assert model.get_layer("a").filters == 6


def test_it_goes_on_while_training_kills():
    trained = []

    def train(model, cycle):
        trained.append(cycle)
        if cycle <= 2:
            kill(model, "a", [0])

    _, report = prune_cycle(autoencoder(), DATA, train)
    lost = [cycle["removed"].get("a", 0) for cycle in report.settings["cycles"]]
    assert lost[0] >= 1 and lost[1] == 1 and trained == list(range(1, len(lost) + 1))


def test_the_last_removal_is_trained_on_when_cycles_run_out():
    trained = []

    def train(model, cycle):
        trained.append(cycle)
        kill(model, "a", [0])

    small, report = prune_cycle(autoencoder(), DATA, train, max_cycles=2)
    assert trained == [1, 2, 3] and len(report.settings["cycles"]) == 2
    assert small.get_layer("a").filters <= 4


def test_an_all_dead_layer_keeps_its_most_active_units():
    model = autoencoder()
    model.get_layer("a").bias.assign([-1000.0, -12, -13, -1000, -1000, -1000])
    most = widths(prune_cycle(model, DATA, untrained)[0])["a"]
    kill(model, "a", slice(None))
    for least, wanted in ((1, 1), (3, 3)):
        small, _ = prune_cycle(model, DATA, untrained, min_units=least)
        assert small.get_layer("a").filters == wanted
        assert float(np.abs(model(DATA) - small(DATA)).max()) == 0.0
    assert most <= 2


def test_min_units_keeps_those_that_count_most():
    inputs = keras.Input((1,))
    x = layers.Dense(4, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(1, name="out")(x))
    model.get_layer("hidden").set_weights([np.ones((1, 4)), np.array([-9.5, -7.5, -8.5, -20.0])])
    x = np.arange(11.0)[:, None]
    small, _ = prune_cycle(model, x, untrained, threshold=5, min_units=2)  # active 1, 3, 2, 0 times
    np.testing.assert_array_equal(small.get_layer("hidden").bias, [-7.5, -8.5])


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "elu", "softplus", "linear"])
def test_a_unit_that_is_never_exactly_zero_stays(activation):
    model = autoencoder(activation)
    model.get_layer("a").bias.assign([-0.5, -3, -4, -5, -6, 0.25])
    _, report = prune_cycle(model, DATA + 0.125, untrained)
    assert not report.changed


def test_outliers_by_hand():
    counts = np.array([0, 50, 50, 50, 50, 50, 1])
    assert doomed(counts).tolist() == [True] + [False] * 6
    # others: mean 41.83, population deviation 18.26, so below 5.31
    assert doomed(counts, deviations=2).tolist() == [True] + [False] * 5 + [True]
    # the sample deviation, 20.0, would put the limit at 1.83, three population ones at -12.9
    assert doomed(counts, deviations=3).tolist() == [True] + [False] * 6
    assert not doomed(np.array([7, 7, 7]), deviations=2).any()
    assert doomed(np.array([0.0, 4, np.inf]), 4).tolist() == [True, True, False]


def test_outliers_go_beside_the_dead():
    inputs = keras.Input((1,))
    x = layers.Dense(8, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(1, name="out")(x))
    bias = np.array([-200.0] + [1.0] * 6 + [-98.5])
    model.get_layer("hidden").set_weights([np.ones((1, 8)), bias])
    x = np.arange(100.0)[:, None]
    units = {
        variant: prune_cycle(model, x, untrained, variant=variant)[0].get_layer("hidden").units
        for variant in ("vanilla", "outliers")
    }
    assert units == {"vanilla": 7, "outliers": 6}


def test_distortion_by_its_formula():
    model = autoencoder()
    small = 0.1 * np.random.default_rng(0).normal(size=(3, 3, 2, 6))
    model.get_layer("a").kernel.assign(small)
    model.get_layer("b").kernel.assign(100 * np.random.default_rng(1).normal(size=(3, 3, 5, 6)))
    added, again, other = (distorted(model, alpha=0.5, seed=seed) for seed in (3, 3, 4))
    noise = added.get_layer("a").kernel.numpy() - model.get_layer("a").kernel.numpy()
    limit = 0.5 * (1 - small.var())
    assert 0.95 * limit < np.abs(noise).max() <= limit * 1.0001 and abs(noise.mean()) < 0.1 * limit
    np.testing.assert_array_equal(added.get_layer("b").kernel, model.get_layer("b").kernel)
    np.testing.assert_array_equal(added.get_layer("a").bias, model.get_layer("a").bias)
    np.testing.assert_array_equal(added.get_layer("a").kernel, again.get_layer("a").kernel)
    assert np.abs(added.get_layer("a").kernel - other.get_layer("a").kernel).max() > 0
    scaled = distorted(model, alpha=0.5, kind="multiplicative", seed=3)
    np.testing.assert_allclose(scaled.get_layer("a").kernel, small * (1 + noise), atol=1e-6)


def test_the_penalty_is_the_sum_of_all_weights_and_goes_again():
    model = autoencoder()
    seen = []
    small, _ = prune_cycle(
        model, DATA, lambda m, cycle: seen.append(float(sum(m.losses))), variant="regularized",
        l1=0.01,
    )  # fmt: skip
    by_hand = 0.01 * sum(float(np.abs(w.numpy()).sum()) for w in model.weights)
    assert seen[0] == pytest.approx(by_hand) and not small.losses and not model.losses


def test_a_penalty_of_the_model_s_own_is_not_lost_silently():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(3, kernel_regularizer="l2", name="d")(inputs))
    with pytest.raises(BadInput, match='"d" has a kernel_regularizer of its own'):
        regularized(model, 1e-4)


@pytest.mark.parametrize("variant", ["vanilla", "combined"])
def test_settings_train_images_and_seeds_repeat(variant):
    images = data.load("fashion_mini", "train[:200]")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 3, 4, "same", activation="relu", name="a")(inputs)
    x = layers.Conv2DTranspose(1, 3, 4, "same", activation="sigmoid", dtype="float32")(x)
    model = keras.Model(inputs, x)
    settings = Settings(epochs=1, batch_size=50, loss="reconstruction")
    made = [
        prune_cycle(model, images, settings, variant=variant, max_cycles=2, min_cycles=2, seed=5)[0]
        for _ in range(2)
    ]
    for one, other in zip(made[0].weights, made[1].weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(
        np.abs(a - b).max() > 0 for a, b in zip(made[0].weights, model.weights, strict=False)
    )


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"variant": "distort"}, "distorted"),
        ({"distortion": "sign"}, 'distortion="sign"'),
        ({"max_cycles": 0}, "max_cycles=0"),
        ({"min_units": 1.5}, "min_units=1.5"),
        ({"l1": -1}, "l1=-1"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"train": None}, "give a function"),
        ({"train": Settings()}, "Images"),
    ],
)
def test_bad_input_is_named(arguments, match):
    arguments = {"train": untrained, **arguments}
    with pytest.raises(BadInput, match=match):
        prune_cycle(autoencoder(), DATA, **arguments)
