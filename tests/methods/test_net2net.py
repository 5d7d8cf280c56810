"""Net2Net: growing changes nothing that is computed; with PruneTrain it takes turns."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfeffi
from tests.methods.test_prune_train import (
    lively,
    outputs,
    residual,
    sequential,
    some_images,
    trained,
    zero,
)
from tfeffi import methods
from tfeffi.errors import BadInput
from tfeffi.methods.net2net import grow
from tfeffi.methods.prune_train import GroupLasso, penalty_from_ratio

L = keras.layers


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


def branching():
    """Concatenation, a depthwise convolution, max pooling."""
    x = inputs = keras.Input((8, 8, 1))
    parts = [L.Conv2D(n, 3, padding="same", activation="relu", name=f"c{n}")(x) for n in (3, 5)]
    x = L.Concatenate(name="joined")(parts)
    x = L.BatchNormalization(name="bn")(L.DepthwiseConv2D(3, name="depthwise")(x))
    x = L.MaxPooling2D(name="pool")(L.Conv2D(6, 1, name="mix")(x))
    return keras.Model(inputs, L.Dense(4, name="logits")(L.Flatten(name="flat")(x)))


@pytest.mark.parametrize("make", [sequential, residual, branching])
def test_wider_twice_computes_the_same(make):
    model = lively(make())
    once, _ = grow(model, 1.5)
    twice, _ = grow(once, 1.5, seed=1)
    assert model.count_params() < once.count_params() < twice.count_params()
    for grown in (once, twice):
        np.testing.assert_allclose(outputs(grown), outputs(model), rtol=1e-5, atol=1e-5)


def test_wider_by_name_counts_its_weights():
    wider, _ = grow(sequential(), {"one": 9})
    assert wider.get_layer("one").filters == 9
    assert wider.count_params() - sequential().count_params() == 3 * (9 * 1 + 4 + 9 * 8)


def test_copies_pruned_back_are_the_model():
    """Widened by copies, then cut back to the sources with their readers made whole again."""
    model = sequential()
    wider, _ = grow(model, {"one": 12})
    kernel = np.array(wider.get_layer("one").kernel)
    source = [int(np.flatnonzero([(kernel[..., j] == kernel[..., i]).all() for j in range(6)])[0])
              for i in range(12)]  # fmt: skip
    narrow, _ = tfeffi.reindex(wider, {"one": range(6)})
    readers = np.array(narrow.get_layer("two").kernel) * np.bincount(source)[None, None, :, None]
    narrow.get_layer("two").kernel.assign(readers)
    np.testing.assert_allclose(outputs(narrow), outputs(model), rtol=1e-5, atol=1e-6)


def test_noise_moves_the_outputs_a_little():
    model = lively(sequential())
    disturbed, _ = grow(model, 1.5, noise=1e-2)
    moved = np.abs(outputs(disturbed) - outputs(model)).max()
    assert 1e-5 < moved < 0.1 * np.abs(outputs(model)).max()


def test_deeper_with_batch_normalization_computes_the_same():
    model = lively(residual())
    deeper, slices = grow(model, 1.5, after=["b0_one"], images=some_images())
    assert deeper.get_layer("b0_one_deeper").filters == 9 and slices.by_name
    np.testing.assert_allclose(outputs(deeper), outputs(model), rtol=1e-4, atol=1e-4)


def test_momentum_follows_and_new_layers_start_afresh():
    model = residual()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    for slot in optimizer.variables[2:]:
        slot.assign(np.random.default_rng(1).normal(size=slot.shape))
    optimizer.iterations.assign(7)
    deeper, slices = grow(model, {"b1_one": 8}, after=["b0_one"], images=some_images())
    followed = slices.apply_to(optimizer, deeper)
    assert int(followed.iterations) == 7
    before = {v.name: np.array(v) for v in optimizer.variables}
    after = {v.name: np.array(v) for v in followed.variables}
    new = set(after) - set(before)
    assert {"b0_one_deeper_kernel_momentum"} < new
    assert all(not after[name].any() for name in new)
    np.testing.assert_array_equal(after["stem_kernel_momentum"], before["stem_kernel_momentum"])
    wide = after["b1_one_kernel_momentum"]
    kernel, copied = (np.array(m.get_layer("b1_one").kernel) for m in (model, deeper))
    for i in range(8):
        j = int(np.flatnonzero([(copied[..., i] == kernel[..., j]).all() for j in range(6)])[0])
        times = sum((copied[..., k] == kernel[..., j]).all() for k in range(8))
        expected = before["b1_one_kernel_momentum"][..., j] / times
        np.testing.assert_allclose(wide[..., i], expected, rtol=1e-5)


# ---------------------------------------------------------------- through fit


def growing(**changes):
    return methods.build("net2net", **{"epochs": [1, 3], "widen": 1.5, **changes})


def test_a_run_grows_where_it_is_told_to(tmp_path):
    made = trained(methods_=[growing()])
    steps = np.diff([0, *(row["train_macs"] for row in made.history)])
    assert steps[0] < steps[1] == steps[2] < steps[3]
    widths = [made.model.get_layer(name).filters for name in ("stem", "b0_one")]
    assert widths == [14, 14]  # 6, 9, 14
    assert tfeffi.export(made.model, tmp_path / "grown.tflite").bytes > 0


def test_the_rate_is_lowered_from_each_growth_on():
    made = trained(
        methods_=[growing(learning_rate_factor=0.5)], schedule={"name": "constant"},
        learning_rate=0.04,
    )  # fmt: skip
    rates = [row["learning_rate"] for row in made.history]
    assert rates == pytest.approx([0.04, 0.02, 0.02, 0.01])


def both(ratio=0.8, **more):
    prune = methods.build("prune_train", ratio=ratio, interval=1, variant="proximal", **more)
    return [growing(deepen=["b0_one"], epochs=[2]), prune]


def test_grow_and_prune_take_turns_and_lambda_is_learned_anew(tmp_path):
    slow = {"learning_rate": 0.02, "schedule": {"name": "constant"}}  # dies in the third epoch
    made = trained(methods_=both(0.9), **slow)
    macs = [row["macs"] for row in made.history]
    penalties = [row["lambda"] for row in made.history]
    assert macs[1] > macs[0] and macs[-1] < macs[1]
    assert penalties[0] != penalties[1] and penalties[1:] == [penalties[1]] * 3
    for steps in (9, 5, 7):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, both(0.9), stop_after=steps, **slow)
    again = trained(tmp_path, both(0.9), **slow)
    for x, y in zip(again.model.variables, made.model.variables, strict=True):
        np.testing.assert_array_equal(np.array(x), np.array(y))
    assert [row["lambda"] for row in again.history] == penalties


def test_a_target_is_a_share_of_the_model_that_has_grown(tmp_path):
    slow = {"learning_rate": 0.02, "schedule": {"name": "constant"}}
    chosen = functools.partial(both, 0.9, target=0.7)
    made = trained(methods_=chosen(), **slow)
    macs, penalties = ([row[name] for row in made.history] for name in ("macs", "lambda"))
    assert macs[1] > macs[0]  # the grown one
    ends = [epoch for epoch, value in enumerate(macs) if epoch > 1 and value <= 0.7 * macs[1]]
    assert ends and all(penalties[: ends[0]]) and not any(penalties[ends[0] :])
    for steps in (9, 8):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, chosen(), stop_after=steps, **slow)
    again = trained(tmp_path, chosen(), **slow)
    for name, values in (("macs", macs), ("lambda", penalties)):
        assert [row[name] for row in again.history] == values


def test_lambda_after_growth_is_the_ratio_of_the_grown_model():
    seen = {}

    class Watch(methods.Method):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                seen["lasso"] = float(GroupLasso(run.model)())
                seen["loss"] = run.first_loss()

    growth, prune = both()
    made = trained(methods_=[growth, prune, Watch()])
    expected = penalty_from_ratio(seen["loss"], seen["lasso"], 0.8)
    assert made.history[1]["lambda"] == pytest.approx(expected, rel=1e-5)


def test_what_is_dead_when_the_model_grows_leaves_before_lambda_is_learned():
    """Else the copies of dead channels would live on, and the target would be reached by them."""
    seen = {}

    class Watch(methods.Method):
        def on_epoch_end(self, run):
            if run.epoch == 1:
                seen["lasso"] = float(GroupLasso(run.model)())
                seen["loss"] = run.first_loss()

    growth = growing(epochs=[1], widen={"b0_one": 12}, noise=0.5)
    prune = methods.build("prune_train", ratio=0.1, interval=1, target=0.9)
    model = zero(residual(blocks=1), ["b0_one"], ["b0_two"], range(5))
    made = trained(methods_=[growth, prune, Watch()], model=model, epochs=2)
    assert made.model.get_layer("b0_one").filters == 7  # the live one, and six copies of it
    expected = penalty_from_ratio(seen["loss"], seen["lasso"], 0.1)
    assert [row["lambda"] for row in made.history] == pytest.approx([expected] * 2, rel=1e-5)


@pytest.mark.parametrize("first", ["resizing", "growth"])
def test_it_grows_deeper_while_images_are_small(first):
    chosen = [
        methods.build("progressive_resizing", sizes=[(0, 4), (2, 8)]),
        growing(deepen=["b0_one"], widen=None, epochs=[1]),
    ]
    made = trained(methods_=chosen if first == "resizing" else chosen[::-1], epochs=3)
    assert len(made.model.layers) > len(residual().layers)


@pytest.mark.parametrize(("others", "width"), [({"b1_one": 12}, 12), ({}, 6)])
def test_a_layer_that_has_left_no_longer_grows(others, width):
    growth = growing(
        epochs=[2], widen={"b0_one": 12, **others}, deepen=["b0_two"], learning_rate_factor=0.5
    )
    prune = methods.build("prune_train", ratio=0.1, interval=1)
    block = zero(residual(), ["b0_one", "b0_two"], [], range(6))
    with pytest.warns(
        methods.NoEffectWarning, match="b0_two, b0_one left the model before epoch 2"
    ):
        made = trained(
            methods_=[growth, prune], model=block, epochs=3, schedule={"name": "constant"}
        )
    assert made.model.get_layer("b1_one").filters == width
    rates = [row["learning_rate"] for row in made.history]
    assert rates[2] == pytest.approx(rates[1] * (0.5 if others else 1.0))


def test_what_is_dead_leaves_also_between_reconfigurations():
    growth = growing(epochs=[1], widen={"b0_one": 12})
    prune = methods.build("prune_train", ratio=0.1, interval=5)
    model = zero(residual(blocks=1), ["b0_one"], ["b0_two"], range(5))
    made = trained(methods_=[growth, prune], model=model, epochs=2)
    assert made.model.get_layer("b0_one").filters == 7


def test_in_bfloat16():
    made = trained(methods_=both(), precision="mixed_bfloat16")
    assert all(np.isfinite(tf.convert_to_tensor(w)).all() for w in made.model.weights)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widen": 0.5}, "widen=0.5 asks for fewer channels"),
        ({"widen": {"stem": 0.5}}, "asks for fewer channels"),
        ({"widen": 0}, "widen=0 asks for fewer channels"),
        ({"widen": False}, "widen=False asks for fewer channels"),
        ({"widen": {"stem": 0}}, "asks for fewer channels"),
        ({"widen": None}, "give widen, deepen or both"),
        ({"widen": {}}, "give widen, deepen or both"),
        ({"epochs": [0]}, r"epochs=\[0\] must be whole numbers"),
        ({"epochs": []}, r"epochs=\[\]"),
        ({"epochs": 2.0}, r"epochs=\[2.0\] must be whole numbers"),
        ({"deepen": 5}, "deepen=5 must be names of layers"),
        ({"learning_rate_factor": 0}, "learning_rate_factor=0 must be above 0"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(BadInput, match=message):
        growing(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widen": {"stem": 4}}, '"stem" has 6 channels, and 4 are fewer; prune makes it narrower'),
        ({"widen": {"stam": 8}}, 'layer "stam" is not in the model; did you mean "stem"'),
        ({"widen": None, "deepen": ["b0_on"]}, '"b0_on" is not in the model'),
    ],
)
def test_growth_that_cannot_be_is_told_before_the_first_epoch(arguments, message):
    with pytest.raises(BadInput, match=message):
        trained(methods_=[growing(epochs=[3], **arguments)])


def test_growth_after_the_end_is_noticed():
    with pytest.warns(methods.NoEffectWarning, match=r"epochs=\[4\] are not within the 4 epochs"):
        trained(methods_=[growing(epochs=[4])])
