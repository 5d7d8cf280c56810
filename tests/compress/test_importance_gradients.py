"""Taylor and Fisher: against the true change of the loss, finite differences and any batching."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.surgery.drawn import randomize
from tfeffi.compress import Budget, prune
from tfeffi.compress.prune import gates, importance
from tfeffi.data import Images
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((30, 6, 6, 3), np.float32)
LABELS = RANDOM.integers(0, 4, 30)


def net(head=None, classes=4):
    """conv a, conv b added to it (both read by c, a also by b), conv c, dense."""
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="a")(x)
    x = a = layers.Activation("tanh")(layers.BatchNormalization()(x))
    x = layers.Conv2D(4, 3, padding="same", activation="tanh", name="b")(x)
    x = layers.Conv2D(6, 3, strides=2, activation="tanh", name="c")(layers.Add()([x, a]))
    x = layers.Dense(classes, activation=head, name="logits")(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    randomize(model, 4)
    return model


@pytest.fixture(scope="module")
def model():
    return net()


def losses(model, images=IMAGES, labels=LABELS):
    """In float64, from the model's logits."""
    logits = np.array(model(images), np.float64)
    logits -= logits.max(1, keepdims=True)
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]


READERS = {"a": ["b", "c"], "c": ["logits"]}


@pytest.mark.parametrize("writer", READERS)
def test_the_gate_gradient_is_the_change_of_the_loss_to_first_order(model, writer):
    coupling = Coupling.of(model)
    found = gates.measure(coupling, (IMAGES, LABELS))
    kernels = [model.get_layer(name).kernel for name in READERS[writer]]
    before, step = [np.array(kernel) for kernel in kernels], 2e-3
    for channel, one in enumerate(coupling.writers[writer]):
        change = []
        for gate in (1 - step, 1 + step):
            for kernel, value in zip(kernels, before, strict=True):
                closed = value.copy()
                width = len(coupling.writers[writer])
                closed[(slice(None),) * (closed.ndim - 2) + (slice(channel, None, width),)] *= gate
                kernel.assign(closed)
            change.append(losses(model))
        for kernel, value in zip(kernels, before, strict=True):
            kernel.assign(value)
        each = (change[0] - change[1]) / (2 * step)  # by closing the gate, of each example
        np.testing.assert_allclose(found.signed[one], each.sum(), rtol=1e-2, atol=3e-2)
        np.testing.assert_allclose(found.absolute[one], np.abs(each).sum(), rtol=1e-2)
        np.testing.assert_allclose(found.squares[one], np.square(each).sum(), rtol=1e-2)


def linear(width=4):
    """Input -> identity "a" -> one number; every a·w is known."""
    model = keras.Sequential(
        [
            keras.Input((width,)),
            layers.Dense(width, use_bias=False, name="a"),
            layers.Dense(1, use_bias=False, name="out"),
        ]
    )
    model.set_weights([np.eye(width), RANDOM.normal(size=(width, 1))])
    return model


def closed(model, channel):
    """The model without a channel: its row is zero."""
    kernel, rows = model.get_weights()
    rows[channel] = 0
    other = linear(len(rows))
    other.set_weights([kernel, rows])
    return other


def test_taylor_is_exact_for_a_linear_loss():
    model, x = linear(), RANDOM.normal(size=(20, 4)).astype("float32")
    weights = RANDOM.normal(size=20).astype("float32")
    coupling = Coupling.of(model)
    scores = importance.taylor(
        coupling, (x, weights), loss=lambda y, out: y * out[:, 0], normalization="none"
    )
    before = (weights * np.array(model(x))[:, 0]).mean()
    for channel, one in enumerate(coupling.writers["a"]):
        after = (weights * np.array(closed(model, channel)(x))[:, 0]).mean()
        np.testing.assert_allclose(scores.values[one], abs(after - before), rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 8, 40])
def test_fisher_is_exact_for_a_quadratic_loss_at_its_minimum(batch):
    """Targets one above and one below what the model says: the batch's mean gradient is zero, and
    so would be the importance of whoever squared it."""
    model, x = linear(), RANDOM.normal(size=(20, 4)).astype("float32")
    said = np.array(model(x))[:, 0]
    x, targets = np.concatenate([x, x]), np.concatenate([said + 1, said - 1])

    def loss(y, out):
        return tf.square(y - out[:, 0]) / 2

    coupling = Coupling.of(model)
    data = tf.data.Dataset.from_tensor_slices((x, targets)).batch(batch)
    scores = importance.fisher(coupling, data, loss=loss)
    for channel, one in enumerate(coupling.writers["a"]):
        after = np.square(targets - np.array(closed(model, channel)(x))[:, 0]).mean() / 2
        np.testing.assert_allclose(scores.values[one], after - 0.5, rtol=1e-4)
        assert scores.values[one] > 1e-3
    taylor = importance.taylor(coupling, data, loss=loss, normalization="none")
    assert np.abs(taylor.values[coupling.writers["a"]]).max() < 1e-5


