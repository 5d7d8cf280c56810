"""Architectures are found by name; what is of no use is told in one line."""

import pytest

from tfeffi import models
from tfeffi.errors import BadInput

SMALL = {"input_shape": (8, 8, 3), "num_classes": 3}


def test_names_are_those_of_the_files():
    assert {"mnist_classifier", "mnist_autoencoder", "resnet_cifar", "vgg"} <= set(models.names())
    assert "blocks" not in models.names()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet_cifr", SMALL, 'no architecture "resnet_cifr"; did you mean "resnet_cifar"'),
        ("blocks", SMALL, 'no architecture "blocks"'),
        ("zzz", SMALL, "known: .*mobilenet_v2"),
        (
            "vgg",
            {"num_classes": 3},
            "missing .*'input_shape'; build takes input_shape, num_classes",
        ),
        ("vgg", {**SMALL, "widht": 2}, "'widht'; build takes .*width_multiplier=1.0"),
        ("vgg", {**SMALL, "depth": 12}, "depth=12; give one of 8, 11, 13, 16"),
        ("vgg", {**SMALL, "depth": True}, "depth=True"),
        ("resnet_imagenet", {**SMALL, "depth": 20}, "depth=20; give one of 18, 34, 50"),
        ("resnet_imagenet", {**SMALL, "stride_in": "5x5"}, "stride_in='5x5'; give one of"),
        ("resnet_cifar", {**SMALL, "depth": 21}, r"depth=21 is not 6n\+2.* give 20 or 26"),
        ("resnet_cifar", {**SMALL, "depth": 2}, "give 8$"),
        ("resnet_cifar", {**SMALL, "depth": -4}, "depth=-4; give a whole number"),
        ("resnet_cifar", {**SMALL, "depth": 50, "block": "bottleneck"}, "give 47 or 56"),
        ("resnet_cifar", {**SMALL, "block": "dense"}, "block='dense'; give one of"),
        ("resnet_cifar", {**SMALL, "width": 2.5}, "width=2.5; give a whole number"),
        ("mobilenet_v2", {**SMALL, "reductions": 6}, "reductions=6"),
        ("resnet_short", {**SMALL, "repeats": 2}, "repeats=2; give a list of each"),
        ("resnet_short", {**SMALL, "widths": 16}, "widths=16"),
        ("resnet_short", {**SMALL, "repeats": (0, 1)}, "each of 3 widths"),
        ("resnet_short", {**SMALL, "repeats": (0, 1, -1)}, "from 0"),
        ("resnet_short", {**SMALL, "shortcuts": 2}, "True, False, or one of them a stage"),
        ("resnet_short", {**SMALL, "shortcuts": (True, False)}, "one of them a stage"),
        ("resnet_short", {**SMALL, "head": -1}, "head=-1"),
        ("mnist_autoencoder", {"widths": (3, 4)}, r"widths=\(3, 4\); give 3"),
        ("mnist_autoencoder", {"widths": "abc"}, "widths='abc'; give 3"),
        ("mnist_autoencoder", {"widths": (3, 0, 4)}, "widths=0"),
        ("mnist_autoencoder", {"final_activation": "tanh"}, "final_activation='tanh'"),
    ],
)
def test_bad_arguments(name, arguments, message):
    with pytest.raises(BadInput, match=message) as raised:
        models.build(name, **arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", [name for name in models.names() if name != "mnist_autoencoder"])
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("input_shape", (8, 8)),
        ("input_shape", (8, 0, 3)),
        ("input_shape", (None, None, 3)),
        ("input_shape", 8),
        ("input_shape", "8x8"),
        ("num_classes", 0),
        ("num_classes", 2.5),
        ("num_classes", "ten"),
        ("num_classes", True),
        ("width_multiplier", 0),
        ("width_multiplier", -1.0),
        ("width_multiplier", float("nan")),
        ("width_multiplier", "wide"),
    ],
)
def test_what_every_architecture_refuses(name, argument, value):
    with pytest.raises(BadInput, match=f"{argument}="):
        models.build(name, **{**SMALL, argument: value})


def test_shapes_may_be_lists_and_numpy_numbers():
    import numpy as np

    model = models.build(
        "vgg", depth=8, input_shape=list(np.array([8, 6, 1])), num_classes=np.int64(2)
    )
    assert model.input_shape == (None, 8, 6, 1)
    assert model.output_shape == (None, 2)
