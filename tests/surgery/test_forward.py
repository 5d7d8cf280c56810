"""The pass call by call gives what the model gives, and any tensor inside."""

import keras
import numpy as np
import pytest

from tests.surgery.drawn import STEPS, Drawn, images
from tfeffi.surgery import Coupling
from tfeffi.surgery.forward import Forward


@pytest.mark.parametrize("first", range(len(STEPS)))
def test_the_outputs_are_those_of_the_model(first):
    model = Drawn([(first, 1, 1), (first + 3, 2, 2), (first + 7, 3, 0)], seed=first).model
    graph = Coupling.of(model).graph
    x = images(model)
    outputs = Forward(graph, graph.outputs)([x])
    for got, want in zip(outputs, keras.tree.flatten(model(x, training=False)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_tensors_inside():
    model = Drawn([(1, 0, 0), (2, 1, 1)]).model
    coupling = Coupling.of(model)
    inside = keras.Model(model.input, model.get_layer("bn3").output)
    graph, x = coupling.graph, images(model)
    tensor = next(c.outputs[0] for c in graph.calls if c.layer.path == "bn3")
    [value] = Forward(graph, [tensor])([x])
    np.testing.assert_array_equal(value, inside(x, training=False))
    assert coupling.channels[tensor].axis == 3 and value.shape[3] == len(coupling.channels[tensor])