@pytest.mark.parametrize("loss", ["cross_entropy", "argmax", "sampled"])
def test_the_batch_size_does_not_matter(model, loss):
    coupling = Coupling.of(model)
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    one, several, together = (
        gates.measure(coupling, data.batch(size), loss=loss, seed=3) for size in (1, 7, 30)
    )
    for quantity in ("signed", "absolute", "squares", "count"):
        for other in (one, several):
            np.testing.assert_allclose(
                getattr(other, quantity), getattr(together, quantity), rtol=1e-4, atol=1e-4
            )


def test_a_pass_holds_so_many_activations_at_most(model, monkeypatch):
    coupling = Coupling.of(model)
    whole = importance.fisher(coupling, (IMAGES, LABELS)).values
    monkeypatch.setattr(gates, "FLOATS", 2000)  # two or three images
    np.testing.assert_allclose(
        importance.fisher(coupling, (IMAGES, LABELS)).values, whole, rtol=1e-4
    )


def test_one_gate_for_all_readers_unless_they_are_reduced(model):
    coupling = Coupling.of(model)
    found = gates.measure(coupling, (IMAGES, LABELS))
    at = coupling.writers["a"]
    at_b, at_c = (dict(found.places)[name] for name in "bc")
    np.testing.assert_allclose(found.signed[at], (at_b.signed + at_c.signed)[at], rtol=1e-5)
    assert not np.allclose(found.squares[at], (at_b.squares + at_c.squares)[at], rtol=1e-2)
    assert found.count[at].tolist() == [30 * 72] * 4 and at_b.count[at].tolist() == [30 * 36] * 4
    expected = {"sum": np.add, "max": np.maximum, "prod": np.multiply, "first": lambda b, _: b}
    for reduction, join in expected.items():
        values = importance.fisher(coupling, (IMAGES, LABELS), reduction=reduction).values
        np.testing.assert_allclose(
            values[at], join(at_b.squares[at] / 60, at_c.squares[at] / 60), rtol=1e-5
        )


def test_sampled_classes_give_the_true_fisher_information():
    """One example, many times: g = a·Σ_k w_k(y_k − p_k), of variance a²·(Σ p w² − (Σ p w)²)."""
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(2, use_bias=False, name="a"), layers.Dense(3)]
    )
    rows = np.array([[1.0, -0.5, 0], [0.2, 0.9, -1]])
    model.set_weights([np.eye(2), rows, np.array([0.3, 0, -0.2])])
    a = np.array([1.5, -0.5])
    p = np.exp(a @ rows + [0.3, 0, -0.2])
    p /= p.sum()
    expected = np.square(a) * (np.square(rows) @ p - np.square(rows @ p)) / 2
    coupling = Coupling.of(model)
    found = importance.fisher(coupling, np.tile(a, (20_000, 1)), loss="self")
    np.testing.assert_allclose(found.values[coupling.writers["a"]], expected, rtol=0.05)
    again = importance.fisher(coupling, np.tile(a, (20_000, 1)), loss="sampled", seed=1)
    assert (again.values != found.values).any()


def test_labels_of_its_own_are_the_likeliest_classes(model):
    own = np.array(model(IMAGES)).argmax(1)
    coupling = Coupling.of(model)
    for loss in ("self", "argmax"):
        found = importance.taylor(coupling, IMAGES, loss=loss)
        np.testing.assert_allclose(
            found.values, importance.taylor(coupling, (IMAGES, own)).values, rtol=1e-5
        )


def test_every_head_gives_the_same_loss(model):
    expected = importance.fisher(Coupling.of(model), (IMAGES, LABELS)).values
    softmax = net("softmax")
    after = keras.Model(model.input, layers.Softmax()(model.output))
    shaped = keras.Model(
        model.input, layers.Reshape((4,))(layers.Activation("linear")(model.output))
    )
    for other in (softmax, after, shaped):
        found = importance.fisher(Coupling.of(other), (IMAGES, LABELS)).values
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    found = importance.fisher(Coupling.of(model), (IMAGES, LABELS), loss=keras_loss).values
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_one_sigmoid_unit_is_two_classes():
    labels = LABELS % 2
    binary, two = net("sigmoid", 1), net(classes=2)
    for one, other in zip(binary.layers[:-1], two.layers[:-1], strict=True):
        other.set_weights(one.get_weights())
    kernel, bias = binary.get_layer("logits").get_weights()
    zero = np.zeros_like
    two.get_layer("logits").set_weights(
        [np.concatenate([zero(kernel), kernel], 1), np.concatenate([zero(bias), bias])]
    )
    one, other = Coupling.of(binary), Coupling.of(two)
    found = importance.fisher(one, (IMAGES, labels)).values
    expected = importance.fisher(other, (IMAGES, labels[:, None])).values
    for layer in ("a", "c"):
        np.testing.assert_allclose(
            found[one.writers[layer]], expected[other.writers[layer]], rtol=1e-3
        )


