"""reindex by name: orders, pins, what is kept of a model, what it says to bad input."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.drawn import gap, images, randomize
from tfeffi.errors import BadInput
from tfeffi.surgery import groups, reindex


def residual():
    """conv a ─ bn ─ relu ─ conv b ─ add(a) ─ concat(b) ─ flatten ─ dense."""
    x = inputs = keras.Input((5, 5, 3))
    x = layers.Conv2D(6, 3, padding="same", name="a")(x)
    x = a = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    b = layers.Conv2D(6, 3, padding="same", name="b")(x)
    c = layers.Conv2D(4, 1, activation="tanh", name="c")(a)
    x = layers.Concatenate(name="concat")([layers.Add(name="add")([a, b]), c])
    x = layers.Flatten(name="flatten")(x)
    model = keras.Model(inputs, layers.Dense(3, name="logits")(x), name="residual")
    randomize(model, 3)
    return model


def test_any_order_computes_the_same():
    model = residual()
    turned, _ = reindex(model, {"a": [5, 0, 3, 1, 2, 4], "c": [3, 2, 1, 0]})
    x = images(model)
    assert gap(model(x), turned(x)) <= 1e-5
    np.testing.assert_array_equal(
        turned.get_layer("b").kernel, np.array(model.get_layer("b").kernel)
        [:, :, [5, 0, 3, 1, 2, 4]][..., [5, 0, 3, 1, 2, 4]]
    )  # fmt: skip


def test_net2wider_as_in_the_paper():
    """Copies at the end, in any order, some channels more often than others."""
    model = residual()
    wide, _ = reindex(model, {"b": [0, 1, 2, 3, 4, 5, 2, 2, 0], "c": [0, 1, 2, 3, 1]})
    x = images(model)
    assert gap(model(x), wide(x)) <= 1e-5
    assert wide.get_layer("a").filters == 9 and wide.get_layer("concat").output.shape[-1] == 14


def test_wider_then_back():
    model = residual()
    wide, _ = reindex(model, {"a": [0, 0, 1, 2, 3, 4, 5]})
    wider, _ = reindex(wide, {"a": [0, 1, 2, 3, 4, 5, 6, 6], "c": [0, 0, 1, 2, 3]})
    x = images(model)
    assert gap(model(x), wider(x)) <= 1e-5


def test_a_layer_that_passes_channels_can_be_named():
    model = residual()
    by_conv, _ = reindex(model, {"a": [0, 2]})
    by_relu, _ = reindex(model, {"relu": [0, 2]})
    x = images(model)
    np.testing.assert_array_equal(by_conv(x), by_relu(x))


def test_removing_zero_channels_is_exact():
    model = residual()
    for name in ("a", "b"):
        kernel, bias = model.get_layer(name).get_weights()
        kernel[..., 1], bias[1] = 0, 0
        model.get_layer(name).set_weights([kernel, bias])
    bn = model.get_layer("bn")
    gamma, beta, mean, variance = bn.get_weights()
    beta[1] = mean[1] = 0
    bn.set_weights([gamma, beta, mean, variance])
    small, _ = reindex(model, {"a": [0, 2, 3, 4, 5]})
    x = images(model)
    assert gap(model(x), small(x)) <= 1e-6
    assert small.count_params() < model.count_params()


def test_what_a_model_is_stays():
    x = inputs = keras.Input((6, 6, 3), name="picture")
    x = layers.Conv2D(
        8, 3, name="a", dtype="mixed_bfloat16", trainable=False, kernel_regularizer="l2",
        kernel_constraint=keras.constraints.MaxNorm(3),
    )(x)  # fmt: skip
    x = layers.BatchNormalization(name="bn", momentum=0.7)(x)
    x = layers.Dropout(0.3, name="drop", seed=4)(x)
    x = layers.Dense(4, name="fc", activation="relu")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Dense(2, name="logits", dtype="float32")(x), name="kept")
    small, _ = reindex(model, {"a": [1, 4, 7], "fc": [0, 3]})
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    assert small.name == "kept" and small.inputs[0].name == "picture"
    for old, new in zip(model.layers, small.layers, strict=True):
        was, now = old.get_config(), new.get_config()
        changed = {key for key in was if was[key] != now[key]}
        assert changed <= {"filters", "units"}, (old.name, changed)
    assert [v.path for v in small.trainable_variables] == [
        v.path for v in model.trainable_variables
    ]
    assert type(small) is type(model)


def test_sequential_stays_sequential():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(6, 3, activation="relu", name="a"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(4, name="fc"),
        ]
    )
    small, _ = reindex(model, {"a": [0, 5]})
    assert isinstance(small, keras.Sequential) and small.count_params() == 20 + 18 * 4 + 4
    assert small(images(model)).shape == (3, 4)


def test_several_inputs_and_outputs():
    one, two = keras.Input((4,), name="one"), keras.Input((5,), name="two")
    a = layers.Dense(6, activation="relu", name="a")(one)
    b = layers.Dense(6, activation="relu", name="b")(two)
    both = layers.Add()([a, b])
    outputs = {"sum": layers.Dense(2, name="s")(both), "b": b}
    model = keras.Model([one, two], outputs)
    with pytest.raises(BadInput, match="output of the model"):
        reindex(model, {"a": [0, 1]})
    free = keras.Model([one, two], {"sum": outputs["sum"], "t": layers.Dense(1, name="t")(b)})
    small, _ = reindex(free, {"a": [0, 1]})
    assert small.get_layer("b").units == 2 and set(small.output) == {"sum", "t"}


def test_a_dense_layer_before_a_reshape_follows_the_image():
    """The head of a decoder: Dense -> Reshape(h, w, c) -> Conv2DTranspose."""
    model = keras.Sequential(
        [
            keras.Input((7,)),
            layers.Dense(3 * 3 * 8, activation="relu", name="fc"),
            layers.Reshape((3, 3, 8), name="image"),
            layers.Conv2DTranspose(4, 3, strides=2, padding="same", name="up"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2, name="out"),
        ]
    )
    randomize(model, 0)
    small, _ = reindex(model, {"image": [0, 2, 7]})
    assert small.get_layer("fc").units == 27 and small.get_layer("image").target_shape == (3, 3, 3)
    kernel = np.array(model.get_layer("up").kernel)
    kernel[..., [1, 3, 4, 5, 6]] = 0
    model.get_layer("up").kernel.assign(kernel)
    x = images(model)
    assert gap(model(x), small(x)) <= 1e-5


def test_a_shuffle_of_groups():
    """ShuffleNet: reshape to groups, permute, reshape back."""
    x = inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(x)
    x = layers.Reshape((4, 4, 2, 4))(x)
    x = layers.Permute((1, 2, 4, 3))(x)
    x = layers.Reshape((4, 4, 8))(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="b")(x))
    randomize(model, 1)
    small, _ = reindex(model, {"a": [0, 3, 4, 7]})
    kernel = np.array(model.get_layer("b").kernel)
    kernel[:, :, [2, 3, 4, 5]] = 0  # a's 1, 5, 2, 6 after the shuffle
    model.get_layer("b").kernel.assign(kernel)
    x = images(model)
    assert gap(model(x), small(x)) <= 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        layers.LayerNormalization(name="pin"),
        layers.Softmax(name="pin"),
        layers.Activation("softmax", name="pin"),
        layers.Lambda(lambda x: x[..., ::-1], name="pin"),
        layers.GroupNormalization(1, name="pin"),
        layers.TimeDistributed(layers.Softmax(), name="pin"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_needs_all_channels_pins_them(layer):
    x = inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="a")(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="b")(layer(x))
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="c")(x))
    with pytest.raises(BadInput, match=r'channel 1 of "a" must stay: .*pin'):
        reindex(model, {"a": [0, 2, 3, 4, 5]})
    found = {group.writers: group.pinned for group in groups(model)}
    assert found[("b",)] is None and '"pin"' in found[("a",)]
    if not isinstance(layer, layers.Lambda):
        small, _ = reindex(model, {"b": [1, 2]})
        assert small.get_layer("b").filters == 2


def test_the_file_loads_without_tfeffi(tmp_path):
    model = residual()
    small, _ = reindex(model, {"a": [0, 2, 5], "c": [1]})
    small.save(tmp_path / "small.keras")
    x = images(model)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys; sys.modules['tfeffi'] = None\n"
        "import keras, numpy as np\n"
        f"m = keras.saving.load_model(r'{tmp_path / 'small.keras'}')\n"
        f"np.save(r'{tmp_path / 'y.npy'}', m(np.load(r'{tmp_path / 'x.npy'}')))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), small(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"aa": [0]}, 'layer "aa" is not in the model; did you mean "a"'),
        ({"a": [0, 6]}, 'channel 6 of "a" is not there; it has 0 to 5'),
        ({"a": [-1]}, 'channel -1 of "a" is not there'),
        ({"a": []}, 'no channel of "a" would be left'),
        ({"a": [0.5]}, "give a list of whole numbers"),
        ({"a": [[0], [1]]}, "give a list of whole numbers"),
        ({"logits": [0, 1]}, 'channel 2 of "logits" must stay: it is an output of the model'),
        ({"logits": [1, 0, 2]}, 'the order of "logits" must stay'),
        ({"a": [0, 1], "b": [0, 2]}, '"b" is coupled to "a" and must keep the same channels'),
        ({"a": [1, 0], "b": [0, 1]}, '"b" is coupled to a layer that is given another order'),
        ({"input": [0]}, "is not in the model"),
        ({"flatten": list(range(250))[::-1]}, "cannot take this order"),
        ([0, 1], "expected {layer: channels to keep}"),
    ],
)
def test_bad_wishes(wish, says):
    with pytest.raises(BadInput, match=says) as error:
        reindex(residual(), wish)
    assert "\n" not in str(error.value)


def test_the_input_cannot_change():
    model = residual()
    with pytest.raises(BadInput, match="it is an input of the model"):
        reindex(model, {model.layers[0].name: [0, 1]})


def test_bad_models():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    with pytest.raises(BadInput, match=r"is subclassed \(Mine\); build it as keras\.Model"):
        reindex(Mine(), {"dense": [0]})
    with pytest.raises(BadInput, match=r"is not built; give it a keras\.Input"):
        reindex(keras.Sequential([layers.Dense(2)]), {"dense": [0]})
    with pytest.raises(BadInput, match=r"expected a keras\.Model, got str"):
        reindex("model", {})


def test_a_concatenation_may_not_lose_one_branch_by_an_addition():
    x = inputs = keras.Input((4, 4, 3))
    a, b = layers.Conv2D(2, 1, name="a")(x), layers.Conv2D(3, 1, name="b")(x)
    c = layers.Conv2D(5, 1, name="c")(x)
    x = layers.Add()([layers.Concatenate()([a, b]), c])
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="d")(x))
    with pytest.raises(BadInput, match='no channel of "a" would be left'):
        reindex(model, {"c": [2, 3]})
    small, _ = reindex(model, {"c": [1, 4]})
    assert (small.get_layer("a").filters, small.get_layer("b").filters) == (1, 1)
