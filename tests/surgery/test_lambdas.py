"""Lambda layers: Keras does not rebuild them unasked, and the caller hears which one and what to do."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.drawn import gap, images, randomize
from tfeffi import Budget, factorize, prune
from tfeffi.errors import BadInput
from tfeffi.surgery import New, reindex, replace

CALLS = {
    "reindex": lambda model: reindex(model, {"b": [0, 1]}),
    "replace": lambda model: replace(model, {"b": [New(layers.Conv2D(16, 3, name="b"))]}),
    "prune": lambda model: prune(model, Budget(macs=0.5), importance="l2"),
    "factorize": lambda model: factorize(model, budget=Budget(macs=0.6)),
}


def double(x):
    return 2 * x


def model_of(function, *, sequential=False):
    chain = [
        layers.Conv2D(16, 3, name="a"),
        layers.Lambda(function, name="twice"),
        layers.Conv2D(16, 3, name="b"),
        layers.Flatten(),
        layers.Dense(5, name="logits"),
    ]
    model = keras.Sequential([keras.Input((7, 7, 3)), *chain])
    if not sequential:
        model = keras.Model(model.inputs, model.outputs)
    randomize(model, 0)
    return model


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("function", [lambda x: 2 * x, double], ids=["lambda", "named"])
def test_the_layer_is_named_with_the_way_out(call, function):
    for sequential in (False, True):
        with pytest.raises(BadInput, match=r'^surgery: "twice" is a Lambda .* keras\.ops') as error:
            call(model_of(function, sequential=sequential))
        assert "\n" not in str(error.value)


def test_a_lambda_that_is_trusted_or_goes_is_no_obstacle():
    model = model_of(lambda x: 2 * x)
    x = images(model)
    plain = replace(model, {"twice": [New(layers.Rescaling(2.0, name="rescaled"))]})
    assert gap(model(x), plain(x)) <= 1e-6

    def trusting():
        keras.config.enable_unsafe_deserialization()
        return reindex(model, {"b": np.arange(16)})[0]

    with ThreadPoolExecutor(1) as pool:  # the switch is the thread's own: others keep theirs
        assert gap(model(x), pool.submit(trusting).result()(x)) <= 1e-6


def test_another_fault_is_told_as_it_is():
    """Beside a Lambda layer that is taken out, the chain is to blame."""
    wrong = {"twice": [], "b": [New(layers.Conv2D(16, 30, name="b"))]}
    with pytest.raises(BadInput, match="the chain does not fit"):
        replace(model_of(lambda x: 2 * x), wrong)
