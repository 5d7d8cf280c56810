"""Test-time augmentation inside the file."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import tfeffi
from tfeffi.errors import BadInput
from tfeffi.export import litert
from tfeffi.train.evaluation import averaged

IMAGES = np.random.default_rng(0).random((40, 16, 16, 3), dtype=np.float32)
UNTRAINED = {"min_agreement": 0, "tolerance": 1.0}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(24, 3, strides=2, activation="relu", name="first")(image)
    x = keras.layers.Conv2D(32, 3, activation="relu", name="second")(x)
    x = keras.layers.Dense(5, name="logits")(keras.layers.Flatten()(x))
    return keras.Model(image, x, name="looks")


def run(path):
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (reads,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for image in IMAGES:
        interpreter.set_tensor(reads["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(gives["index"])[0])
    return np.array(outputs)


@pytest.mark.parametrize("views", ("flip", "flip_and_move"))
def test_the_file_gives_the_average_of_the_views(tmp_path, model, views):
    path = tmp_path / "model.tflite"
    tfeffi.export(model, path, views=views)
    wanted = averaged(lambda images: model(images), IMAGES, views)
    one = model(IMAGES)
    np.testing.assert_allclose(run(path), wanted, atol=1e-5)
    assert np.abs(np.array(one) - wanted).max() > 1e-2


@pytest.mark.parametrize("compact", (False, True))
@pytest.mark.parametrize("quantize", ("int8", "weights_int4"))
def test_the_kernels_are_there_once(tmp_path, model, quantize, compact):
    """Whatever way; and the parity of the file is checked as ever."""
    made = {}
    for views in ("one", "flip", "flip_and_move"):
        made[views] = tfeffi.export(
            model, tmp_path / f"{views}.tflite", quantize=quantize, views=views, compact=compact,
            **{"calibration" if "int8" in quantize else "check_with": IMAGES}, **UNTRAINED,
        )  # fmt: skip
    kind = "int4" if "int4" in quantize else "int8"
    once = made["one"].weight_types[kind]
    for views in ("flip", "flip_and_move"):
        assert once <= made[views].weight_types[kind] <= once + 16  # a constant of the average
    assert made["flip"].bytes < made["one"].bytes + 2500  # a few operators more
    assert made["flip"].operators["CONV_2D"] == made["one"].operators["CONV_2D"] == 2


def test_integers_in_and_out(tmp_path, model):
    made = tfeffi.export(
        model, tmp_path / "model.tflite", quantize="int8", calibration=IMAGES, integer_io=True,
        views="flip", **UNTRAINED,
    )  # fmt: skip
    assert [t.dtype for t in (*made.inputs, *made.outputs)] == ["int8", "int8"]
    assert made.inputs[0].shape == (1, 16, 16, 3)


def test_by_layer(tmp_path, model):
    """Layers are still called by their names."""
    made = tfeffi.export(
        model, tmp_path / "model.tflite", views="flip", calibration=IMAGES,
        recipe={".*first": "float32", ".*": "static_int8"}, **UNTRAINED,
    )  # fmt: skip
    assert {"float32", "int8"} <= set(made.weight_types)


def test_any_batch_and_an_open_size(tmp_path):
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3)(image)
    model = keras.Model({"image": image}, {"logits": keras.layers.GlobalAveragePooling2D()(x)})
    path = tmp_path / "model.tflite"
    made = tfeffi.export(model, path, views="flip", batch_size=None, input_shape=(16, 16, 3))
    assert made.inputs[0].shape == (None, 16, 16, 3)
    wanted = averaged(lambda images: model({"image": images})["logits"], IMAGES, "flip")
    got = next(iter(litert.run(path, IMAGES).values()))
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_bad_views(tmp_path, model):
    path = tmp_path / "model.tflite"
    with pytest.raises(BadInput, match='views="flop" is not known; did you mean "flip"'):
        tfeffi.export(model, path, views="flop")
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(BadInput, match=r"needs a classifier.*\(None, 4\)"):
        tfeffi.export(flat, path, views="flip")
    same = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 3, padding="same")])
    with pytest.raises(BadInput, match=r"needs a classifier.*gives \[\(None, 8, 8, 3\)\]"):
        tfeffi.export(same, path, views="flip")
    low = keras.Sequential([keras.Input((1, 4, 3)), keras.layers.Flatten()])
    with pytest.raises(BadInput, match=r"moves images, \(1, 4, 3\) is too small"):
        tfeffi.export(low, path, views="flip_and_move")
    assert not path.exists()
