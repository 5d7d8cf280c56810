"""factorize: equal where nothing is lost, off by the singular values where something is."""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tfeffi
from tests.compress.cases import built, gap, images, kernels, plant
from tfeffi import Budget, cost, factorize
from tfeffi.compress import decompose
from tfeffi.errors import BadInput


def dense(rows, columns, **arguments):
    image = keras.Input((rows,))
    return keras.Model(image, keras.layers.Dense(columns, name="fc", **arguments)(image))


def conv(shape, filters, size, **arguments):
    image = keras.Input(shape)
    return keras.Model(image, keras.layers.Conv2D(filters, size, name="conv", **arguments)(image))


EVERY = [(name, "spatial") for name in tfeffi.models.names()]


@pytest.mark.parametrize(
    ("name", "method"),
    [*EVERY, ("mnist_classifier", "channel"), ("resnet_cifar", "channel")],
)
def test_every_architecture_keeps_what_a_low_rank_kernel_computes(name, method):
    model = plant(built(name, 0.125, 16), method)
    small, report = factorize(model, method=method, energy=1 - 1e-12, multiple_of=1)
    assert gap(model, small, images(model)) <= 1e-5
    assert report.after.macs < report.before.macs == cost(model).macs
    assert report.after == cost(small)
    assert [t.name for t in small.inputs] == [t.name for t in model.inputs]
    assert small.output_names == model.output_names
    met = {one.layer for one in (*report.changed, *report.skipped)}
    assert met >= {layer.name for layer in kernels(model)}
    assert all(one.why for one in report.skipped)


@pytest.mark.parametrize("data_aware", [False, True])
def test_the_result_is_an_ordinary_keras_file(tmp_path, data_aware):
    model = built("resnet8_mlperf_tiny", 1.0)
    data = images(model, 8) if data_aware else None
    small, _ = factorize(model, budget=Budget(macs=0.5), data=data)
    small.save(tmp_path / "small.keras")
    assert "tfeffi" not in str(small.get_config())
    assert gap(small, keras.models.load_model(tmp_path / "small.keras"), images(model)) == 0


@given(
    method=st.sampled_from(["channel", "spatial", "tucker"]),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["same", "valid"]),
    image=st.tuples(st.integers(10, 13), st.integers(10, 13)),
    bias=st.booleans(),
)
@settings(max_examples=15)
def test_strides_dilation_and_padding_are_kept(
    method, size, strides, dilation, padding, image, bias
):
    if dilation != (1, 1):  # Keras takes one or the other
        strides = (1, 1)
    model = conv(
        (*image, 8), 9, size, strides=strides, dilation_rate=dilation, padding=padding,
        use_bias=bias, bias_initializer="random_normal", activation="elu",
    )  # fmt: skip
    layer = model.get_layer("conv")
    rng = np.random.default_rng(0)
    down, right, out = (rng.standard_normal(n) for n in ((size[0], 8), size[1], 9))
    if method == "tucker":
        down = np.outer(down[:, 0], down[0])
    layer.kernel.assign(np.einsum("hi,w,o->hwio", down, right, out))  # of rank 1 in every form
    small, report = factorize(model, method=method, ranks={"conv": 1})
    assert [change.layer for change in report.changed] == ["conv"]
    assert gap(model, small, images(model)) <= 1e-5


@pytest.mark.parametrize("rank", [3, 12])
def test_a_dense_layer_loses_exactly_the_tail(rank):
    model = dense(40, 25, bias_initializer="random_normal")
    small, _ = factorize(model, ranks={"fc": rank})
    difference = model(np.eye(40)) - small(np.eye(40))
    kernel = keras.ops.convert_to_numpy(model.get_layer("fc").kernel)
    values = np.linalg.svd(kernel, compute_uv=False)
    lost = np.sqrt((values[rank:] ** 2).sum())
    assert np.linalg.norm(difference) == pytest.approx(lost, rel=1e-4)


@pytest.mark.parametrize(
    ("model", "method", "highest"),
    [
        (lambda: dense(784, 300), "svd", 216),
        (lambda: dense(4096, 4096, kernel_initializer="zeros"), "svd", 2047),
        (lambda: dense(512, 10), "svd", 9),
        (lambda: conv((8, 8, 64), 64, 3, padding="same"), "channel", 57),
        (lambda: conv((8, 8, 256), 512, 3, padding="same"), "channel", 418),
        (lambda: conv((8, 8, 64), 64, 3, padding="same"), "spatial", 95),  # below 96
        (lambda: conv((8, 8, 256), 512, 3, padding="same"), "spatial", 511),  # below 512
        (lambda: conv((7, 7, 64), 128, 7), "spatial", 99),  # the literature's bound says 298
    ],
)
def test_break_even(model, method, highest):
    model = model()
    name = model.layers[-1].name
    same, report = factorize(model, method=method, ranks={name: highest + 1})
    assert report.changed == () and same.count_params() == model.count_params()
    assert report.skipped[0].why.endswith(f"only ranks up to {highest} save anything")
    if model.count_params() < 500_000:
        _, report = factorize(model, method=method, ranks={name: highest})
        assert report.after.macs < report.before.macs
        assert report.after.params < report.before.params


