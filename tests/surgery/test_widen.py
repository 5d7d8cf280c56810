"""widen: copies of channels that compute the same, on every topology, and optimizers that follow."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

import tfeffi
from tests.surgery.drawn import STEPS, Drawn, gap, images, layer_of, randomize, weight
from tfeffi.errors import BadInput
from tfeffi.surgery import groups, reindex, widen

CODE = st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 63), st.integers(0, 63))
GRAPH = st.tuples(st.lists(CODE, min_size=1, max_size=5), st.integers(0, 99), st.booleans())


def draw(graph):
    codes, seed, dense_head = graph
    return Drawn(codes, seed=seed, dense_head=dense_head)


def family(examples):
    return settings(
        max_examples=examples, suppress_health_check=[HealthCheck.too_slow], derandomize=True
    )


def chain(**arguments):
    """conv a ─ bn ─ relu ─ pool ─ conv b ─ flatten ─ dense c ─ logits."""
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="a")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Conv2D(5, 3, padding="same", activation="relu", name="b")(x)
    x = layers.Dense(7, activation="relu", name="c", **arguments)(layers.Flatten(name="flat")(x))
    model = keras.Model(inputs, layers.Dense(2, name="logits")(x))
    randomize(model, 1)
    return model


@family(25)
@given(GRAPH, st.integers(0, 99), st.sampled_from([1.3, 1.5, 2.0]))
def test_a_factor_for_the_whole_model_changes_nothing(graph, seed, factor):
    model = draw(graph).model
    wide, _ = widen(model, factor, seed=seed)
    x = images(model)
    assert gap(model(x), wide(x)) <= 1e-5
    sizes = [group.size for group in groups(model) if group.pinned is None]
    found = sum(group.size for group in groups(wide) if group.pinned is None)
    assert found == sum(round(factor * size) for size in sizes) > sum(sizes)


@family(20)
@given(GRAPH, st.integers(0, 99), st.data())
def test_any_layer_gets_its_width(graph, seed, data):
    drawn = draw(graph)
    free = [n for n, ids in drawn.writes.items() if drawn.root(ids[0]) in set(drawn.classes())]
    name = data.draw(st.sampled_from(free))
    roots = [drawn.root(i) for i in drawn.writes[name]]
    width = len(roots) + roots.count(roots[0]) * data.draw(st.integers(1, 5))
    wide, _ = widen(drawn.model, {name: width}, seed=seed)
    x = images(drawn.model)
    assert gap(drawn.model(x), wide(x)) <= 1e-5
    kernel = "pointwise_kernel" if "separable" in name else "kernel"
    axis = 2 if "transposed" in name else -1
    assert weight(wide, name, kernel).shape[axis] == width


def test_as_in_the_paper_the_first_channels_stay_and_copies_are_drawn():
    model = chain()
    wide, slices = widen(model, {"a": 9}, seed=3)
    again, _ = widen(model, {"a": 9}, seed=3)
    other, _ = widen(model, {"a": 9}, seed=4)
    old, new = (np.array(m.get_layer("a").kernel) for m in (model, wide))
    np.testing.assert_array_equal(new[..., :4], old)
    source = slices.cuts[slices.paths.index("a/kernel")][0].index
    np.testing.assert_array_equal(new, old[..., source])
    np.testing.assert_array_equal(new, again.get_layer("a").kernel)
    assert not np.array_equal(new, other.get_layer("a").kernel)
    counts = np.bincount(source, minlength=4)
    readers = np.array(model.get_layer("b").kernel) / counts[:, None]
    np.testing.assert_allclose(wide.get_layer("b").kernel, readers[:, :, source], rtol=1e-6)


def test_parameters_are_those_of_the_wider_architecture():
    model = chain()
    wide, _ = widen(model, {"a": 8, "b": 1.4, "c": 10})
    assert wide.get_layer("b").filters == 7
    assert wide.count_params() == (27 * 8 + 4 * 8 + 9 * 8 * 7 + 7 + 9 * 7 * 10 + 10 + 10 * 2 + 2)
    assert [layer.name for layer in wide.layers] == [layer.name for layer in model.layers]


def test_twice_wider_then_back():
    model = chain()
    wide, _ = widen(model, {"a": 6, "c": 9}, seed=1)
    wider, _ = widen(wide, {"a": 11, "b": 8}, seed=2)
    x = images(model)
    assert gap(model(x), wider(x)) <= 1e-5
    back = wider
    for name, width in (("a", 4), ("b", 5), ("c", 7)):
        back = merged(back, name, width)
    assert gap(model(x), back(x)) <= 1e-5
    assert back.count_params() == model.count_params()
    pruned, _ = reindex(wide, {"a": range(4), "c": range(7)})
    for name in ("a", "bn", "b", "c"):  # what makes the channels is what it was
        old, new = (m.get_layer(name).get_weights()[-1] for m in (model, pruned))
        np.testing.assert_array_equal(old, new)


def merged(model, name, width):
    """Drops the copies, after the weights that read them have been added to their source's."""
    kernel = layer_of(model, name).get_weights()[0]
    columns = kernel.reshape(-1, kernel.shape[-1])
    source = [int(np.argmax((columns == c[:, None]).all(axis=0))) for c in columns.T]
    probe, slices = reindex(model, {name: range(width)})
    for variable, cuts in zip(model.variables, slices.cuts, strict=True):
        for cut in cuts:
            if cut.shared and len(cut.index) < variable.shape[cut.axis]:
                value = np.moveaxis(np.array(variable), cut.axis, 0)
                spots = value.reshape(-1, len(source), *value.shape[1:])
                total = np.zeros((len(spots), width, *value.shape[1:]), np.float32)
                for place, origin in enumerate(source):
                    total[:, origin] += spots[:, place]
                total = np.moveaxis(total.reshape(-1, *value.shape[1:]), 0, cut.axis)
                same_path = [v for v in probe.variables if v.path == variable.path]
                same_path[0].assign(total)
    return probe


