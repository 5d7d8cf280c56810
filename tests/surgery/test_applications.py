"""Models of keras.applications: half of every free group goes, and the masked model agrees."""

import keras
import numpy as np
import pytest

from tests.compress.test_prune_models import zero_readers
from tests.surgery.drawn import gap, lively
from tfeffi.surgery import Coupling, apply

FAMILIES = ("MobileNetV3Small", "EfficientNetB0", "DenseNet121", "NASNetMobile", "InceptionV3")


@pytest.mark.parametrize(
    "name", ["MobileNetV3Small", *(pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES[1:])]
)
def test_half_of_every_group_gone_equals_the_masked_model(name):
    size = 96 if name == "InceptionV3" else 64
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    lively(model)
    coupling = Coupling.of(model)
    kept = np.ones(coupling.classes.count, bool)
    random = np.random.default_rng(2)
    for group in coupling.groups:
        if not group.pinned and group.size > 1:
            kept[random.permutation(group.classes)[: group.size // 2]] = False
    small, _ = apply(coupling, coupling.keep(kept))
    assert small.count_params() < 0.4 * model.count_params()
    x = random.random((2, size, size, 3), np.float32)
    zero_readers(model, coupling, kept)
    masked = model(x)
    assert np.abs(masked).max() > 1e-3
    assert gap(masked, small(x)) <= 1e-5
