"""cluster: so many values a kernel, the nearest ones; zeros stay where asked for; the sizes' formula."""

import itertools

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies

from tests.compress.cases import built
from tfeffi.compress import by_name, cluster, sparsify
from tfeffi.compress.clustering import compression_ratio, kmeans, nearest, shared, shared_bytes
from tfeffi.errors import BadInput


def kernels_of(model):
    return [np.asarray(w) for w in model.weights if w.name.endswith("kernel")]


@pytest.mark.parametrize("name", ["mnist_classifier", "mobilenet_v2"])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_no_kernel_has_more_values_than_indices(name, bits):
    model = built(name, 0.25, 16)
    made, report = cluster(model, bits)
    for old, new in zip(kernels_of(model), kernels_of(made), strict=True):
        assert np.unique(new).size <= 2**bits
        assert np.unique(old).size > 2**bits or np.array_equal(old, new)
    assert report.after == report.before and "no speed" in report.table()
    assert f"{report.settings['theoretical_bytes']:,}" in report.table()
    assert report.settings["zipped_bytes"] < report.settings["zipped_bytes_before"]


@hypothesis.given(strategies.integers(0, 2**32 - 1), strategies.integers(1, 40))
@hypothesis.settings(max_examples=40)
def test_lloyd_stands_still_where_every_value_is_at_its_mean(seed, count):
    values = np.random.default_rng(seed).normal(size=500).astype(np.float32)
    centroids = kmeans(values, count)
    assert centroids.shape == (count,) and (np.diff(centroids) >= 0).all()
    made = nearest(values, centroids)
    index = np.abs(values[:, None] - centroids).argmin(1)
    assert np.abs(made - values).max() <= np.abs(values - centroids[index]).max() + 1e-6
    for value in np.unique(made):
        assert value == pytest.approx(values[made == value].mean(), abs=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_more_values_lose_less(seed):
    weights = np.random.default_rng(seed).normal(size=(64, 128)).astype(np.float32)
    errors = [np.linalg.norm(shared(weights, 2**bits) - weights) for bits in range(1, 9)]
    assert all(more < less for less, more in itertools.pairwise(errors))


def test_a_second_time_changes_nothing():
    model = built("mnist_classifier")
    once, _ = cluster(model, 3)
    twice, _ = cluster(once, 3)
    for a, b in zip(once.get_weights(), twice.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_zeros_stay_zero_where_asked_for(bits):
    sparse, _ = sparsify(built("mnist_classifier"), 0.8)
    kept, _ = cluster(sparse, bits, preserve_sparsity=True)
    for old, new in zip(kernels_of(sparse), kernels_of(kept), strict=True):
        assert np.array_equal(old == 0, new == 0) or np.unique(new).size == 1
        assert np.unique(new).size <= 2**bits


def test_zeros_move_where_not_asked_for():
    sparse, _ = sparsify(built("mnist_classifier"), 0.8)
    lost, _ = cluster(sparse, 1)
    assert all((kernel != 0).all() for kernel in kernels_of(lost))


def test_sizes_are_those_of_the_paper():
    # 16 weights of 32 bits, 4 values: 2 bits an index, figure 3 of Deep Compression: 3.2 times.
    assert compression_ratio(16, 2) == pytest.approx(3.2)
    assert shared_bytes(16, 2) == 16 * 4 / 3.2
    assert compression_ratio(10**9, 5) == pytest.approx(32 / 5, rel=1e-6)
    model = built("mnist_classifier", 1.0)
    _, report = cluster(model, {"conv2": 4})
    rest = report.before.bytes - 4 * 51_200
    assert report.settings["theoretical_bytes"] == rest + (51_200 * 4 + 16 * 32) // 8


def test_bits_by_layer():
    model = built("mnist_classifier", 1.0)
    made, report = by_name.compress(model, "cluster", bits={"conv2": 4, "logits": 2})
    assert [c.layer for c in report.changed] == ["conv2", "logits"]
    assert {s.layer: s.why for s in report.skipped} == {
        "conv1": "is not in bits", "conv3": "is not in bits",
    }  # fmt: skip
    layers = [layer for layer in made.layers if layer.weights]
    unique = {layer.name: np.unique(layer.get_weights()[0]).size for layer in layers}
    assert unique["conv2"] <= 16 and unique["logits"] <= 4 and unique["conv3"] > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 0}, "bits=0 must be a whole number"),
        ({"bits": 2.5}, "bits=2.5 must be"),
        ({"bits": {"conv1": 17}}, "bits=17 must be"),
        ({"bits": {"conv9": 2}}, 'layer "conv9" has no kernel here'),
        ({"ignore": ["conv9"]}, 'layer "conv9" is not in the model'),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message) as caught:
        cluster(built("mnist_classifier"), **arguments)
    assert "\n" not in str(caught.value)


def test_the_result_is_an_ordinary_keras_file(tmp_path):
    made, _ = cluster(built("mnist_classifier"), 2)
    made.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    for a, b in zip(made.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(a, b)