def residual():
    x = inputs = keras.Input((5, 5, 3))
    x = a = layers.Conv2D(6, 3, padding="same", activation="relu", name="a")(x)
    b = layers.Conv2D(6, 3, padding="same", name="b")(x)
    x = layers.Add(name="add")([a, b])
    g = layers.Conv2D(6, 3, groups=3, padding="same", name="grouped")(x)
    d = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="depthwise")(x)
    x = layers.GlobalAveragePooling2D()(layers.Concatenate(name="concat")([g, d]))
    model = keras.Model(inputs, layers.Dense(3, name="logits")(x))
    randomize(model, 2)
    return model


@pytest.mark.parametrize(
    ("widths", "found"),
    [
        ({"grouped": 12}, (6, 6, 12)),  # as many channels in each of its groups
        ({"a": 9}, (9, 9, 6)),  # b follows a, and a group is three channels
        ({"b": 9, "a": 9, "grouped": 1.5}, (9, 9, 9)),
        ({"add": 12}, (12, 12, 6)),
        ({"a": 6}, (6, 6, 6)),
    ],
)
def test_residuals_groups_and_depthwise(widths, found):
    model = residual()
    wide, _ = widen(model, widths, seed=5)
    x = images(model)
    assert gap(model(x), wide(x)) <= 1e-5
    assert tuple(wide.get_layer(n).filters for n in ("a", "b", "grouped")) == found


def test_noise_moves_the_copies_alone_and_a_little():
    model = chain()
    exact, _ = widen(model, {"a": 7, "c": 12}, seed=3)
    noisy, _ = widen(model, {"a": 7, "c": 12}, seed=3, noise=0.02)
    for before, after in zip(exact.variables, noisy.variables, strict=True):
        if before.path in ("a/kernel", "c/kernel"):
            width = {"a/kernel": 4, "c/kernel": 7}[before.path]
            moved = np.array(after) - np.array(before)
            assert not moved[..., :width].any()
            scale = np.array(layer_of(model, before.path[0]).kernel).std()
            assert 0.01 * scale < moved[..., width:].std() < 0.03 * scale
        else:
            np.testing.assert_array_equal(before, after)
    x = images(model)
    assert 1e-5 < gap(model(x), noisy(x)) < 0.1


