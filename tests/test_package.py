"""What `import tfeffi` does to TensorFlow: oneDNN on, whatever the CPU, unless the user turned it off."""

import os
import platform
import subprocess
import sys

import pytest

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
ASK = "from tensorflow.python.util import _pywrap_util_port as port; print(port.IsMklEnabled())"
TRAIN = """
import numpy as np
inputs = keras.Input((8, 8, 1))
model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
images = tfeffi.data.Images.from_arrays(np.zeros((4, 8, 8, 1), "uint8"), np.array([0, 1, 0, 1]))
settings = tfeffi.train.Settings(epochs=1, batch_size=2, learning_rate=0.1)
tfeffi.train.fit(model, images, settings=settings, verbose=False)
"""
pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN is turned on for x86 only"
)


def said(code, **environment):
    """What a new interpreter prints, and what it warns of."""
    inherited = {key: value for key, value in os.environ.items() if key != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=inherited | environment,
    )  # fmt: skip
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("environment, expected", [({}, "True"), ({VARIABLE: "0"}, "False")])
def test_importing_turns_onednn_on_unless_the_user_turned_it_off(environment, expected):
    printed, _ = said(f"import tfeffi; {ASK}", **environment)
    assert printed == expected


def test_fit_says_that_tensorflow_was_imported_too_early():
    early = (
        f"import os; os.environ['{VARIABLE}'] = '0'; import keras; del os.environ['{VARIABLE}']\n"
    )
    _, warned = said(
        f"{early}import tfeffi{TRAIN}"
    )  # on every CPU as TensorFlow is on one without VNNI
    assert "import tfeffi before keras and tensorflow" in warned


def test_fit_is_silent_where_the_user_turned_onednn_off():
    _, warned = said(f"import keras, tfeffi{TRAIN}", **{VARIABLE: "0"})
    assert "oneDNN is off" not in warned