def test_energy_takes_the_cheaper_split_and_keeps_its_promise():
    model = plant(built("vgg", 0.125), "spatial")
    _, report = factorize(model, energy=0.9)
    assert any("×1 and 1×" in change.after for change in report.changed)
    kept = [float(re.search(r"keeps ([\d.]+) %", c.after)[1]) for c in report.changed]
    assert kept and min(kept) >= 90
    for method in ("channel", "spatial"):
        assert report.after.macs <= factorize(model, method=method, energy=0.9)[1].after.macs


def test_a_share_of_the_full_rank():
    _, report = factorize(dense(100, 80), ranks=0.25, multiple_of=1)
    assert report.settings["ranks"] == {"fc": 20}
    _, report = factorize(dense(100, 80), ranks=0.25)  # rounded up to a multiple of 8
    assert report.settings["ranks"] == {"fc": 24}


def test_a_rank_that_only_saves_at_an_odd_width_is_left():
    model = dense(40, 40)  # break-even at 19
    split = decompose.low_rank(np.random.default_rng(0).standard_normal((40, 40)))
    kernel = split.matrix @ split.basis[:, :17] @ split.basis[:, :17].T
    model.get_layer("fc").kernel.assign(kernel)
    _, report = factorize(model, energy=1 - 1e-12)
    assert "takes rank 17, 24 as a multiple of 8, and only ranks up to 19" in report.skipped[0].why
    _, report = factorize(model, energy=1 - 1e-12, multiple_of=1)
    assert report.settings["ranks"] == {"fc": 17}


@pytest.mark.parametrize("budget", [{"macs": 0.6}, {"params": 0.4}, {"params": 40_000}])
@pytest.mark.parametrize("multiple_of", [1, 8])
def test_a_budget_is_met_and_used(budget, multiple_of):
    model = built("resnet8_mlperf_tiny", 1.0)
    budget = Budget(**budget)
    small, report = factorize(model, budget=budget, multiple_of=multiple_of)
    limit = budget.limit(cost(model))
    assert budget.of(cost(small)) <= limit
    assert budget.of(cost(small)) >= 0.95 * limit
    if multiple_of == 8:
        assert all(rank % 8 == 0 or rank < 8 for rank in report.settings["ranks"].values())


def test_a_budget_that_cannot_be_met_says_what_can():
    model = built("resnet8_mlperf_tiny")
    with pytest.raises(BadInput, match=r"the smallest that can be reached here is") as caught:
        factorize(model, budget=Budget(macs=0.01))
    reachable = int(re.search(r"is ([\d,]+);", str(caught.value))[1].replace(",", ""))
    _, report = factorize(model, budget=Budget(macs=reachable))
    assert report.after.macs == reachable
    with pytest.raises(BadInput):
        factorize(model, budget=Budget(macs=reachable - 1))


def test_a_budget_that_is_met_changes_nothing():
    model = built("mnist_classifier")
    same, report = factorize(model, budget=Budget(macs=1.0))
    assert report.changed == () and gap(model, same, images(model)) == 0
    assert "is met without it" in report.skipped[0].why


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_budget_keeps_nearly_the_most_energy_there_is(share):
    image = keras.Input((20,))
    model = keras.Model(image, keras.layers.Dense(16)(keras.layers.Dense(24)(image)))
    rng = np.random.default_rng(5)
    for layer, decay in zip(model.layers[1:], (0.8, 0.95), strict=True):
        u, _, vt = np.linalg.svd(rng.standard_normal(layer.kernel.shape), full_matrices=False)
        layer.kernel.assign(u * decay ** np.arange(u.shape[1]) @ vt)
    _, report = factorize(model, budget=Budget(macs=share), multiple_of=1)
    splits = [decompose.low_rank(np.array(layer.kernel)) for layer in model.layers[1:]]
    sizes = [layer.kernel.shape for layer in model.layers[1:]]

    def macs(rank, shape):
        return min(rank * sum(shape), shape[0] * shape[1])

    def kept(ranks):
        full = [r * sum(s) >= s[0] * s[1] for r, s in zip(ranks, sizes, strict=True)]
        return np.prod(
            [1 if f else one.retained(r) for f, one, r in zip(full, splits, ranks, strict=True)]
        )

    everything = itertools.product(range(1, 21), range(1, 17))
    limit = share * report.before.macs
    best = max(kept(r) for r in everything if sum(map(macs, r, sizes)) <= limit)
    names = [layer.name for layer in model.layers[1:]]
    ours = kept([report.settings["ranks"].get(name, 99) for name in names])
    assert best * 0.97 <= ours <= best + 1e-6