@pytest.mark.parametrize("widths", [{"a": 12}, 3.0])
def test_channels_of_which_nothing_is_left_are_not_copied(widths):
    model = chain()
    a, b = (layer_of(model, name) for name in ("a", "b"))
    made, read = np.array(a.kernel), np.array(b.kernel)
    made[..., [0, 1, 3]], read[:, :, [0, 1]] = 0, 0  # the last one is still read
    a.kernel.assign(made)
    b.kernel.assign(read)
    scale = layer_of(model, "bn")
    scale.gamma.assign([0.1, 0.2, 0.3, 0.4])  # by which a channel is known again
    wide, _ = widen(model, widths, seed=0)
    found = np.unique(np.array(layer_of(wide, "bn").gamma)[4:])
    np.testing.assert_allclose(found, [0.3, 0.4], rtol=1e-6)
    x = images(model)
    assert gap(model(x), wide(x)) <= 1e-5


def test_where_nothing_is_left_of_a_layer_it_is_widened_all_the_same():
    model = chain()
    for name in ("a", "b"):
        kernel = layer_of(model, name).kernel
        kernel.assign(np.zeros(kernel.shape))
    for widths in ({"a": 7}, 1.75):
        assert layer_of(widen(model, widths)[0], "a").filters == 7


def step(model, optimizer, x, y):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.square(model(x, training=True) - y))
        loss = optimizer.scale_loss(loss)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(1e-5, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True, epsilon=1e-12),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True, epsilon=1e-12),
    "adamax": lambda: keras.optimizers.Adamax(0.01, epsilon=1e-12),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01, 0.0, epsilon=1e-12),
    "ema": lambda: keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_momentum=0.8),
    "accumulate": lambda: keras.optimizers.SGD(
        0.01, momentum=0.9, gradient_accumulation_steps=3
    ),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01, momentum=0.9)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_slots_are_those_of_a_model_that_was_always_wide(name):
    """The oracle holds the wide model at the narrow one's weights, and gives it its own gradients."""
    codes = [(1, 2, 0), (2, 3, 1), (5, 1, 0), (8, 0, 1)] if name == "momentum" else [(1, 2, 0)]
    model = Drawn(codes, seed=5).model
    x = images(model, 6)
    y = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    narrow, wide = OPTIMIZERS[name](), OPTIMIZERS[name]()
    narrow.build(model.trainable_variables)
    held, slices = widen(model, 1.6, seed=2)
    wide.build(held.trainable_variables)
    for _ in range(3):
        step(model, narrow, x, y)
        step(held, wide, x, y)
        held.set_weights(widen(model, 1.6, seed=2)[0].get_weights())
    followed = slices.apply_to(narrow, held)
    slots = [v for v in followed.variables if v.ndim]
    assert len(slots) >= len(held.trainable_variables)
    for want, got in zip(wide.variables, followed.variables, strict=True):
        if name == "ema" and want.name.endswith("_average"):
            continue  # an average of weights: the oracle's own weights went elsewhere
        size = np.abs(want).max() + 1e-9
        assert np.isfinite(size)
        loose = 5e-3 if name == "rmsprop" else 2e-4  # it divides by a small difference
        np.testing.assert_allclose(want / size, got / size, atol=loose, err_msg=want.path)


def test_an_average_of_weights_is_widened_like_weights():
    model = chain()
    optimizer = OPTIMIZERS["ema"]()
    optimizer.build(model.trainable_variables)
    for slot, variable in zip(
        (v for v in optimizer.variables if v.name.endswith("_average")),
        model.trainable_variables,
        strict=True,
    ):
        slot.assign(variable)
    wide, slices = widen(model, 2.0)
    followed = slices.apply_to(optimizer, wide)
    averages = [v for v in followed.variables if v.name.endswith("_average")]
    for slot, variable in zip(averages, wide.trainable_variables, strict=True):
        np.testing.assert_array_equal(slot, variable)


def test_a_step_of_sgd_moves_makers_less_and_readers_more():
    """What no slot can make equal: with c copies 1/c and c times as far as in the narrow model."""
    model = chain()
    x = images(model, 6)
    y = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    wide, slices = widen(model, {"c": 12}, seed=1)
    source = slices.cuts[slices.paths.index("logits/kernel")][0].index
    counts = np.bincount(source)
    moves = {}
    for one in (model, wide):
        before = {v.path: np.array(v) for v in one.trainable_variables}
        step(one, keras.optimizers.SGD(0.1), x, y)
        moves[one] = {v.path: np.array(v) - before[v.path] for v in one.trainable_variables}
    made, read = moves[model]["c/kernel"], moves[model]["logits/kernel"]
    close = {"rtol": 1e-3, "atol": 1e-6}
    np.testing.assert_allclose(moves[wide]["c/kernel"], (made / counts)[:, source], **close)
    together = np.stack([moves[wide]["logits/kernel"][source == i].sum(axis=0) for i in range(7)])
    np.testing.assert_allclose(together, counts[:, None] * read, **close)


