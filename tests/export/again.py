"""The same networks, exported once more: a test compares what two processes write.

python -m tests.export.again SAVED.keras FOLDER
"""

import pathlib
import sys

import keras
import numpy as np

import tfeffi
from tfeffi.export import convert, plan, quantizer, recipes, steps

ANEW = {
    "float32": {},
    "int8": {"quantize": "int8"},
    "by layer": {"recipe": {"conv2d.*": "static_int4", ".*": "float16"}},
}
IMAGES = np.random.default_rng(1).random((20, 6, 6, 1), np.float32)


def network():
    """The same weights each time, other names: Keras counts them up."""
    random = np.random.default_rng(0)
    x = image = keras.Input((6, 6, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x))
    x = keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.LeakyReLU()(x)))
    model = keras.Model(image, x)
    model.set_weights([random.random(w.shape) for w in model.get_weights()])
    return model


def made(saved, folder):
    """{name: bytes}: a saved network every way, and one built anew with `reproducible`.

    The saved one by the steps of `export`, without its checks: they cost most and change nothing.
    """
    model = keras.models.load_model(saved)
    signature = convert.specs(model, 1, None)
    float32 = convert.convert(model, signature, None)
    files = {"saved float32.tflite": float32}
    for name, recipe in recipes.RECIPES.items():
        if recipe.by == recipes.CONVERTER:
            content = convert.convert(model, signature, name, IMAGES)
        else:
            planned = plan.whole(steps.read(float32), recipe)
            content = quantizer.quantize(float32, planned, IMAGES, 1, False)
        files[f"saved {name}.tflite"] = content
    for name, how in ANEW.items():
        path = pathlib.Path(folder) / f"{name}.tflite"
        tfeffi.export(
            network(), path, calibration=IMAGES, reproducible=True, tolerance=1.0,
            min_agreement=None if name == "float32" else 0.0, **how,
        )  # fmt: skip
        files[path.name] = path.read_bytes()
    return files


if __name__ == "__main__":
    keras.layers.Dense(3), keras.layers.Conv2D(3, 3), keras.layers.BatchNormalization()
    for name, content in made(*sys.argv[1:]).items():
        (pathlib.Path(sys.argv[2]) / name).write_bytes(content)
