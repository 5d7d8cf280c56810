"""Sixteen bits: what training reaches in float32, bfloat16 and float16, and what float16 loses.

    tfeffi-fetch-data --dataset=cifar10
    python benchmarks/precision.py --output=results/precision.json --figure=docs/gradient_exponents.png

What: ResNet-8 for CIFAR-10 of four widths, a fixed training in float32 and in mixed_bfloat16;
and, because CPUs have no float16 convolutions worth the name, a shorter one of narrow networks in
mixed_float16 too. Then the gradients of one trained network, of all kernels and of all layers'
outputs: their exponents in float32, and what real float16 backward passes on the same batch make of
them without loss scale, with 2¹⁵, and with the largest scale that leaves them finite, where dynamic
scaling climbs to.

Why: which precision pays here, and why float16 needs a loss scale and bfloat16 does not.

Source: Micikevicius et al. 2017, "Mixed Precision Training", arXiv 1710.03740, section 3.2.

The benchmark runs all this and adds step times and memory, which `tfeffi-experiment` of this file
leaves out.
"""

from ml_collections import ConfigDict


def get_config():
    """The experiment."""
    full = {"batch_size": 128, "learning_rate": 0.1, "augment": {"crop": 4, "flip": True}}
    full["schedule"] = {"name": "triangular"}
    # Keras's 0.99 looks back on 100 steps, more than an epoch here
    full["batch_norm_momentum"] = 0.9
    short = {"epochs": 3, "batch_size": 64, "learning_rate": 0.05, "batch_norm_momentum": 0.8}
    return ConfigDict(
        {
            "name": "precision",
            "experiment": "precision",
            "seeds": (0, 1),
            "data": {"name": "cifar10", "test": "test"},
            "model": {"name": "resnet_cifar", "depth": 8},
            "trainings": ConfigDict(
                {
                    "long": {
                        "split": "train[:10000]",
                        "widths": (8, 16, 32, 64),
                        "precisions": ("float32", "mixed_bfloat16"),
                        "settings": {"epochs": 5, **full},
                    },
                    "short": {
                        "split": "train[:4000]",
                        "widths": (2, 4, 8),
                        "precisions": ("float32", "mixed_bfloat16", "mixed_float16"),
                        "settings": short,
                    },
                },
                sort_keys=False,
            ),
            "gradients": {
                "width": 8,
                "split": "train[:10000]",
                "settings": {"epochs": 5, **full},
                "images": 128,
                "scales": (1, 2**15),
            },
        }
    )