@pytest.mark.parametrize("bias", [True, False])
def test_on_its_data_the_data_aware_dense_split_is_the_best_there_is(bias):
    model = dense(30, 24, use_bias=bias, bias_initializer="random_normal")
    rng = np.random.default_rng(2)
    mixing = rng.standard_normal((30, 30)) * 0.7 ** np.arange(30)
    x = (rng.standard_normal((200, 30)) @ mixing.T + rng.standard_normal(30)).astype(np.float32)
    y = model(x).numpy()
    aware, _ = factorize(model, ranks={"fc": 5}, data=x)
    plain, _ = factorize(model, ranks={"fc": 5})
    error, plainly = (np.linalg.norm(m(x).numpy() - y) for m in (aware, plain))
    centered = y - y.mean(axis=0) if bias else y
    tail = np.linalg.svd(centered, compute_uv=False)[5:]
    assert error == pytest.approx(np.sqrt((tail**2).sum()), rel=1e-3)
    assert error < 0.9 * plainly


@pytest.mark.parametrize("arguments", [{"strides": 2}, {"padding": "same", "use_bias": False}])
def test_on_its_data_the_data_aware_convolution_is_closer(arguments):
    model = conv((12, 12, 6), 16, 3, **arguments)
    x = images(model, 40) * np.float32([1, 0.1, 3, 0.2, 0.5, 1])
    small = {
        d is None: factorize(model, method="channel", ranks={"conv": 4}, data=d)[0]
        for d in (None, x)
    }
    y = model(x).numpy()
    aware, plain = (np.linalg.norm(small[key](x).numpy() - y) for key in (False, True))
    assert aware < 0.9 * plain


def test_data_may_be_a_dataset_images_or_an_array():
    model = built("resnet8_mlperf_tiny")
    x = np.uint8(255 * images(model, 20))
    labels = np.zeros(20, np.int64)
    given = (
        tfeffi.data.Images(x, labels, 7, tuple("abcdefg"), "drawn", "train"),
        tf.data.Dataset.from_tensor_slices((x / np.float32(255), labels)).batch(6),
        x / np.float32(255),
    )
    ranks = {layer.name: 3 for layer in kernels(model) if layer.name != "logits"}
    made = [factorize(model, method="channel", ranks=ranks, data=data)[0] for data in given]
    for other in made[1:]:
        assert gap(made[0], other, images(model)) <= 1e-4


def test_shared_and_nested_layers_follow():
    inner_image = keras.Input((8, 8, 6))
    inner = keras.Model(
        inner_image, keras.layers.Conv2D(12, 3, name="conv")(inner_image), name="inner"
    )
    image = keras.Input((8, 8, 6))
    shared = keras.layers.Dense(6, name="shared")
    x = inner(shared(shared(image)))
    model = keras.Model(image, keras.layers.Flatten()(x))
    for kernel in (shared.kernel, inner.get_layer("conv").kernel):
        shape = kernel.shape
        kernel.assign(
            np.outer(np.arange(1, 1 + np.prod(shape[:-1])), np.ones(shape[-1])).reshape(shape) / 99
        )
    small, report = factorize(model, energy=0.999, multiple_of=1, data=images(model))
    assert {change.layer for change in report.changed} == {"shared", "inner/conv"}
    assert gap(model, small, images(model)) <= 1e-5
    assert report.after.macs == cost(small).macs < report.before.macs


def test_grouped_depthwise_and_ignored_layers_are_left_with_the_reason():
    image = keras.Input((8, 8, 16))
    x = keras.layers.Conv2D(16, 3, groups=4, name="grouped")(image)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Conv2D(32, 3, name="mine")(x)
    model = keras.Model(image, keras.layers.Conv2D(32, 2, name="yours")(x))
    _, report = factorize(model, ranks=0.1, ignore=["mine"])
    why = {one.layer: one.why for one in report.skipped}
    assert "4 groups" in why["grouped"] and "separable already" in why["depthwise"]
    assert why["mine"] == "is in ignore"
    assert [change.layer for change in report.changed] == ["yours"]


