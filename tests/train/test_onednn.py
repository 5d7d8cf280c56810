"""oneDNN: `fit` says where it is off, and goes around the convolutions whose gradients it gets wrong."""

import importlib.util
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
FIT = """
import sys
import keras, numpy as np
import tfeffi
keras.utils.set_random_seed(0)
x = inputs = keras.Input((32, 32, 3))
if len(sys.argv) > 1:
    kind, options = eval(sys.argv[1])
    kind = getattr(keras.layers, kind)
    x = x if kind is keras.layers.Conv2D else keras.layers.Reshape((1024, 3))(x)
    x = kind(8, 1, use_bias=False, name="conv", **options)(x)
model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
rng = np.random.default_rng(0)
pixels = rng.integers(0, 255, (64, 32, 32, 3), dtype="uint8")
images = tfeffi.data.Images.from_arrays(pixels, rng.integers(0, 2, 64))
settings = tfeffi.train.Settings(epochs=1, batch_size=64, learning_rate=0.1)
other = keras.models.clone_model(model)
for _ in range(5 if len(sys.argv) > 1 else 1):
    if "distill" in sys.argv:
        trained, _ = tfeffi.compress.distill(model, other, images, epochs=1)
    elif "tfmot" in sys.argv:
        from tfeffi.compress.tfmot import prune_magnitude
        trained, _ = prune_magnitude(model, images, sparsity=0.0, epochs=4)
    else:
        trained = tfeffi.train.fit(model, images, settings=settings, verbose=False).model
    print(*np.ravel(trained.layers[-3].get_weights()))
"""
pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="TensorFlow decides on x86 CPUs only"
)

needs_tfmot = pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow_model_optimization"), reason="needs the extra tfmot"
)


def said(code, *arguments, **environment):
    """What a new interpreter prints, and what it warns of."""
    inherited = {key: value for key, value in os.environ.items() if key != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True,
        env=inherited | {"CUDA_VISIBLE_DEVICES": "-1"} | environment,
    )  # fmt: skip
    return done.stdout.strip(), done.stderr


def test_fit_says_that_tensorflow_left_onednn_off():
    early = (
        f"import os; os.environ['{VARIABLE}'] = '0'; import keras; del os.environ['{VARIABLE}']\n"
    )
    _, warned = said(early + FIT)  # on every CPU as TensorFlow is on one without VNNI
    assert "oneDNN is off" in warned and f"set {VARIABLE}=1" in warned


@pytest.mark.parametrize("choice", ["0", "1", "false"])
def test_fit_is_silent_where_the_user_has_chosen(choice):
    _, warned = said(FIT, **{VARIABLE: choice})
    assert "oneDNN is off" not in warned


@pytest.mark.parametrize(
    "layer, how",
    [
        (("Conv2D", {"strides": 2}), "fit"),
        (("Conv2D", {"strides": (1, 2)}), "fit"),
        (("Conv1D", {"strides": 2}), "fit"),
        (("Conv2D", {"strides": 2}), "distill"),
        pytest.param(("Conv2D", {"strides": 2}), "tfmot", marks=needs_tfmot),
    ],
)
def test_gradients_that_onednn_gets_wrong(layer, how):
    """Kernels of size 1 with strides over few channels: a step or four, five times, as without oneDNN."""
    found = [said(FIT, repr(layer), how, **{VARIABLE: choice})[0] for choice in "01"]
    without, given = (np.array([line.split() for line in f.splitlines()], "float64") for f in found)
    assert without.shape == (5, 24)
    np.testing.assert_allclose(given, without, rtol=1e-4, atol=1e-5)