def test_a_wider_model_goes_on_learning():
    data = tfeffi.data.load("fashion_mini", "train").take(1500)
    x, y = np.float32(data.images[::1]) / 255, np.asarray(data.labels)
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Conv2D(4, 5, strides=3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    model.fit(x, y, 64, epochs=2, verbose=0)
    before = model.evaluate(x, y, verbose=0)[0]
    wide, slices = widen(model, {"conv": 12}, noise=1e-2)
    optimizer = slices.apply_to(model.optimizer, wide)
    optimizer.learning_rate.assign(0.02)
    wide.compile(optimizer, loss, metrics=["accuracy"])
    assert wide.evaluate(x, y, verbose=0)[0] == pytest.approx(before, rel=0.02)
    wide.fit(x, y, 64, epochs=3, verbose=0)
    assert wide.evaluate(x, y, verbose=0)[0] < 0.9 * before
    kernel = np.array(wide.get_layer("conv").kernel).reshape(25, 12)
    assert np.linalg.matrix_rank(kernel, tol=1e-3 * np.linalg.norm(kernel, 2)) > 4


@pytest.mark.parametrize(
    ("model", "widths", "says"),
    [
        (chain, {"a": 3}, '"a" has 4 channels, and 3 are fewer; prune makes it narrower'),
        (chain, {"aa": 8}, 'layer "aa" is not in the model; did you mean "a"'),
        (chain, {"logits": 4}, '"logits" must stay: it is an output of the model'),
        (chain, {"a": 0.5}, 'the width of "a" is 0.5; give a whole number of channels'),
        (chain, {"a": "8"}, """the width of "a" is '8'; give a whole number"""),
        (chain, {"a": True}, 'the width of "a" is True'),
        (chain, 2, "widths is 2; give a whole number of channels for each layer, or a factor"),
        (chain, 128.0, "widths is 128.0"),
        (
            chain,
            {"flat": 46},
            'the channels of "flat" come in sets of 9; give it 45 and a multiple',
        ),
        (
            residual,
            {"grouped": 8},
            '"grouped" come in sets of 3; give it 6 and a multiple of 3 more',
        ),
        (residual, {"a": 9, "b": 12}, '"b" is coupled to layers that are given other widths'),
        (residual, {"b": 12, "a": 9}, '"a" would have 12 channels, not 9'),
        (residual, {"concat": 20}, 'some channels of "concat" come as'),
    ],
)
def test_bad_input(model, widths, says):
    with pytest.raises(BadInput, match=f"^widen: .*{says}") as error:
        widen(model(), widths)
    assert "\n" not in str(error.value)


def test_bad_noise_and_models():
    with pytest.raises(BadInput, match="noise=-1 must be a number from 0"):
        widen(chain(), {"a": 8}, noise=-1)
    for seed in (-1, "x"):
        with pytest.raises(BadInput, match="must be a whole number from 0"):
            widen(chain(), 2.0, seed=seed)
    inputs = keras.Input((4,))
    with pytest.raises(BadInput, match="no channel of this model is free"):
        widen(keras.Model(inputs, layers.Dense(2)(inputs)), 2.0)
    with pytest.raises(BadInput, match="'one'"):
        widen(chain(), "one")
    assert tfeffi.widen is widen


def test_one_filter_a_group_inside_time_distributed():
    inputs = keras.Input((3, 4, 4, 2))
    x = layers.TimeDistributed(layers.Conv2D(4, 2))(inputs)
    x = layers.TimeDistributed(layers.Conv2D(2, 3, groups=2), name="td")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    wide, _ = widen(model, 2.0)
    assert wide.get_layer("td").layer.filters == 4
    assert gap(model(images(model)), wide(images(model))) <= 1e-5


def test_a_quantized_reader_cannot_share():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, name="b")(layers.Dense(6, name="a")(inputs)))
    model.get_layer("b").quantize("int8")
    with pytest.raises(BadInput, match="before you quantize"):
        widen(model, {"a": 8})
