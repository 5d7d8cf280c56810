"""sparsify: exactly so many zeros, the smallest weights, nothing else changed."""

import keras
import numpy as np
import pytest

from tests.compress.cases import built, gap, images
from tfeffi.compress import by_name, sparsify
from tfeffi.compress.sparsity import global_masks, layer_masks
from tfeffi.errors import BadInput


def kernels_of(model):
    return [np.asarray(w) for w in model.weights if w.name.endswith("kernel")]


@pytest.mark.parametrize("name", ["mnist_classifier", "mobilenet_v2", "resnet_cifar"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_so_many_weights_are_zero_and_the_rest_is_as_it_was(name, scope):
    model = built(name, 0.25, 16)
    sparse, report = sparsify(model, 0.8, scope=scope)
    before, after = kernels_of(model), kernels_of(sparse)
    total = sum(k.size for k in before)
    zeros = [int((k == 0).sum()) for k in after]
    if scope == "global":
        assert sum(zeros) == round(0.8 * total)
    else:
        assert zeros == [round(0.8 * k.size) for k in before]
    assert report.settings["zeros"] == sum(zeros) and report.settings["weights"] == total
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(new[new != 0], old[new != 0])
    others = [
        np.array_equal(a, b) for a, b, w in zip(
            model.get_weights(), sparse.get_weights(), model.weights, strict=True
        ) if not w.name.endswith("kernel")
    ]  # fmt: skip
    assert all(others) and report.after == report.before


def test_the_smallest_go():
    arrays = [np.array([[3.0, -1.0], [2.0, 0.5]]), np.array([-4.0, 0.1])]
    every, each = global_masks(arrays, 0.5), layer_masks(arrays, 0.5)
    assert [m.tolist() for m in every] == [[[True, False], [True, False]], [True, False]]
    assert [m.tolist() for m in each] == [[[True, False], [True, False]], [True, False]]
    arrays[1] *= 100  # now the other array has all of the smallest
    assert global_masks(arrays, 0.5)[1].all() and not layer_masks(arrays, 0.5)[1].all()


def test_equal_weights_meet_the_count_too():
    assert sum(int(m.sum()) for m in global_masks([np.ones(10), np.ones(10)], 0.35)) == 13


def test_no_sparsity_changes_nothing_and_nested_layers_are_met():
    image = keras.Input((8,))
    inner = keras.Model(image, keras.layers.Dense(6, name="fc")(image), name="inner")
    outer = keras.Input((8,))
    model = keras.Model(outer, keras.layers.Dense(3, name="fc")(inner(outer)))
    same, _ = sparsify(model, 0)
    x = images(model)
    assert gap(model, same, x) == 0
    sparse, report = sparsify(model, 0.5, ignore=["inner"])
    assert [c.layer for c in report.changed] == ["fc"]
    assert [s.layer for s in report.skipped] == ["inner/fc"]
    assert (kernels_of(sparse)[0] != 0).all() and (kernels_of(sparse)[1] == 0).sum() == 9


def test_the_report_says_that_it_brings_no_speed():
    model = built("mnist_classifier")
    _, report = by_name.compress(model, "sparsify", sparsity=0.9)
    assert "no speed" in report.table() and "no speed" in report.to_json()["note"]
    assert report.settings["zipped_bytes"] < 0.3 * report.settings["zipped_bytes_before"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1}, "sparsity=1 must be a fraction"),
        ({"sparsity": -0.1}, "sparsity=-0.1 must be"),
        ({"sparsity": True}, "sparsity=True must be"),
        ({"sparsity": 0.5, "scope": "model"}, 'unknown scope "model"'),
        ({"sparsity": 0.5, "ignore": ["conv9"]}, 'layer "conv9" is not in the model'),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message) as caught:
        sparsify(built("mnist_classifier"), **arguments)
    assert "\n" not in str(caught.value)


def test_a_model_without_kernels_and_one_with_nan():
    image = keras.Input((4,))
    with pytest.raises(BadInput, match="has no kernel"):
        sparsify(keras.Model(image, keras.layers.ReLU()(image)), 0.5)
    model = keras.Model(image, keras.layers.Dense(2, name="fc")(image))
    model.get_layer("fc").kernel.assign(np.full((4, 2), np.nan))
    with pytest.raises(BadInput, match='layer "fc" has weights that are NaN'):
        sparsify(model, 0.5)
