"""Convolutions as pairs of cheaper ones, on the MNIST classifier: where they break even.

    tfeffi-fetch-data --dataset=mnist
    tfeffi-experiment --config=configs/mnist_structures.py --output=results/mnist_structures.json
    tfeffi-experiment --config=configs/mnist_structures.py --config.timing=True \\
        --output=results/mnist_structures.json --figure=docs/mnist_structures.png

The first command trains (each variant and seed once; a killed run goes on), the second times what is
trained and wants a quiet machine: all variants interleaved in one run, then each layer by itself
against its pairs.

What: the network of Çallı 2017, table 2.2, trained on all 60 000 images of MNIST; its convolutions as
N×1 to P channels, ReLU, 1×N from scratch (the hard constraint of Alvarez & Petersson 2016) at 1/8, 1/4
and 1/2 of the largest P that saves multiply-adds, at that P and at the next one; depthwise separable
from scratch; and the trained 2-D network factorized by SVD into pairs of the same P, linear in
between, and fine-tuned for an epoch. Accuracies are of the Keras models on the 10 000 test images,
bytes and latencies of the .tflite of the first seed.

Why: the source derives P < NKL/(K+L) and uses it for all three layers. It holds for SAME padding and
stride 1. The third layer is VALID on a single 7×7 patch: its first convolution works at 7 columns and
its second at 1, so that P < NKL/(NK+L), 99.56 and not 298.67. `tfeffi.analysis.break_even` has the
general form; the result holds the multiply-adds counted on built models on both sides of it.

Cost: about 15 minutes of training and 3 of timing on two cores with avx512_bf16.

What to expect: multiply-adds as the bounds say. Latency does not follow them everywhere: at batch 1 the
third layer reads each of its 401 408 weights once, and its pairs stay faster until near P = 265, where
they have as many weights; the second layer's pairs stop to pay a little below their bound, two layers
being dearer than one. In accuracy: 99.2 % in 2-D; with half of the multiply-adds a third of a point
less, with an eighth 0.7 points, separable with an eighteenth 0.8.

What we saw did not help: one channel with a ReLU behind it. At 1/8 and 1/4 of the bound the first
layer, whose bound is 4.85, is left with P = 1; of ten such trainings one never left 11.35 %, as its
only channel was dead from the start. The median is in the result beside the mean for that reason.
A separable first layer has one input channel, so a single 5×5 filter feeds all 32 outputs.
"""

from ml_collections import ConfigDict

from tfeffi.analysis.break_even import break_even_rank

# inputs, outputs, kernel, positions before and after: the network of Table 2.2
CONVOLUTIONS = {
    "conv1": (1, 32, 5, 1, 1),
    "conv2": (32, 64, 5, 1, 1),
    "conv3": (64, 128, 7, 7, 1),
}


def highest(layer):
    """The largest P that still saves multiply-adds."""
    inputs, outputs, size, before, after = CONVOLUTIONS[layer]
    return break_even_rank("1d", inputs, outputs, size, input_width=before, output_width=after)


def ranks(share):
    """P of each layer at a share of its largest."""
    return {layer: max(1, round(share * highest(layer))) for layer in CONVOLUTIONS}


def pairs(share):
    """Fresh 1-D pairs, with the ReLU between that Alvarez & Petersson put there."""
    return {"ranks": ranks(share), "mid_activation": "relu"}


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "mnist_structures",
            "experiment": "mnist_structures",
            "seeds": (0, 1, 2, 3, 4),
            "data": {"name": "mnist", "train": "train", "test": "test"},
            "train": {
                "epochs": 3,
                "batch_size": 128,
                "learning_rate": 0.05,
                "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
                "schedule": {"name": "cosine", "warmup_epochs": 0.2},
                "precision": "mixed_bfloat16",
            },
            "finetune": {
                "epochs": 1,
                "batch_size": 128,
                "learning_rate": 0.02,
                "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
                "schedule": {"name": "cosine", "warmup_epochs": 0.1},
                "precision": "mixed_bfloat16",
            },
            "variants": ConfigDict(
                {
                    "2d": {},
                    "1d_eighth": pairs(1 / 8),
                    "1d_quarter": pairs(1 / 4),
                    "1d_half": pairs(1 / 2),
                    "1d_bound": {**pairs(1), "trained": False},
                    "1d_above": {
                        "ranks": {layer: highest(layer) + 1 for layer in CONVOLUTIONS},
                        "mid_activation": "relu",
                        "trained": False,
                    },
                    "separable": {"separable": 1},
                    "svd_eighth": {"factorize": ranks(1 / 8)},
                    "svd_quarter": {"factorize": ranks(1 / 4)},
                },
                sort_keys=False,
            ),
            "curves": {
                "conv1": (1, 2, 3, 4, 5, 6, 8),
                "conv2": (8, 16, 32, 48, 64, 80, 96, 106, 107, 128, 160),
                "conv3": (8, 16, 32, 64, 80, 99, 100, 128, 192, 224, 256, 288, 299, 340),
            },
            "timing": False,
            "clock": {"rounds": 5, "min_runs": 200, "min_seconds": 1.0},
        }
    )
