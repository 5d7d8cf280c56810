"""Compressions after one another: what is lost is said, and fine-tuning holds what is there."""

import keras
import numpy as np
import pytest
from keras import layers

from tfeffi import Budget, methods
from tfeffi.compress import by_name, keeping
from tfeffi.compress.kernels import find


def network():
    inputs = x = keras.Input((8, 8, 3))
    for name in ("first", "second"):
        x = layers.ReLU()(layers.Conv2D(16, 3, name=name)(x))
    return keras.Model(inputs, layers.Dense(4, name="logits")(layers.Flatten()(x)))


def after(*steps):
    model, report = network(), None
    for method, arguments in steps:
        model, report = by_name.compress(model, method, **arguments)
    return model, report


SPARSE = ("sparsify", {"sparsity": 0.5, "scope": "layer"})
SHARED = ("cluster", {"bits": 3})
KEPT = ("cluster", {"bits": 3, "preserve_sparsity": True})
PRUNED = ("prune", {"budget": Budget(macs=0.5), "importance": "l2"})


@pytest.mark.parametrize(
    ("steps", "lost"),
    [
        ((SPARSE, ("cluster", {"bits": 1})), "Not kept, zeros from before"),
        ((SPARSE, KEPT), ""),
        ((SHARED, PRUNED), ""),
        ((PRUNED, SPARSE, KEPT), ""),
        ((SHARED, ("sparsify", {"sparsity": 0.01, "scope": "layer"})), "shared values from before"),
    ],
)
def test_the_report_says_what_is_lost(steps, lost):
    note = after(*steps)[1].note
    assert lost in note if lost else "Not kept" not in note


@pytest.mark.parametrize(
    ("steps", "held"),
    [
        ((), []),
        ((PRUNED,), []),
        ((SPARSE, PRUNED), ["keep_zeros"]),
        ((SHARED, PRUNED), ["shared_weights"]),
        ((SPARSE, KEPT, PRUNED), ["keep_zeros", "shared_weights"]),
    ],
)
def test_fine_tuning_holds_what_is_there(steps, held):
    model = after(*steps)[0]
    assert [one.name for one in by_name.holding("prune", model)] == held


def test_the_method_itself_is_held_without_a_model():
    assert [one.name for one in by_name.holding("tfmot_prune")] == ["keep_zeros"]
    assert by_name.holding(None) == [] and methods.names()


def sparse(share, few):
    """Kernels with this share of zeros; the other weights of few values, or of one each."""
    model, random = network(), np.random.default_rng(0)
    for layer in model.layers:
        if layer.weights:
            kernel = random.normal(size=layer.kernel.shape).astype("float32")
            kernel = np.sign(kernel) if few else kernel
            layer.kernel.assign(np.where(random.random(kernel.shape) < share, 0, kernel))
    return model


@pytest.mark.parametrize("few", [False, True])
def test_many_zeros_are_no_shared_values(few):
    model = sparse(0.8, few)
    found = find(model, (), "test")[0]
    held = ["keep_zeros", "shared_weights"] if few else ["keep_zeros"]
    assert sorted(keeping.needed(found)) == held
    dense = find(sparse(0.5, False), (), "test")[0]
    assert ("shared values" in keeping.lost(found, dense)) == few


def test_a_layer_that_is_gone_is_not_compared():
    found = find(network(), (), "test")[0]
    assert keeping.lost(found, []) == "" == keeping.lost([], found)
    zero = [type(one)(one.layer, one.variable, np.zeros_like(one.values)) for one in found]
    assert keeping.lost(zero, found).count("→") == 2
