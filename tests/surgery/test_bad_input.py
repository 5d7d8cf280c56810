"""What surgery says to models and wishes that it cannot serve: one line, what and what to do."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.drawn import gap, images, randomize
from tfeffi.errors import BadInput
from tfeffi.surgery import New, groups, reindex, replace


def chain(*middle):
    x = inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 3, name="a", activation="relu")(x)
    for layer in middle:
        x = layer(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="b")(x), name="chain")
    randomize(model, 0)
    return model


def says(match, call, *args, **kwargs):
    with pytest.raises(BadInput, match=match) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2, name="dense")

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "surgery",
    [lambda m: reindex(m, {"dense": [0]}), groups, lambda m: replace(m, {"dense": []})],
    ids=["reindex", "groups", "replace"],
)
def test_models_that_cannot_be_read(surgery):
    says(r"subclassed \(Own\); build it as keras\.Model\(inputs, outputs\)", surgery, Own())
    built = Own()
    built(np.zeros((1, 3), "float32"))
    says(r"subclassed \(Own\)", surgery, built)
    says(r"is not built; give it a keras\.Input", surgery, keras.Sequential([layers.Dense(2)]))
    says(r"is not built; give it a keras\.Input", surgery, keras.Sequential())
    says(r"expected a keras\.Model, got Dense", surgery, layers.Dense(2, name="dense"))
    says(r"expected a keras\.Model, got NoneType", surgery, None)


def test_a_subclassed_model_called_on_an_input_is_rebuilt_functionally_and_works():
    inputs = keras.Input((3,))
    own = Own()
    model = keras.Model(inputs, layers.Dense(2, name="b")(own.dense(inputs)))
    small, _ = reindex(model, {"dense": [1]})
    assert small.get_layer("dense").units == 1


class Silent(layers.Layer):
    """Does not tell its config."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x


class Other(layers.Layer):
    """Tells a config that its own __init__ does not take."""

    def call(self, x):
        return x

    def get_config(self):
        return {**super().get_config(), "surprise": 1}


def test_layers_that_keras_does_not_make_again_are_named():
    model = chain(Silent(np.array([2.0, 2, 2, 2, 2, 2]), name="silent"))
    says(r'layer "silent" \(Silent\) does not tell its config; give it a get_config', groups, model)
    model = chain(Other(name="other"), layers.Conv2D(4, 1, name="c"))
    says(r'^surgery: Keras does not rebuild "other" \(.*Other\)', reindex, model, {"c": [0]})


def test_a_model_all_of_whose_channels_are_pinned():
    model = chain(layers.LayerNormalization(name="norm"))
    assert all(group.pinned for group in groups(model))
    says(r'channel 1 of "a" must stay: "norm" \(Layer', reindex, model, {"a": [0, 2, 3, 4, 5]})
    says(r'channel 1 of "b" must stay: it is an output', reindex, model, {"b": [0]})
    same, slices = reindex(model, {})
    np.testing.assert_array_equal(model(images(model)), same(images(model)))
    assert not any(slices.cuts)


@pytest.mark.parametrize(
    ("index", "match"),
    [
        ([], "no channel of \"a\" would be left; keep at least one"),
        (None, "give a list of whole numbers"),
        (3, "give a list of whole numbers"),
        ("0", "give a list of whole numbers"),
        ([0, "1"], "give a list of whole numbers"),
        ([0.0, 1.0], "give a list of whole numbers"),
        ([True, False], "give a list of whole numbers"),
        ([0, [1, 2]], "give a list of whole numbers"),
        ([float("nan")], "give a list of whole numbers"),
        (range(2, 8), r'channel 6 of "a" is not there; it has 0 to 5'),
        ([-1, 0], r'channel -1 of "a" is not there'),
        ([10**12], r"channel 1000000000000 of"),
    ],
)  # fmt: skip
def test_positions_that_are_none(index, match):
    says(match, reindex, chain(), {"a": index})


def test_names_that_are_none():
    for name in ("nope", 3, None, ("a",)):
        says(r'layer ".*" is not in the model', reindex, chain(), {name: [0]})
    for wish in (None, [("a", [0])], "a"):
        says("expected {layer: channels to keep}", reindex, chain(), wish)


def test_a_slice_may_not_be_left_empty():
    x = inputs = keras.Input((4, 4, 3))
    a = layers.Conv2D(6, 1, name="a")(x)
    both = [layers.Conv2D(2, 1, name="b")(a[..., :2]), layers.Conv2D(2, 1, name="c")(a[..., 2:])]
    model = keras.Model(inputs, both)
    says(r'no channel of "get_item" would be left', reindex, model, {"a": [2, 3, 4]})
    says(r'"get_item" .* stand beside each other', reindex, model, {"a": [0, 2, 1, 3]})
    assert [group.size for group in groups(model) if not group.pinned] == [2, 4]
    randomize(model, 0)
    small, _ = reindex(model, {"a": [1, 0, 5, 2]})
    turned, _ = reindex(small, {"a": [1, 0, 3, 2]})
    x = images(model)
    assert gap(small(x), turned(x)) <= 1e-5


def test_weights_that_are_no_numbers_stay_where_they_are():
    """Surgery takes weights as they are; what judges them refuses (prune does)."""
    model = chain()
    kernel, bias = model.get_layer("a").get_weights()
    kernel[..., 1] = np.nan
    model.get_layer("a").set_weights([kernel, bias])
    small, _ = reindex(model, {"a": [0, 2, 3]})
    assert np.isfinite(small(images(model))).all()
    bad, _ = reindex(model, {"a": [0, 1]})
    assert np.isnan(np.array(bad.get_layer("a").kernel)[..., 1]).all()


def test_replace_says_what_does_not_fit():
    model = chain()
    says('"aa" is not in the model', replace, model, {"aa": []})
    says(r"expected New\(layer, weights\), got", replace, model, {"a": [layers.Conv2D(6, 3)]})
    two = [New(layers.Conv2D(6, 3, name="a"), [np.zeros((3, 3, 3, 6), "float32")])]
    says(r"given were \[\(3, 3, 3, 6\)\]", replace, model, {"a": two})
    taken = [New(layers.Conv2D(6, 3, name="b"))]
    says('the name "b" is taken', replace, model, {"a": taken})
    wide = [New(layers.Conv2D(9, 3, name="a"))]
    says("the chain does not fit: .* axis -1 .* value 6", replace, model, {"a": wide})
