"""Every architecture of tfeffi can be pruned: exactly what is dead, and down to a budget."""

import numpy as np
import pytest

from tests.surgery.drawn import gap, layer_of, lively
from tfeffi import models
from tfeffi.analysis.cost import cost
from tfeffi.compress import Budget, prune
from tfeffi.surgery import Coupling, apply

TINY = dict(input_shape=(16, 16, 3), num_classes=10)
MODELS = {
    "mnist_classifier": ("mnist_classifier", {}),
    "mnist_autoencoder": ("mnist_autoencoder", {}),
    "resnet_8": ("resnet_cifar", dict(depth=8, **TINY)),
    "resnet_20": ("resnet_cifar", dict(depth=20, **TINY)),
    "resnet_20_bottleneck": ("resnet_cifar", dict(depth=20, block="bottleneck", **TINY)),
    "resnet_32": ("resnet_cifar", dict(depth=32, **TINY)),
    "resnet_50": ("resnet_cifar", dict(depth=50, **TINY)),
    "resnet_56_bottleneck": ("resnet_cifar", dict(depth=56, block="bottleneck", **TINY)),
    "resnet8_mlperf_tiny": ("resnet8_mlperf_tiny", {}),
    "mobilenet_v2": ("mobilenet_v2", TINY),
    "vgg": ("vgg", dict(width_multiplier=0.25, **TINY)),
    "resnet_34": ("resnet_imagenet", dict(depth=34, width_multiplier=0.25, **TINY)),
    "resnet_50_imagenet": ("resnet_imagenet", dict(depth=50, width_multiplier=0.25, **TINY)),
}
SLOW = {
    "resnet_32",
    "resnet_50",
    "resnet_56_bottleneck",
    "resnet_34",
}  # deeper copies of the others


@pytest.fixture(
    params=[pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in MODELS],
    scope="module",
)
def model(request):
    name, arguments = MODELS[request.param]
    made = models.build(name, **arguments)
    lively(made)
    return made


def pictures(model, count=4):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(1).random(shape, np.float32)


def zero_readers(model, coupling, kept):
    """Masks in place: the kernel rows that read dropped classes."""
    for path, _, classes in coupling.reads:
        layer = layer_of(model, path)
        kernel = layer.pointwise_kernel if "Separable" in type(layer).__name__ else layer.kernel
        axis = -1 if "Transpose" in type(layer).__name__ else -2
        rows = np.moveaxis(np.array(kernel), axis, 0)
        rows[~kept[classes]] = 0
        kernel.assign(np.moveaxis(rows, 0, axis))


def test_a_budget_is_met_and_all_but_the_output_may_go(model):
    x = pictures(model)
    small, report = prune(model, Budget(macs=0.5), importance="activations", data=x)
    assert report.after == cost(small)
    assert report.after.macs <= 0.5 * report.before.macs
    assert report.after.macs >= 0.35 * report.before.macs
    assert small.output_shape == model.output_shape
    assert all(np.isfinite(small(x)).ravel())
    assert [s.layer for s in report.skipped] in (["logits"], ["decoder2_conv"])


def test_half_of_every_group_gone_equals_the_masked_model(model):
    coupling = Coupling.of(model)
    kept = np.ones(coupling.classes.count, bool)
    random = np.random.default_rng(2)
    for group in coupling.groups:
        if not group.pinned and group.size > 1:
            kept[random.permutation(group.classes)[: group.size // 2]] = False
    small, _ = apply(coupling, coupling.keep(kept))
    x, weights = pictures(model), model.get_weights()
    zero_readers(model, coupling, kept)
    masked = model(x)
    model.set_weights(weights)
    assert np.abs(masked).max() > 1e-3
    assert gap(masked, small(x)) <= 1e-5
    assert small.count_params() < 0.6 * model.count_params()