def test_labels_may_come_in_many_forms(model):
    coupling = Coupling.of(model)
    pixels = np.rint(IMAGES * 255).astype("uint8")
    data = {
        "pair": (pixels / np.float32(255), LABELS),
        "column": (pixels / np.float32(255), LABELS[:, None].astype("float32")),
        "one-hot": (pixels / np.float32(255), np.eye(4)[LABELS]),
        "images": Images.from_arrays(pixels, LABELS),
    }
    found = {form: importance.fisher(coupling, one).values for form, one in data.items()}
    for form, values in found.items():
        np.testing.assert_allclose(values, found["pair"], rtol=1e-4, err_msg=form)


def test_reconstruction_needs_no_labels():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(6, 3, padding="same", activation="tanh", name="a")(inputs)
    model = keras.Model(inputs, layers.Conv2D(1, 3, padding="same", name="out")(x))
    x = RANDOM.random((12, 8, 8, 1), np.float32)
    _, report = prune(
        model, Budget(macs=0.6), importance="fisher", data=x, loss="reconstruction", multiple_of=1
    )
    assert report.changed and report.settings["loss"] == "reconstruction"
    found = importance.fisher(Coupling.of(model), x, loss="reconstruction").values

    def loss(y, out):
        return tf.reduce_mean(tf.square(y - out), [1, 2, 3])

    given = importance.fisher(Coupling.of(model), (x, x), loss=loss).values
    np.testing.assert_allclose(found, given, rtol=1e-5)


def many_outputs():
    x = keras.Input((6, 6, 3))
    y = layers.Flatten()(layers.Conv2D(4, 3)(x))
    return keras.Model(x, [layers.Dense(2)(y), layers.Dense(2)(y)])


BAD = [
    (net, dict(data=IMAGES), "needs labels; give data of .* or loss=\"self\""),
    (net, dict(data=tf.data.Dataset.from_tensor_slices(IMAGES).batch(9)), "needs labels"),
    (net, dict(data=(IMAGES, LABELS[:7])), "30 inputs with 7 labels"),
    (net, dict(data=(IMAGES, LABELS + 3)), "label [456] is not one of the 4 classes 0 … 3"),
    (net, dict(data=(IMAGES, LABELS - 1)), "label -1 is not one of the 4 classes"),
    (net, dict(data=(IMAGES, LABELS + 0.5)), r"label \d.5 is not one of"),
    (net, dict(data=(IMAGES, np.eye(5)[LABELS])), r"labels of shape \(30, 5\) do not fit outputs"),
    (net, dict(data=(IMAGES[:, :5], LABELS)), r"shape \(30, 5, 6, 3\), input"),
    (net, dict(data=(IMAGES[:0], LABELS[:0])), "the data is empty"),
    (net, dict(data=(IMAGES * np.nan, LABELS)), "the data holds values that are not finite"),
    (net, dict(data=(IMAGES, LABELS), loss="selfe"), 'no loss "selfe"; did you mean "self"'),
    (net, dict(data=(IMAGES, LABELS), loss=lambda y, out: tf.reduce_mean(out)), "one number for ea"),
    (net, dict(data=IMAGES, loss="reconstruction"), r"outputs of shape \(.*, 4\) with inputs"),
    (lambda: net("relu"), dict(data=(IMAGES, LABELS)), "activation relu may be neither"),
    (lambda: net("sigmoid"), dict(data=(IMAGES, LABELS)), "activation sigmoid may be neither"),
    (lambda: net(None, 1), dict(data=(IMAGES, LABELS)), "with 1 values and activation linear"),
    (many_outputs, dict(data=(IMAGES, LABELS)), "the model has 2 outputs, .* take one"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "arguments", "says"), BAD, ids=[says for *_, says in BAD])
@pytest.mark.parametrize("name", ["taylor", "fisher"])
def test_bad_input(name, build, arguments, says):
    with pytest.raises(BadInput, match=f"^prune: .*{says}") as error:
        prune(build(), Budget(macs=0.5), importance=name, **arguments)
    assert "\n" not in str(error.value)
