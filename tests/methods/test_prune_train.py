"""PruneTrain: R and λ by hand, surgery that changes nothing, and the method through `fit`."""

import functools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies

import tfeffi
from tests.train.cases import images
from tfeffi import methods
from tfeffi.analysis.memory import training_memory
from tfeffi.errors import BadInput
from tfeffi.methods.prune_train import (
    GroupLasso,
    class_macs,
    group_norms,
    penalty_from_ratio,
    reconfigure,
    shrink_groups,
    zero_then_check,
)
from tfeffi.methods.prune_train.reconfiguration import dense_classes
from tfeffi.surgery import Coupling
from tfeffi.train import Settings, fit, loop
from tfeffi.train.loop import begin

ROOT = np.sqrt(1e-8)
L = keras.layers
NORMAL = functools.partial(L.BatchNormalization, momentum=0.5)


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


def sequential(classes=4):
    return keras.Sequential([
        keras.Input((8, 8, 1)), L.Conv2D(6, 3, padding="same", use_bias=False, name="one"),
        L.BatchNormalization(name="bn1", momentum=0.5), L.ReLU(name="relu1"),
        L.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="two"),
        L.BatchNormalization(name="bn2", momentum=0.5), L.ReLU(name="relu2"), L.Flatten(name="flat"),
        L.Dense(10, activation="relu", name="hidden"), L.Dense(classes, name="logits"),
    ])  # fmt: skip


def residual(classes=4, blocks=2, normalization=NORMAL):
    """A stem, blocks of two convolutions with identity shortcuts, logits."""
    x = inputs = keras.Input((8, 8, 1))
    x = L.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(x)
    x = L.ReLU(name="stem_relu")(normalization(name="stem_bn")(x))
    for i in range(blocks):
        y = L.Conv2D(6, 3, padding="same", use_bias=False, name=f"b{i}_one")(x)
        y = L.ReLU(name=f"b{i}_relu")(normalization(name=f"b{i}_bn1")(y))
        y = L.Conv2D(6, 3, padding="same", use_bias=False, name=f"b{i}_two")(y)
        y = normalization(name=f"b{i}_bn2")(y)
        x = L.ReLU(name=f"b{i}_out")(L.Add(name=f"b{i}_add")([x, y]))
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, L.Dense(classes, name="logits")(x))


