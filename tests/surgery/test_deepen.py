"""deepen: one more layer, the same function; and a line for what cannot be the identity."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

import tfeffi
from tests.surgery.drawn import STEPS, Drawn, gap, images, randomize
from tfeffi.errors import BadInput
from tfeffi.surgery import deepen, widen

CODE = st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 63), st.integers(0, 63))
GRAPH = st.tuples(st.lists(CODE, min_size=1, max_size=4), st.integers(0, 99), st.booleans())


def blocks():
    """conv a (5×5, stride 2) ─ bn ─ relu ─ conv b ─ add ─ flatten ─ dense c ─ softmax."""
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(
        6, 5, strides=2, padding="same", use_bias=False, kernel_regularizer="l2", name="a"
    )(x)
    x = r = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.Conv2D(6, 2, padding="same", name="b")(x)
    x = layers.Conv2D(4, 1, activation="relu6", name="six")(layers.Add(name="add")([x, r]))
    x = layers.Dense(7, activation="relu", name="c")(layers.Flatten(name="flat")(x))
    x = layers.Dense(5, activation="gelu", name="smooth")(x)
    x = layers.Dense(5, name="logits")(x)
    model = keras.Model(inputs, layers.Softmax(name="probabilities")(x))
    randomize(model, 4)
    return model


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(GRAPH, st.data())
def test_every_layer_of_random_graphs(graph, data):
    codes, seed, dense_head = graph
    drawn = Drawn(codes, seed=seed, dense_head=dense_head)
    name = data.draw(st.sampled_from([n for n in drawn.writes if n != "logits"]))
    x = images(drawn.model)
    try:
        made = deepen(drawn.model, name)
    except BadInput as error:
        known = "is not idempotent", "is no layer with weights", "makes an output of the model"
        assert any(says in str(error) for says in known)
        return
    assert gap(drawn.model(x), made(x)) <= 1e-5
    assert made.count_params() > drawn.model.count_params()


@pytest.mark.parametrize(
    ("after", "names", "kernel"),
    [
        ("a", ["relu", "a_deeper", "a_deeper_activation"], (5, 5, 6, 6)),
        ("bn", ["relu", "bn_deeper", "bn_deeper_activation"], (3, 3, 6, 6)),
        ("relu", ["relu", "relu_deeper", "relu_deeper_activation"], (3, 3, 6, 6)),
        ("b", ["b", "b_deeper", "add"], (3, 3, 6, 6)),  # linear: nothing stands before the addition
        ("six", ["six", "six_deeper", "flat"], (1, 1, 4, 4)),
        ("c", ["c", "c_deeper", "smooth"], (7, 7)),
        ("flat", ["flat", "flat_deeper", "c"], (64, 64)),
    ],
)
def test_it_stands_at_the_end_of_the_block(after, names, kernel):
    model = blocks()
    made = deepen(model, after)
    x = images(model)
    assert gap(model(x), made(x)) <= 1e-5
    order = [layer.name for layer in made.layers]
    start = order.index(names[0])
    assert order[start : start + 3] == names
    new = made.get_layer(names[1])
    assert new.kernel.shape == kernel and not np.array(new.bias).any()
    assert made.count_params() == model.count_params() + np.prod(kernel) + kernel[-1]
    if after == "a":
        assert isinstance(new.kernel_regularizer, keras.regularizers.L2) and new.strides == (1, 1)
    if after == "six":
        assert new.activation is keras.activations.relu6


def test_the_new_layer_is_one_like_any_other():
    """Its weights train, and it can be deepened and widened itself."""
    model = blocks()
    twice = deepen(deepen(model, "a"), "a")
    assert {"a_deeper", "a_deeper_2"} <= {layer.name for layer in twice.layers}
    wide, _ = widen(twice, {"a_deeper": 9})
    x = images(model)
    assert gap(model(x), wide(x)) <= 1e-5
    paths = {v.path for v in twice.trainable_variables}
    assert {"a_deeper/kernel", "a_deeper_2/bias"} <= paths


@pytest.mark.parametrize("after", ["a", "six", "c", "b"])
@pytest.mark.parametrize("batched", [False, True])
def test_batch_normalization_starts_as_the_identity(after, batched):
    import tensorflow as tf

    model = blocks()
    x = 1 + 2 * images(model, 40)
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(40))).batch(7) if batched else x
    made = deepen(model, after, batch_normalization=True, data=data)
    norm = made.get_layer(f"{after}_deeper_bn")
    assert made.get_layer(f"{after}_deeper").use_bias is False
    assert gap(model(x), made(x)) <= 1e-5
    inner = keras.Model(made.input, [made.get_layer(f"{after}_deeper").output, norm.output])
    before, behind = inner(x, training=False)
    assert gap(before, behind) <= 1e-5
    rows = np.array(before).reshape(-1, before.shape[-1])
    np.testing.assert_allclose(norm.moving_mean, rows.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, rows.var(axis=0), rtol=1e-4, atol=1e-5)
    assert gap(behind, norm(before, training=True)) <= 1e-4  # on the whole data, in training too


def test_other_ranks_nested_and_shared_layers():
    x = inputs = keras.Input((12, 3))
    x = layers.Conv1D(4, 4, padding="causal", activation="relu", name="one")(x)
    inner_input = keras.Input((12, 4))
    inner = layers.Conv1D(4, 3, padding="same", activation="relu", name="two")(inner_input)
    nested = keras.Model(inner_input, inner, name="nested")
    dense = layers.Dense(4, activation="relu", name="every_step")
    model = keras.Model(inputs, layers.GlobalMaxPooling1D()(dense(dense(nested(x)))))
    randomize(model, 5)
    x = images(model)
    for after in ("one", "nested/two"):
        made = deepen(model, after, kernel_size=5)
        assert gap(model(x), made(x)) <= 1e-5
    made = deepen(model, "one", padding="causal", dilation_rate=2)
    assert gap(model(x), made(x)) <= 1e-5
    made = deepen(model, "every_step")
    assert made.get_layer("every_step_deeper").kernel.shape == (4, 4)
    assert gap(model(x), made(x)) <= 1e-5


def test_sequential_models_and_files(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, activation="relu", name="fc", dtype="mixed_bfloat16"),
            layers.Dense(2, name="out", dtype="float32"),
        ]
    )
    made = deepen(model, "fc", name="more", kernel_regularizer="l2")
    made.save(tmp_path / "deeper.keras")
    assert made.get_layer("more").dtype_policy.name == "mixed_bfloat16"
    x = images(model)
    np.testing.assert_array_equal(model(x), keras.models.load_model(tmp_path / "deeper.keras")(x))


@pytest.mark.parametrize(
    ("after", "arguments", "says"),
    [
        ("smooth", {}, r'the activation of "smooth" \(Dense\) is not idempotent'),
        ("logits", {}, r'the activation of "probabilities" \(Softmax\) is not idempotent'),
        ("add", {}, '"add" takes several tensors; name the layer that follows it'),
        ("a", {"kernel_size": 4}, "kernel_size=4 must be odd"),
        ("a", {"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\) must be odd"),
        ("a", {"strides": 2}, r"strides=\(2, 2\): a layer that skips positions is no identity"),
        ("a", {"padding": "valid"}, 'padding="valid" cuts the border off'),
        ("a", {"groups": 2}, "groups=2: only a full kernel is made"),
        ("a", {"filters": 9}, "the new layer must be 6 wide"),
        ("a", {"activation": "tanh"}, 'the activation is that of "relu"; give none'),
        ("a", {"unknown": 1}, "Conv2D: .*unknown"),
        (
            "a",
            {"batch_normalization": True},
            "batch_normalization=True measures its input; give it",
        ),
        ("c", {"kernel_size": 3}, 'after "c" comes a Dense layer, which has no kernel_size'),
    ],
)
def test_bad_input(after, arguments, says):
    with pytest.raises(BadInput, match=f"^deepen: .*{says}") as error:
        deepen(blocks(), after, **arguments)
    assert "\n" not in str(error.value)


def test_what_has_no_end_or_no_data():
    model = blocks()
    with pytest.raises(BadInput, match='layer "aa" is not in the model; did you mean "a"'):
        deepen(model, "aa")
    for data, says in (
        (np.zeros((0, 8, 8, 3), np.float32), "the data is empty"),
        (np.zeros((4, 8, 8, 1), np.float32), r"the data has shapes \[\(8, 8, 1\)\]"),
    ):
        with pytest.raises(BadInput, match=says):
            deepen(model, "a", batch_normalization=True, data=data)
    inputs = keras.Input((4,), name="image")
    linear = keras.Model(inputs, layers.Dense(2, name="logits")(inputs))
    with pytest.raises(BadInput, match='"logits" makes an output of the model'):
        deepen(linear, "logits")
    with pytest.raises(BadInput, match='"image" is no layer with weights'):
        deepen(linear, "image")
    assert tfeffi.deepen is deepen