def test_regularizers_and_dtypes_go_along():
    image = keras.Input((40,))
    layer = keras.layers.Dense(40, kernel_regularizer="l2", dtype="mixed_bfloat16", name="fc")
    small, _ = factorize(keras.Model(image, layer(image)), ranks=0.1)
    assert [one.name for one in small.layers[1:]] == ["fc_basis", "fc"]
    for one in small.layers[1:]:
        assert one.dtype_policy.name == "mixed_bfloat16"
        assert isinstance(one.kernel_regularizer, keras.regularizers.L2)
    assert not small.get_layer("fc_basis").use_bias


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "spatail"}, 'unknown method "spatail"; did you mean "spatial"'),
        ({"energy": 1.5}, "energy=1.5 must be in"),
        ({"energy": 0.9, "ranks": 0.5}, "give one of budget, energy and ranks"),
        ({"budget": 0.5}, "budget=0.5 is not a Budget"),
        ({"ranks": 3}, "ranks=3 must be a share"),
        ({"ranks": {"conv9": 3}}, 'layer "conv9" is not in the model; did you mean "conv'),
        ({"ranks": {"conv1": 0}}, '0 for "conv1" must be a whole number'),
        ({"ranks": {"pool1": 2}}, '"pool1" cannot be factorized'),
        ({"ignore": ["conv9"]}, 'ignore: layer "conv9" is not in the model; did you mean "conv'),
        ({"multiple_of": 0}, "multiple_of=0 must be"),
        ({"data": np.zeros((4, 8, 8, 1), np.float32)}, "^factorize: the data has shape"),
        ({"data": np.zeros((0, 28, 28, 1), np.float32)}, "^factorize: the data is empty"),
        ({"data": "images"}, "^factorize: data is str"),
        ({"data": [[0], [0, 1]]}, "^factorize: data is neither"),
        ({"data": {"picture": np.zeros((4, 28, 28, 1))}}, "^factorize: the data has inputs"),
        ({"method": "tucker", "data": np.zeros((4, 28, 28, 1))}, "no data-aware form"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message) as caught:
        factorize(built("mnist_classifier"), **arguments)
    assert "\n" not in str(caught.value)


def test_nan_weights_and_unreadable_models_are_refused():
    model = dense(20, 20)
    model.get_layer("fc").kernel.assign(np.full((20, 20), np.nan))
    with pytest.raises(BadInput, match='"fc" has weights that are NaN'):
        factorize(model)
    with pytest.raises(BadInput, match="not built"):
        factorize(keras.Sequential([keras.layers.Dense(3)]))
    image = keras.Input((None, None, 3))
    with pytest.raises(BadInput, match="open shape"):
        factorize(keras.Model(image, keras.layers.Conv2D(8, 3)(image)))
    with pytest.raises(BadInput, match=r"expected a keras\.Model"):
        factorize("model.keras")


@pytest.mark.parametrize("data_aware", [False, True])
@pytest.mark.parametrize("method", ["channel", "tucker"])
def test_convolutions_of_other_dimensions(method, data_aware):
    image = keras.Input((9, 7, 8, 6))
    x = keras.layers.Conv3D(12, (2, 3, 1), strides=(2, 1, 1), name="three")(image)
    x = keras.layers.Reshape((16, 4 * 5 * 8 * 12 // 16))(x)
    x = keras.layers.Conv1D(16, 3, dilation_rate=2, padding="causal", name="one")(x)
    model = keras.Model(image, x)
    for name in ("three", "one"):
        kernel = model.get_layer(name).kernel
        shape = tuple(kernel.shape)
        first, last = np.linspace(1, 2, shape[-2]), np.linspace(-1, 1, shape[-1])
        kernel.assign(0.1 * np.broadcast_to(np.outer(first, last), shape))
    given = images(model, 4) if data_aware and method == "channel" else None
    small, report = factorize(model, method=method, energy=1 - 1e-10, multiple_of=1, data=given)
    assert {change.layer for change in report.changed} == {"three", "one"}
    assert gap(model, small, images(model)) <= 1e-5
    assert report.after == cost(small)


def test_what_is_not_met_says_why():
    image = keras.Input((16, 8))
    x = keras.layers.Conv1D(16, 3, name="one")(image)
    x = keras.layers.Conv1DTranspose(8, 3, name="up")(x)
    model = keras.Model(image, x)
    _, report = factorize(model, method="spatial")
    why = {one.layer: one.why for one in report.skipped}
    assert why["one"] == "is a Conv1D; only Conv2D and Dense are met"
    _, report = factorize(model, ranks=0.1)
    why = {one.layer: one.why for one in report.skipped}
    assert why["up"] == "is a Conv1DTranspose; only Conv1D, Conv2D, Conv3D and Dense are met"


def test_evbmf_chooses_ranks_for_dense_layers():
    model = dense(60, 50)
    random = np.random.default_rng(0)
    signal = random.standard_normal((60, 7)) @ random.standard_normal((7, 50))
    model.get_layer("fc").kernel.assign(signal + 0.2 * random.standard_normal((60, 50)))
    _, report = factorize(model, ranks="evbmf", multiple_of=1)
    assert report.settings["ranks"] == {"fc": 7}
    x = random.standard_normal((300, 60)).astype(np.float32)
    _, report = factorize(model, ranks="evbmf", multiple_of=1, data=x)
    assert report.settings["ranks"] == {"fc": 7}  # by the weights, on data too