def lively(model, seed=1):
    """Gives batch normalizations statistics, scales and shifts as after training."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])
    return model


def zero(model, made=(), read=(), channels=(1, 4)):
    """Zeroes channels where these layers make them and where those read them."""
    for name in made:
        kernel = np.array(model.get_layer(name).kernel)
        kernel[..., list(channels)] = 0
        model.get_layer(name).kernel.assign(kernel)
    for name in read:
        kernel = np.array(model.get_layer(name).kernel)
        rows = kernel.reshape(*kernel.shape[:-2], -1, kernel.shape[-1])
        width = model.get_layer("two").filters if name == "hidden" else rows.shape[-2]
        for channel in channels:
            rows[..., channel::width, :] = 0
        model.get_layer(name).kernel.assign(rows.reshape(kernel.shape))
    return model


def some_images(n=16):
    return np.random.default_rng(0).random((n, 8, 8, 1), np.float32)


def outputs(model):
    return np.array(model(some_images(), training=False))


# ---------------------------------------------------------------- R and λ


def test_the_norms_of_the_example_by_hand():
    kernel = np.array([[3.0, 0.0], [4.0, 0.0]], np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_allclose(group_norms(kernel, 2), [3, 4], rtol=1e-6)
    np.testing.assert_allclose(group_norms(kernel, 3), [5, ROOT], rtol=1e-6)
    total = sum(float(np.sum(group_norms(kernel, axis))) for axis in (2, 3))
    assert total == pytest.approx(12, rel=1e-4)
    penalty = penalty_from_ratio(2.3026, 12.0, 0.2)
    assert penalty == pytest.approx(0.047971, abs=1e-6)
    assert penalty * 12 / (2.3026 + penalty * 12) == pytest.approx(0.2)


def test_which_groups_there_are():
    """Not the channels of the images, not the logits, not depthwise kernels; hidden layers: both."""
    x = inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, name="first")(x)
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    x = L.Conv2D(5, 1, name="second")(x)
    x = L.Flatten()(x)
    x = L.Dense(7, name="hidden")(x)
    model = keras.Model(inputs, L.Dense(2, name="logits")(x))
    lasso = GroupLasso(model)
    found = {place: len(norms) for place, norms in lasso.norms().items()}
    assert found == {
        ("first", "made"): 4, ("second", "read"): 4, ("second", "made"): 5,
        ("hidden", "read"): 5, ("hidden", "made"): 7, ("logits", "read"): 7,
    }  # fmt: skip
    kernels = {layer.name: np.float64(layer.kernel) for layer in model.layers if layer.weights[1:]}
    by_hand = sum(
        np.sqrt((kernels[name] ** 2).sum(axis) + 1e-8).sum()
        for name, axis in (
            ("first", (0, 1, 2)), ("second", (0, 1, 3)), ("second", (0, 1, 2)), ("hidden", 0),
            ("logits", 1),
        )
    )  # fmt: skip
    positions = kernels["hidden"].reshape(-1, 5, 7)  # what reads one channel is one group
    by_hand += np.sqrt((positions**2).sum((0, 2)) + 1e-8).sum()
    assert float(lasso()) == pytest.approx(by_hand, rel=1e-6)


def test_the_weighting_by_size_is_the_root_of_the_number_of_weights():
    model = sequential()
    plain, sized = GroupLasso(model), GroupLasso(model, weighting="size")
    by_hand = sum(float(np.sum(np.array(one.norms()) * np.sqrt(one.sizes))) for one in plain.groups)
    assert float(sized()) == pytest.approx(by_hand, rel=1e-6)
    reads = {one.layer: one.sizes[0] for one in plain.groups if one.reads}
    assert reads == {"two": 9 * 8, "hidden": 4 * 4 * 10, "logits": 4}


@pytest.mark.parametrize("of", ["sequential", "residual"])
def test_the_macs_of_a_class_are_what_surgery_saves(of):
    model = {"sequential": sequential, "residual": residual}[of]()
    saved, seen = class_macs(Coupling.of(model)), 0
    for one in GroupLasso(model).groups:
        if not one.reads:
            rest = list(range(1, len(one.counts)))
            cut, _ = tfeffi.reindex(model, {one.layer: rest})
            found = tfeffi.cost(model).macs - tfeffi.cost(cut).macs
            assert saved[one.classes[0]] == pytest.approx(found, rel=1e-9) and found > 0
            seen += 1
    assert seen >= 3


def test_the_weighting_by_macs_is_the_mean_norm_times_the_million_macs_of_each_class():
    model = residual()
    lasso = GroupLasso(model, weighting="macs")
    coupling = Coupling.of(model)
    norms = {}
    for one in lasso.groups:
        for number, free, norm in zip(one.classes, one.counts, np.array(one.norms()), strict=True):
            if free:
                norms.setdefault(int(number), []).append(norm)
    macs = class_macs(coupling)
    by_hand = sum(macs[number] / 1e6 * np.mean(values) for number, values in norms.items())
    assert max(map(len, norms.values())) > 2  # the residual path is one class
    assert float(lasso()) == pytest.approx(by_hand, rel=1e-5)
    before = np.array(lasso.groups[0].norms())
    lasso.shrink(0.5)
    fall = before - np.array(lasso.groups[0].norms())
    np.testing.assert_allclose(fall, 0.5 * lasso.factor(lasso.groups[0]), rtol=0.05)


def joint(model):
    """By class: the number of its groups and the norm of all their weights."""
    counts, squares = {}, {}
    for one in GroupLasso(model).groups:
        for number, free, norm in zip(one.classes, one.counts, np.array(one.norms()), strict=True):
            if free:
                counts[int(number)] = counts.get(int(number), 0) + 1
                squares[int(number)] = squares.get(int(number), 0.0) + float(norm) ** 2
    return {number: (counts[number], np.sqrt(squares[number])) for number in counts}


@pytest.mark.parametrize("weighting", ["equal", "macs"])
@pytest.mark.parametrize("make", [sequential, residual])
def test_coupled_r_is_the_root_mean_square_of_the_norms_of_each_class(make, weighting):
    model = make()
    macs = class_macs(Coupling.of(model))
    by_hand = sum(
        (macs[number] / 1e6 if weighting == "macs" else n) * norm / np.sqrt(n)
        for number, (n, norm) in joint(model).items()
    )
    found = float(GroupLasso(model, weighting, coupled=True)())
    assert found == pytest.approx(by_hand, rel=1e-4)
    assert found > float(GroupLasso(model, weighting)())  # a root mean square is above the mean


def test_where_all_norms_of_a_class_are_equal_coupled_r_is_the_sum():
    model = residual()
    for layer in model.layers:
        if has_kernel(layer) and layer.name.startswith("b"):
            layer.kernel.assign(np.ones(layer.kernel.shape))
    stem, logits = model.get_layer("stem"), model.get_layer("logits")
    for kernel, axes in ((stem.kernel, (0, 1, 2)), (logits.kernel, (1,))):
        values = np.ones(kernel.shape)
        norm = np.sqrt((values**2).sum(axes, keepdims=True))
        kernel.assign(values / norm * np.sqrt(9 * 6))  # as a slice of the others
    both = [float(GroupLasso(model, "macs", coupled=coupled)()) for coupled in (False, True)]
    assert both[0] == pytest.approx(both[1], rel=1e-5)


def test_coupled_kernels_shrink_in_proportion_and_die_at_once():
    model = lively(residual(blocks=1))
    weak = [2, 4]
    for name, axis in (("stem", -1), ("b0_two", -1), ("b0_one", -2), ("logits", 0)):
        kernel = np.moveaxis(np.array(model.get_layer(name).kernel), axis, 0).copy()
        kernel[weak] *= 0.01
        model.get_layer(name).kernel.assign(np.moveaxis(kernel, 0, axis))
    n, norms = 4, [norm for count, norm in joint(model).values() if count == 4]
    before = {name: np.array(model.get_layer(name).kernel) for name in ("stem", "b0_one")}
    by = 0.1 * max(norms)
    GroupLasso(model, coupled=True).shrink(by)
    stays = np.maximum(0, 1 - by * np.sqrt(n) / np.array(norms))
    assert (np.flatnonzero(stays == 0) == weak).all()
    np.testing.assert_allclose(model.get_layer("stem").kernel, stays * before["stem"], atol=1e-6)
    ratio = np.array(model.get_layer("b0_one").kernel) / before["b0_one"]
    scale = ratio / np.where(stays > 0, stays, np.nan)[:, None]  # what is left is of the other side
    np.testing.assert_allclose(np.nanstd(scale, axis=(0, 1, 2)), 0, atol=1e-5)
    small, _, report = reconfigure(model)
    assert small.get_layer("stem").filters == 4 and report.changed
    np.testing.assert_allclose(outputs(small), outputs(model), atol=1e-5)


@pytest.mark.parametrize("coupled", [False, True])
def test_coupled_a_residual_path_gets_as_narrow_as_inner_layers(coupled):
    """Nothing but the pull acts."""
    model = residual()
    lasso, coupling = GroupLasso(model, "macs", coupled=coupled), Coupling.of(model)
    for _ in range(240):
        lasso.shrink(10.0, hold=True)
    dense = dense_classes(coupling, 0.0)
    path, inner = (dense[coupling.written[name]].mean() for name in ("stem", "b0_one"))
    assert inner <= 0.5 and (path <= 0.5) == coupled


def test_the_penalty_ends_when_few_enough_macs_are_left():
    method = methods.build("prune_train", **STRONG, target=0.1)
    history = trained(methods_=[method]).history
    found, macs = ([row[name] for row in history] for name in ("lambda", "macs"))
    dense = tfeffi.cost(residual()).macs
    for penalty, left in zip(found, macs, strict=True):
        assert (penalty == 0) == (left <= 0.1 * dense)
    assert found[0] > 0 and found[-1] == 0


def test_kernels_ahead_of_a_normalization_can_keep_their_norm():
    """And what they compute changes as it does without: their scale is normalized away."""
    exact = functools.partial(NORMAL, epsilon=1e-9)
    shrunk, held = (lively(residual(blocks=1, normalization=exact)) for _ in range(2))
    held.set_weights(shrunk.get_weights())
    before = {
        layer.name: np.linalg.norm(layer.kernel) for layer in held.layers if has_kernel(layer)
    }
    by = 0.4 * float(np.median([np.median(one.norms()) for one in GroupLasso(held).groups]))
    GroupLasso(shrunk).shrink(by)
    GroupLasso(held).shrink(by, hold=True)
    for name, norm in before.items():
        one, other = (np.array(model.get_layer(name).kernel) for model in (shrunk, held))
        factor = norm / np.linalg.norm(one) if name != "logits" else 1.0
        np.testing.assert_allclose(other, factor * one, rtol=1e-5)
    assert before["stem"] > 1.1 * np.linalg.norm(shrunk.get_layer("stem").kernel)
    both = [np.array(model(some_images(), training=True)) for model in (shrunk, held)]
    np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-4)


def has_kernel(layer):
    return getattr(layer, "kernel", None) is not None


def test_a_kernel_that_something_else_takes_is_not_held():
    x = inputs = keras.Input((8, 8, 1))
    y = L.Conv2D(4, 3, padding="same", name="bare")(x)
    x = L.Conv2D(4, 3, padding="same", use_bias=False, name="forks")(y)
    x = L.Add()([L.BatchNormalization()(x), x])
    x = L.Conv2D(4, 3, use_bias=False, name="alone")(x)
    x = L.GlobalAveragePooling2D()(L.BatchNormalization()(x))
    model = keras.Model(inputs, L.Dense(2, name="logits")(x))
    names = ("bare", "forks", "alone", "logits")
    before = {name: np.linalg.norm(model.get_layer(name).kernel) for name in names}
    GroupLasso(model).shrink(0.01, hold=True)
    after = {name: np.linalg.norm(model.get_layer(name).kernel) for name in names}
    assert after["alone"] == pytest.approx(before["alone"], rel=1e-5)
    assert all(after[name] < 0.999 * before[name] for name in ("bare", "forks", "logits"))


def test_a_kernel_whose_scale_matters_is_not_held():
    """Behind an activation a bias counts, and a frozen normalization does not follow."""
    x = inputs = keras.Input((8, 8, 1))
    for name, activation in (("active", "gelu"), ("frozen", None)):
        x = L.Conv2D(4, 3, padding="same", activation=activation, name=name)(x)
        x = L.BatchNormalization(name=f"{name}_bn")(x)
    model = keras.Model(inputs, L.Dense(2, name="logits")(L.GlobalAveragePooling2D()(x)))
    model.get_layer("frozen_bn").trainable = False
    before = [np.linalg.norm(model.get_layer(name).kernel) for name in ("active", "frozen")]
    GroupLasso(model).shrink(0.01, hold=True)
    for norm, name in zip(before, ("active", "frozen"), strict=True):
        assert np.linalg.norm(model.get_layer(name).kernel) < 0.999 * norm


def test_gradients_are_finite_at_zero():
    model = sequential()
    for variable in model.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    lasso = GroupLasso(model)
    with tf.GradientTape() as tape:
        loss = lasso()
    values = [v.value for v in model.trainable_variables]
    gradients = tape.gradient(loss, values, unconnected_gradients="zero")
    assert all(np.all(np.array(g) == 0) for g in gradients)


@settings(max_examples=30)
@given(
    by=strategies.floats(0, 3), axis=strategies.integers(0, 2), seed=strategies.integers(0, 99),
    tied=strategies.booleans(),
)  # fmt: skip
def test_the_proximal_step_is_its_formula(by, axis, seed, tied):
    """And the minimum of ½‖V − W‖² + by·Σ‖V_g‖: no shorter or longer group is better."""
    kernel = np.random.default_rng(seed).normal(size=(2, 4, 4)).astype(np.float32)
    count = kernel.shape[axis]
    groups = np.arange(count, dtype=np.int32) // 2 if tied else None
    found = np.array(shrink_groups(kernel, axis, by, groups))
    rows, moved = (np.moveaxis(a, axis, 0).reshape(count, -1) for a in (kernel, found))
    for group in range(count // 2 if tied else count):
        at = np.flatnonzero(groups == group) if tied else [group]
        norm = np.linalg.norm(rows[at])
        np.testing.assert_allclose(moved[at], rows[at] * max(0, 1 - by / norm), atol=1e-6)
        assert norm > by or not moved[at].any()


# ---------------------------------------------------------------- reconfiguration


@pytest.mark.parametrize(
    ("make", "made", "read", "left"),
    [
        (sequential, ["one"], ["two"], {"one": 4, "two": 8, "hidden": 10}),
        (sequential, ["two"], ["hidden"], {"one": 6, "two": 6, "hidden": 10}),
        (sequential, ["hidden"], ["logits"], {"one": 6, "two": 8, "hidden": 8}),
        (residual, ["b0_one"], ["b0_two"], {"stem": 6, "b0_one": 4, "b1_one": 6}),
        (
            residual, ["stem", "b0_two", "b1_two"], ["b0_one", "b1_one", "logits"],
            {"stem": 4, "b0_two": 4, "b1_two": 4, "b0_one": 6, "b1_one": 6},
        ),
    ],
)  # fmt: skip
def test_what_is_zero_on_both_sides_goes_and_nothing_changes(make, made, read, left):
    model = lively(make())
    zero(model, made, read)
    small, _, report = reconfigure(model)
    np.testing.assert_allclose(outputs(small), outputs(model), rtol=1e-6, atol=1e-6)
    assert zero_then_check(model, some_images()) <= 1e-6
    assert {n: small.get_layer(n).kernel.shape[-1] for n in left} == left
    assert tfeffi.cost(small).macs < tfeffi.cost(model).macs
    assert (report.channels_before - report.channels, report.blocks) == (2, ())
    assert report.params == small.count_params() < report.params_before


@pytest.mark.parametrize(
    ("make", "made", "read"),
    [
        (sequential, ["one"], []),  # one side: it is still read, and relu(β − γμ/σ) is no zero
        (sequential, [], ["two"]),
        (residual, ["stem", "b0_two"], ["b0_one", "b1_one", "logits"]),  # one block still writes
        (residual, ["stem", "b0_two", "b1_two"], ["b0_one", "logits"]),  # one block still reads
    ],
)
def test_what_is_dense_on_one_side_stays(make, made, read):
    model = lively(make())
    zero(model, made, read)
    again, _, report = reconfigure(model)
    assert again is model and not report.changed


def test_one_sided_removal_would_change_the_outputs():
    model = lively(sequential())
    zero(model, ["one"])
    cut, _ = tfeffi.reindex(model, {"one": [0, 2, 3, 5]})
    assert np.abs(outputs(cut) - outputs(model)).max() > 1e-3


@pytest.mark.parametrize("first", ["b0_one", "b0_two"])
def test_a_dead_block_leaves_and_its_constant_stays(first):
    model = lively(residual())
    zero(model, ["b0_one", "b0_two"] if first == "b0_one" else ["b0_two"], channels=range(6))
    small, _, report = reconfigure(model)
    assert report.blocks == ("b0_add",)
    assert not any(layer.name.startswith(("b0_one", "b0_two", "b0_bn")) for layer in small.layers)
    np.testing.assert_allclose(outputs(small), outputs(model), rtol=1e-6, atol=1e-6)
    zero(small, ["stem", "b1_two"], ["b1_one", "logits"])  # channels of the constant may still go
    smaller, _, _ = reconfigure(small)
    assert len(smaller.get_layer("b0_add").offset) == 4
    np.testing.assert_allclose(outputs(smaller), outputs(small), rtol=1e-6, atol=1e-6)


def test_a_dead_layer_before_a_live_one_keeps_a_channel():
    """A constant through a padded convolution is none at the border: the branch stays."""
    model = lively(residual())
    zero(model, ["b0_one"], channels=range(6))
    small, _, report = reconfigure(model)
    assert small is model and not report.changed
    chain = sequential()
    zero(chain, ["one"], ["two"], channels=range(6))
    small, _, _ = reconfigure(chain)
    assert small.get_layer("one").filters == 1
    np.testing.assert_allclose(outputs(small), outputs(chain), rtol=1e-6, atol=1e-6)


def test_negative_weights_are_weights():
    """The reference code compares without the absolute value and takes them for zero."""
    model = sequential()
    for layer in ("one", "two"):
        kernel = model.get_layer(layer).kernel
        kernel.assign(-np.abs(np.array(kernel)) - 1e-3)
    assert not reconfigure(model)[2].changed


def test_thresholds_and_multiples():
    model = sequential()
    zero(model, ["one"], ["two"])
    kernel = np.array(model.get_layer("one").kernel)
    kernel[..., 1] = 3e-5
    kernel[..., 4] = -2e-4
    model.get_layer("one").kernel.assign(kernel)
    assert reconfigure(model)[0].get_layer("one").filters == 5
    assert reconfigure(model, 1e-3)[0].get_layer("one").filters == 4
    assert reconfigure(model, 0.0)[2].changed is False
    assert reconfigure(model, 1e-3, relative=True)[0].get_layer("one").filters == 4
    assert zero_then_check(model, some_images(), 1e-3) < 1e-2
    rounded = reconfigure(model, 1e-3, multiple_of=5)[0].get_layer("one")
    assert rounded.filters == 5
    assert (np.array(rounded.kernel)[..., 3] == np.float32(-2e-4)).all()  # the larger one


def test_momentum_follows_what_is_left():
    model = lively(residual())
    zero(model, ["b0_one"], ["b0_two"], channels=(0,))
    zero(model, ["b1_two"], channels=range(6))
    values = [np.random.default_rng(3).normal(size=v.shape) for v in model.trainable_variables]
    by_path = dict(zip([v.path for v in model.trainable_variables], values, strict=True))
    for name, axis in (("b0_one", -1), ("b0_two", -2)):
        np.moveaxis(by_path[f"{name}/kernel"], axis, 0)[0] = 0
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    for slot, value in zip(optimizer.variables[2:], values, strict=True):
        slot.assign(value)
    small, slices, report = reconfigure(model)
    followed = slices.apply_to(optimizer, small)
    assert report.blocks and int(followed.iterations) == int(optimizer.iterations)
    slots = {v.name: np.array(v) for v in followed.variables}
    for path, value in by_path.items():
        name = f"{path.replace('/', '_')}_momentum"
        if path.startswith("b1_") and "out" not in path:
            assert name not in slots
            continue
        if path in ("b0_one/kernel", "b0_bn1/gamma", "b0_bn1/beta"):
            value = value[..., 1:]
        if path == "b0_two/kernel":
            value = value[:, :, 1:]
        np.testing.assert_allclose(slots[name], value, rtol=1e-6)


def test_channels_that_a_frozen_kernel_makes_are_not_penalised():
    model = sequential()
    model.get_layer("one").trainable = False
    lasso = GroupLasso(model)
    assert {g.layer for g in lasso.groups if g.counts.any()} == {"two", "hidden", "logits"}
    assert not [g for g in lasso.groups if g.layer == "two" and g.reads]


def test_nothing_prunable_nothing_done():
    model = residual()
    once, _, report = reconfigure(model)
    assert once is model and not report.changed
    zero(model, ["b0_one"], ["b0_two"])
    small, _, _ = reconfigure(model)
    again, _, report = reconfigure(small)
    assert again is small and not report.changed


# ---------------------------------------------------------------- through fit


def trained(folder=None, methods_=None, stop_after=None, model=None, **changes):
    """Four epochs on little images; with `stop_after`, ended from outside after that step."""
    keras.utils.set_random_seed(0)
    values = {
        "epochs": 4, "batch_size": 32, "learning_rate": 0.1, "checkpoint_seconds": 0.0,
        "optimizer": {"name": "sgd", "momentum": 0.9},
    }  # fmt: skip
    original, look, taken = loop.CompiledStep.__call__, loop.LOOK_SECONDS, []

    def step(self, *batch):
        original(self, *batch)
        taken.append(1)
        if len(taken) == stop_after:
            raise KeyboardInterrupt

    loop.CompiledStep.__call__, loop.LOOK_SECONDS = step, 0.0
    try:
        return fit(
            model or residual(), images(192), images(48, seed=1), Settings(**(values | changes)),
            methods=methods_ or [methods.build("prune_train", **STRONG)], workdir=folder,
            verbose=False,
        )  # fmt: skip
    finally:
        loop.CompiledStep.__call__, loop.LOOK_SECONDS = original, look


STRONG = {"ratio": 0.8, "interval": 1, "variant": "proximal"}
GRADUAL = {**STRONG, "ratio": 0.95, "hold": True, "weighting": "macs"}
EAGER = {"ratio": 0.5, "interval": 1, "relative": True, "threshold": 0.3}


def planted(**options):
    """With two channels that `EAGER` takes after the first epoch."""
    return zero(residual(blocks=1, **options), ["b0_one"], ["b0_two"])


@pytest.fixture(scope="module")
def pruned():
    return trained()


def test_training_gets_cheaper_and_the_history_says_so(pruned):
    macs = [row["macs"] for row in pruned.history]
    steps = np.diff([0, *(row["train_macs"] for row in pruned.history)])
    dense = tfeffi.cost(residual()).macs
    assert dense > macs[0] > macs[-1] == tfeffi.cost(pruned.model).macs
    np.testing.assert_array_equal(steps, 3 * 192 * np.array([dense, *macs[:-1]]))
    last = pruned.history[-1]
    assert last["params"] == pruned.model.count_params() and "batch_size" not in last
    assert last["channels"] == GroupLasso(pruned.model).channels
    assert {"seconds", "validation_accuracy"} <= set(last)
    assert pruned.history[-1]["accuracy"] > 0.35  # four classes: it still learns


def test_lambda_comes_from_the_first_batch_and_stays(pruned):
    settings = Settings(epochs=4, batch_size=32, learning_rate=0.1)
    keras.utils.set_random_seed(0)
    model = residual()
    run = begin(model, images(192), None, settings)
    before = [np.array(v) for v in run.model.variables]
    loss, lasso = run.first_loss(), float(GroupLasso(model)())
    for variable, value in zip(run.model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
    expected = penalty_from_ratio(loss, lasso, STRONG["ratio"])
    found = [row["lambda"] for row in pruned.history]
    assert found == pytest.approx([expected] * 4, rel=1e-5)
    assert 1.0 < loss < 3.0


def test_the_threshold_variant_adds_lambda_r_to_the_gradient():
    model = residual()
    method = methods.build("prune_train", ratio=0.3)
    settings = Settings(epochs=1, batch_size=32)
    run = begin(model, images(192), None, settings, [method])
    with tf.GradientTape() as tape:
        extra = method.extra_loss(run)
    kernel = run.model.get_layer("b0_one").kernel
    found = np.array(tape.gradient(extra, kernel.value))
    values = np.float64(kernel)
    made = values / np.sqrt((values**2).sum((0, 1, 2), keepdims=True) + 1e-8)
    read = values / np.sqrt((values**2).sum((0, 1, 3), keepdims=True) + 1e-8)
    np.testing.assert_allclose(found, float(method.penalty) * (made + read), rtol=1e-4, atol=1e-9)
    ratio = float(extra) / (float(extra) + run.first_loss())
    assert ratio == pytest.approx(0.3, rel=1e-4)


def test_a_killed_run_goes_on_bit_for_bit_across_reconfigurations(tmp_path, pruned):
    for steps in (8, 8):  # 6 an epoch: in the second and third epoch
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, stop_after=steps)
    again = trained(tmp_path)
    for x, y in zip(again.model.variables, pruned.model.variables, strict=True):
        np.testing.assert_array_equal(np.array(x), np.array(y))
    for row, wanted in zip(again.history, pruned.history, strict=True):
        assert row["lambda"] == wanted["lambda"] and row["macs"] == wanted["macs"]


class Watching(methods.Method):
    """Notes the multiply-adds before each step."""

    def __init__(self):
        self.macs = []

    def pauses(self, run):
        return range(1, run.steps_per_epoch)

    def on_pause(self, run):
        self.macs.append(tfeffi.cost(run.model).macs)

    on_model = on_epoch_end = on_pause


def test_reconfigurations_within_an_epoch_end_nearer_to_the_target():
    dense, left = tfeffi.cost(residual()).macs, []
    for interval in (1, 1 / 3, 1 / 6):  # six steps an epoch
        method = methods.build(
            "prune_train", **{**GRADUAL, "interval": interval, "start": 0, "target": 0.7}
        )
        watching = Watching()
        made = trained(methods_=[method, watching])
        *before, last = watching.macs
        assert made.train_macs == 3 * 32 * sum(before)
        assert last == tfeffi.cost(made.model).macs == made.history[-1]["macs"] <= 0.7 * dense
        assert made.history[-1]["lambda"] == 0
        changes = np.flatnonzero(np.diff(watching.macs)) + 1  # after so many steps
        assert len(changes) and (changes % round(6 * interval) == 0).all()
        left.append(last / dense)
    assert left[0] < min(left[1:])


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, None), (1, 3), (2, 2)])
def test_no_reconfiguration_before_the_start_or_after_the_stop(start, stop):
    watching = Watching()
    method = methods.build(
        "prune_train", **GRADUAL | {"interval": 0.5, "start": start, "stop": stop}
    )
    trained(methods_=[method, watching])
    changes = (np.flatnonzero(np.diff(watching.macs)) + 1) / 6  # after so many epochs
    assert len(changes) and changes.min() >= start and changes.max() <= (stop or 4)
    assert (start == stop) == (changes % 1 == 0).all()


def test_reconfigured_within_an_epoch_a_killed_run_goes_on_bit_for_bit(tmp_path):
    values = GRADUAL | {"interval": 1 / 3, "start": 0, "target": 0.5}

    def again(**changes):
        return trained(methods_=[methods.build("prune_train", **values)], **changes)

    whole = again()
    for steps in (3, 2, 2, 2, 3, 6):  # kept are one less: at pauses, after one, over an epoch's end
        with pytest.raises(KeyboardInterrupt):
            again(folder=tmp_path, stop_after=steps)
    made = again(folder=tmp_path)
    for x, y in zip(made.model.variables, whole.model.variables, strict=True):
        np.testing.assert_array_equal(np.array(x), np.array(y))
    for column in ("macs", "lambda", "train_macs", "loss"):
        assert [r[column] for r in made.history] == [r[column] for r in whole.history]
    assert whole.history[0]["train_macs"] < 3 * 192 * tfeffi.cost(residual()).macs


def test_the_batch_grows_between_epochs_only():
    class Batches(Watching):
        def on_pause(self, run):
            self.macs.append((run.batch_size, tfeffi.cost(run.model).macs))

        on_model = on_epoch_end = on_pause

    values = GRADUAL | {"interval": 1 / 3, "start": 0, "memory_bytes": 2e6, "granularity": 8}
    watching = Batches()
    trained(methods_=[methods.build("prune_train", **values), watching])
    before, after = watching.macs[:6], watching.macs[6]
    assert {batch for batch, _ in before} == {32} and after[0] > 32
    assert before[-1][1] < before[0][1]


def test_growth_is_seen_when_more_has_left_within_the_epoch():
    """What is grown is pulled on again, though all in all the epoch made the model smaller."""
    growth = methods.build("net2net", epochs=[1], widen=1.2)
    values = GRADUAL | {"interval": 1 / 6, "start": 0, "target": 0.7}
    watching = Watching()
    made = trained(methods_=[growth, methods.build("prune_train", **values), watching])
    grown = watching.macs[6]
    assert watching.macs[5] < grown < watching.macs[0]
    assert made.history[0]["lambda"] > 0
    assert made.history[-1]["lambda"] == 0 and made.history[-1]["macs"] <= 0.7 * grown


def test_growth_behind_it_is_seen_when_more_leaves_within_the_next_epoch():
    growth = methods.build("net2net", epochs=[1], widen=1.2)
    prune = methods.build("prune_train", **GRADUAL | {"interval": 1 / 6, "start": 0})
    watching = Watching()
    made = trained(methods_=[prune, growth, watching])
    assert watching.macs[6] > watching.macs[11]  # grown after the first epoch; late in the second
    first, second, third, _ = (row["lambda"] for row in made.history)
    assert first != second == third > 0


@pytest.mark.parametrize("steps", [6, 49])
def test_parts_of_an_epoch_down_to_a_step(steps):
    method = methods.build("prune_train", **{**STRONG, "interval": 1 / steps, "start": 0})
    settings = Settings(epochs=2, batch_size=2)
    run = begin(residual(), images(2 * steps), None, settings, [method])
    assert list(method.pauses(run)) == list(range(1, steps))
    run.batch_size = 4  # as a growing batch does
    assert all(0 < step < run.steps_per_epoch for step in method.pauses(run))
    assert len(set(method.pauses(run))) == len(method.pauses(run))


def test_an_interval_below_a_step():
    with pytest.raises(
        BadInput, match=r"interval=0\.1 of an epoch of 6 steps is less than one step"
    ):
        trained(methods_=[methods.build("prune_train", interval=0.1)])


@pytest.mark.parametrize(
    ("precision", "coupled"), [("float32", True), ("float32", False), ("mixed_bfloat16", False)]
)
def test_with_held_norms_a_killed_run_goes_on_bit_for_bit(tmp_path, precision, coupled):
    def methods_():
        return [methods.build("prune_train", **held), Norms(seen)]

    class Norms(methods.Method):
        def __init__(self, seen):
            self.seen = seen

        def after_step(self, run):
            kernel = run.model.get_layer("b0_one").kernel
            self.seen.append(kernel.shape[-1])  # traced anew where channels have gone

    seen = []
    held = {**STRONG, "ratio": 0.95, "hold": True, "weighting": "macs", "target": 0.7}
    held["coupled"] = coupled
    whole = trained(methods_=methods_(), precision=precision)
    assert min(seen) < max(seen) and whole.history[-1]["lambda"] == 0
    for steps in (8, 8):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, stop_after=steps, methods_=methods_(), precision=precision)
    again = trained(tmp_path, methods_=methods_(), precision=precision)
    for x, y in zip(again.model.variables, whole.model.variables, strict=True):
        np.testing.assert_array_equal(np.array(x), np.array(y))
    assert [row["macs"] for row in again.history] == [row["macs"] for row in whole.history]


@pytest.mark.parametrize(
    ("variant", "precision"), [("threshold", "float32"), ("proximal", "mixed_bfloat16")]
)
def test_a_penalty_by_macs_while_images_grow(variant, precision):
    """Its weights are those of the full size from the start, so that λ keeps its meaning."""
    resizing = methods.build("progressive_resizing", sizes=[(0, 4), (2, 8)])
    strong = {**STRONG, "ratio": 0.97, "variant": variant, "weighting": "macs"}
    prune = methods.build("prune_train", **strong)
    run = begin(residual(), images(192), None, Settings(epochs=4), [resizing, prune])
    share = float(prune.penalty) * float(GroupLasso(run.model, "macs", (8, 8, 1))())
    assert run.image_size == (4, 4)
    assert share / (share + run.first_loss()) == pytest.approx(0.97, rel=1e-4)
    made = trained(methods_=[resizing, prune], precision=precision)
    dies = tfeffi.cost(made.model).macs < tfeffi.cost(residual()).macs
    assert dies == (variant == "proximal")
    assert all(np.isfinite(tf.convert_to_tensor(w)).all() for w in made.model.weights)


def test_what_comes_out_is_an_ordinary_model(tmp_path, pruned):
    made = tfeffi.export(pruned.model, tmp_path / "small.tflite")
    assert made.bytes < tfeffi.export(residual(), tmp_path / "dense.tflite").bytes
    found = tfeffi.bench.evaluate(tmp_path / "small.tflite", images(48, seed=1))
    assert found == pytest.approx(pruned.history[-1]["validation_accuracy"])
    pruned.model.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(outputs(loaded), outputs(pruned.model))


@pytest.mark.parametrize("variant", ["threshold", "proximal"])
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_in_sixteen_bits(variant, precision):
    method = methods.build("prune_train", **{**EAGER, "variant": variant})
    made = trained(None, [method], precision=precision, epochs=2, model=planted())
    assert made.history[-1]["macs"] < tfeffi.cost(residual(blocks=1)).macs
    assert all(np.isfinite(w.numpy()).all() for w in made.model.weights)


def test_the_batch_grows_into_the_memory_and_the_rate_with_it():
    model = residual()
    memory = training_memory(model, slots=1)
    budget = memory.bytes(40)
    method = methods.build("prune_train", **STRONG, memory_bytes=budget, granularity=8)
    made = trained(None, [method], epochs=3, schedule={"name": "constant"})
    batches = [row["batch_size"] for row in made.history]
    assert batches == sorted(batches) and batches[0] >= 40 and batches[-1] > 40
    assert all(batch % 8 == 0 for batch in batches)
    rates = [row["learning_rate"] for row in made.history]
    for rate, batch in zip(rates[1:], batches, strict=False):
        assert rate / batch == pytest.approx(0.1 / 32)
    last = training_memory(made.model, slots=1)
    assert last.bytes(batches[-1]) <= budget < last.bytes(batches[-1] + 8)


def test_the_batch_never_shrinks():
    budget = training_memory(residual(), slots=1).bytes(9)
    method = methods.build("prune_train", ratio=0.1, interval=1, memory_bytes=budget, granularity=8)
    with pytest.warns(
        methods.NoEffectWarning, match="is for 8 images of this model, but the batch"
    ):
        assert trained(None, [method], epochs=1).history[-1]["batch_size"] == 32


def test_the_batch_is_a_multiple_also_at_its_limit():
    budget = training_memory(residual(), slots=1).bytes(400)
    for limit, largest in ((100, 96), (None, 192)):  # there are 192 images
        method = methods.build("prune_train", **STRONG, memory_bytes=budget, max_batch=limit)
        assert trained(None, [method], epochs=1).history[-1]["batch_size"] == largest


def test_ghost_batches_divide_the_growing_batch():
    budget = training_memory(residual(), slots=1).bytes(70)
    method = methods.build("prune_train", **STRONG, memory_bytes=budget, granularity=8)
    made = trained(None, [method], epochs=1, ghost_batch=16)
    assert made.history[-1]["batch_size"] >= 64 and made.history[-1]["batch_size"] % 16 == 0


def test_the_batch_shrinks_when_another_method_lets_the_model_grow():
    budget = training_memory(residual(), slots=1).bytes(64)
    growth = methods.build("net2net", epochs=[2], widen=2.0)
    method = methods.build("prune_train", ratio=0.1, interval=1, memory_bytes=budget, granularity=8)
    made = trained(None, [growth, method], epochs=3)
    batches = [row["batch_size"] for row in made.history]
    assert batches[0] == 64 > batches[1]
    last = training_memory(made.model, slots=1)
    assert last.bytes(batches[-1]) <= budget


def test_a_model_that_grows_out_of_the_memory_trains_on_with_the_smallest_batch():
    budget = training_memory(residual(), slots=1).bytes(4)
    growth = methods.build("net2net", epochs=[1], widen=8.0)
    method = methods.build("prune_train", ratio=0.1, interval=9, memory_bytes=budget)
    assert training_memory(tfeffi.widen(residual(), 8.0)[0], slots=1).bytes(1) > budget
    with pytest.warns(methods.NoEffectWarning, match="too little for the model that has grown"):
        made = trained(None, [growth, method], epochs=2, batch_size=4, ghost_batch=2)
    assert [row["batch_size"] for row in made.history] == [2, 2]


@pytest.mark.parametrize("epochs", [[2], [3]])
def test_the_batch_shrinks_also_when_pruning_is_over(epochs):
    budget = training_memory(residual(), slots=1).bytes(64)
    growth = methods.build("net2net", epochs=epochs, widen=2.0)
    method = methods.build(
        "prune_train", ratio=0.1, interval=1, stop=2, memory_bytes=budget, granularity=8
    )
    batches = [row["batch_size"] for row in trained(None, [growth, method], epochs=4).history]
    assert batches[epochs[0] - 2] == 64 > batches[epochs[0] - 1] == batches[-1]


@pytest.mark.slow
def test_two_replicas_prune_as_one():
    done = subprocess.run(
        [sys.executable, "-m", "tests.methods.pruning_replicas"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for name in ("threshold", "proximal", "threshold, plain", "proximal, plain"):
        one, two = found[f"{name} one"], found[f"{name} two"]
        dense = tfeffi.cost(planted()).macs
        assert one["macs"] == two["macs"] and one["macs"][0] < dense
        assert one["train_macs"] == two["train_macs"]
        assert (one["train_macs"][0] < 3 * 96 * dense) == name.startswith("proximal")
        # with batch normalization alike, not equal: each replica has the statistics of its half
        close = 1e-4 if "plain" in name else 0.1
        assert two["loss"] == pytest.approx(one["loss"], rel=close)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 0.0}, "ratio=0.0 is the penalty's share"),
        ({"ratio": 1}, "ratio=1 .* between 0 and 1"),
        ({"ratio": "a"}, "ratio='a'"),
        ({"interval": 0}, "interval=0 must be a whole number of epochs, at least 1, or 1/n of one"),
        ({"interval": 2.5}, "interval=2.5"),
        ({"interval": 0.3}, "interval=0.3 .* or 1/n of one, such as 0.25 or 1/3"),
        ({"interval": 1e-320}, "interval=1e-320"),
        ({"interval": float("inf")}, "interval=inf"),
        ({"interval": True}, "interval=True"),
        ({"interval": float("nan")}, "interval=nan"),
        ({"memory_bytes": "2e9"}, "memory_bytes='2e9' must be a number of at least 1"),
        ({"max_batch": 0}, "max_batch=0 must be a whole number of at least 1"),
        ({"memory_bytes": float("inf")}, "memory_bytes=inf must be a number"),
        ({"start": -1}, "start=-1 and stop=None must be whole epochs, 0 <= start"),
        ({"start": 0, "stop": 0}, "start=0 and stop=0 must be whole epochs, .* stop at least 1"),
        ({"stop": 4.5}, "start=1 and stop=4.5 must be whole epochs"),
        ({"start": "1"}, "start='1' and stop=None"),
        ({"multiple_of": 0}, "multiple_of=0"),
        ({"granularity": 0}, "granularity=0"),
        ({"threshold": -1}, "threshold=-1 must be a number from 0"),
        ({"threshold": 1.0, "relative": True}, "threshold=1.0 is a share .* must be below 1"),
        ({"weighting": "mac"}, 'weighting="mac" is not known; did you mean "macs"'),
        ({"target": 1.5}, "target=1.5 is the share .* between 0 and 1"),
        ({"max_batch": 256.0}, "max_batch=256.0 must be a whole number of at least 1, or None"),
        ({"hold": True}, 'hold is of variant="proximal"'),
        ({"variant": "proximol"}, 'variant="proximol" is not known; did you mean "proximal"'),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(BadInput, match=message):
        methods.build("prune_train", **arguments)


def test_a_start_after_the_end():
    with pytest.raises(BadInput, match="start=5 is after the last of 4 epochs"):
        trained(methods_=[methods.build("prune_train", start=5)])


def test_a_budget_below_one_image():
    with pytest.raises(BadInput, match=r"memory_bytes=1000: .* below one image, which needs"):
        trained(None, [methods.build("prune_train", memory_bytes=1000)])


def test_a_model_without_channels_to_prune():
    model = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(4, name="logits")])
    with pytest.raises(BadInput, match="no channel of the model is free to go"):
        trained(model=model)
