"""A whole model with the fused layers: same model, same training, files without tfeffi."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfeffi import models
from tfeffi.errors import BadInput
from tfeffi.layers import FusedBatchNormalization, fuse_batch_normalization

BLOCKED = """
    import sys

    class NoTfeffi:
        def find_spec(self, name, *_):
            if name.split(".")[0] == "tfeffi":
                raise ImportError("tfeffi is not installed")

    sys.meta_path.insert(0, NoTfeffi())
"""


def run(program, *arguments):
    program = textwrap.dedent(program)
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def leaves(model):
    """Every layer, nested and wrapped ones too."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield getattr(layer, "layer", layer)


def fused_names(model):
    return [layer.name for layer in leaves(model) if isinstance(layer, FusedBatchNormalization)]


def plain_names(model):
    return [layer.name for layer in leaves(model) if isinstance(layer, layers.BatchNormalization)]


def nested_model():
    """Nested, shared, wrapped and partly frozen batch normalizations, one in half precision."""
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(4, 3, padding="same", name="inner_conv"),
            layers.BatchNormalization(name="inner_bn", momentum=0.7),
        ],
        name="inner",
    )
    shared = layers.BatchNormalization(name="shared_bn", dtype="mixed_bfloat16")
    inputs = keras.Input((8, 8, 4))
    x = shared(layers.Dropout(0.5, name="dropout")(shared(inner(inner(inputs)))))
    x = layers.Reshape((2, 4, 8, 4))(x)
    wrapped = layers.BatchNormalization(name="wrapped_bn")
    x = layers.TimeDistributed(wrapped, name="each")(x)
    x = layers.BatchNormalization(name="flat_bn")(layers.Flatten()(x))
    return keras.Model(inputs, x, name="outer")


def randomized(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    return model


def test_every_batch_normalization_is_exchanged():
    model = randomized(nested_model())
    fused = fuse_batch_normalization(model)
    names = ["inner_bn", "shared_bn", "wrapped_bn", "flat_bn"]
    assert fused_names(fused) == plain_names(model) == names
    assert fused_names(model) == []
    assert [layer.name for layer in fused.layers] == [layer.name for layer in model.layers]
    x = np.random.default_rng(1).normal(size=(6, 8, 8, 4)).astype("float32")
    np.testing.assert_allclose(fused(x), model(x), atol=0.05)  # bfloat16 in the middle
    for ours, theirs in zip(fused.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.name == theirs.name
        assert ours is not theirs


def test_flags_policies_and_settings_stay():
    model = nested_model()
    model.get_layer("inner").get_layer("inner_bn").trainable = False
    model.get_layer("flat_bn").trainable = False
    fused = fuse_batch_normalization(model)
    for ours, theirs in zip(leaves(fused), leaves(model), strict=True):
        assert ours.trainable == theirs.trainable
        assert ours.dtype_policy.name == theirs.dtype_policy.name
    assert len(fused.trainable_weights) == len(model.trainable_weights)
    assert fused.get_layer("inner").get_layer("inner_bn").momentum == 0.7


def test_a_frozen_layer_in_a_wrapper_stays_frozen():
    inputs = keras.Input((3, 8, 8, 2))
    inner = keras.layers.Conv2D(4, 3, name="inner")
    x = keras.layers.TimeDistributed(inner, name="wrapper")(inputs)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(x))
    inner.trainable = False
    fused = fuse_batch_normalization(model)
    assert not fused.get_layer("wrapper").layer.trainable and fused.get_layer("wrapper").trainable
    assert [w.path for w in fused.trainable_weights] == [w.path for w in model.trainable_weights]


def test_a_frozen_model_with_a_thawed_layer():
    model = nested_model()
    model.trainable = False
    model.get_layer("flat_bn").trainable = True
    fused = fuse_batch_normalization(model)
    assert [w.path for w in fused.trainable_weights] == [w.path for w in model.trainable_weights]


def test_random_states_stay():
    """Dropout draws what it would have drawn."""
    model = nested_model()
    x = np.ones((4, 8, 8, 4), "float32")
    model(x, training=True)
    fused = fuse_batch_normalization(model)
    dropouts = [m.get_layer("dropout") for m in (model, fused)]
    np.testing.assert_array_equal(*(dropout(x, training=True) for dropout in dropouts))


def test_training_takes_the_same_way():
    keras.utils.set_random_seed(0)
    model = models.build("resnet_cifar", depth=8, width=4, input_shape=(8, 8, 3), num_classes=3)
    fused = fuse_batch_normalization(model)
    rng = np.random.default_rng(0)
    x, y = rng.random((24, 8, 8, 3), "float32"), rng.integers(0, 3, 24)
    losses = []
    for each in (model, fused):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        each.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
        history = each.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)
    np.testing.assert_allclose(fused.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-3)


def test_a_fused_model_fuses_again():
    fused = fuse_batch_normalization(randomized(nested_model()))
    assert fused_names(fuse_batch_normalization(fused)) == fused_names(fused)


@pytest.mark.parametrize("kind", ["sequential", "applications", "without"])
def test_other_models(kind):
    if kind == "sequential":
        model = keras.Sequential([keras.Input((6, 6, 2)), layers.BatchNormalization(name="bn")])
    elif kind == "applications":
        model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=3)
    else:
        model = keras.Sequential([keras.Input((6, 6, 2)), layers.Flatten()])
    fused = fuse_batch_normalization(randomized(model))
    assert type(fused) is type(model)
    assert fused_names(fused) == plain_names(model)
    x = np.random.default_rng(0).random((2, *model.input_shape[1:]), "float32")
    np.testing.assert_allclose(fused(x), model(x), rtol=1e-4, atol=1e-5)


def test_its_config_is_plain_keras():
    model = nested_model()
    fused = fuse_batch_normalization(model)
    assert fused.get_config() == model.get_config()
    rebuilt = keras.Model.from_config(fused.get_config())
    assert plain_names(rebuilt) == plain_names(model)
    assert fused_names(rebuilt) == fused_names(keras.models.clone_model(fused)) == []


def test_its_file_loads_where_tfeffi_is_not_installed(tmp_path):
    fused = fuse_batch_normalization(randomized(nested_model()))
    fused.compile("sgd", "mse")
    x = np.random.default_rng(1).normal(size=(6, 8, 8, 4)).astype("float32")
    fused.save(tmp_path / "model.keras")
    fused.save_weights(tmp_path / "model.weights.h5")
    np.save(tmp_path / "x.npy", x)
    load = """
        import pathlib, keras, numpy as np
        folder = pathlib.Path(sys.argv[1])
        model = keras.saving.load_model(folder / "model.keras")
        np.save(folder / "y.npy", model(np.load(folder / "x.npy"), training=False))
        model.load_weights(folder / "model.weights.h5")
        kinds = [type(layer).__name__ for layer in model.get_layer("inner").layers]
        assert kinds == ["Conv2D", "BatchNormalization"], kinds
        try:
            import tfeffi
        except ImportError:
            print("loaded without tfeffi")
    """
    printed = run(textwrap.dedent(BLOCKED) + textwrap.dedent(load), tmp_path)
    assert "loaded without tfeffi" in printed
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), fused(x), atol=0.05)


def test_its_file_holds_the_same_weights(tmp_path):
    """In float32, bit for bit, and a plain model reads the fused one's weights."""
    model = randomized(
        models.build("resnet_cifar", depth=8, width=4, input_shape=(8, 8, 3), num_classes=3)
    )
    fuse_batch_normalization(model).save_weights(tmp_path / "fused.weights.h5")
    other = randomized(
        models.build("resnet_cifar", depth=8, width=4, input_shape=(8, 8, 3), num_classes=3), 1
    )
    other.load_weights(tmp_path / "fused.weights.h5")
    for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_replicas():
    """Under MirroredStrategy each replica takes its own statistics, as Keras's layer does."""
    run("""
        import keras, numpy as np, tensorflow as tf
        from tfeffi.layers import fuse_batch_normalization

        cpu = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        x = np.random.default_rng(0).normal(1, 2, (8, 4, 4, 3)).astype("float32")
        found = []
        with strategy.scope():
            inputs = keras.Input((4, 4, 3))
            plain = keras.Model(inputs, keras.layers.BatchNormalization(momentum=0.5)(inputs))
            fused = fuse_batch_normalization(plain)
        for model in (plain, fused):
            optimizer = keras.optimizers.SGD(0.1)
            with strategy.scope():
                optimizer.build(model.trainable_variables)

            def step(x, model=model, optimizer=optimizer):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_sum(model(x, training=True) ** 3)
                variables = model.trainable_variables
                optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
                return loss

            @tf.function
            def replicated(x):
                return strategy.run(step, args=(x,))

            batches = tf.data.Dataset.from_tensor_slices(x).batch(8)
            for batch in strategy.experimental_distribute_dataset(batches):
                replicated(batch)
            found.append(model.get_weights())
        assert strategy.num_replicas_in_sync == 2
        assert np.abs(found[0][2]).max() > 0.1
        for ours, theirs in zip(found[1], found[0], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    """)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("model", "message"),
    [(Subclassed(name="mine"), '"mine" is subclassed'), ("model.keras", "expected a keras.Model")],
)
def test_bad_input(model, message):
    with pytest.raises(BadInput, match=message) as raised:
        fuse_batch_normalization(model)
    assert "\n" not in str(raised.value)


def test_autograph_does_not_get_in_the_way():
    fused = fuse_batch_normalization(nested_model())
    call = tf.function(lambda x: fused(x, training=True), autograph=True)
    assert call(np.ones((4, 8, 8, 4), "float32")).shape == (4, 256)
