"""Which batch size generalizes best, against the learning rate and against the size of the data.

    tfeffi-fetch-data --dataset=mnist
    TF_NUM_INTRAOP_THREADS=1 tfeffi-experiment --config=configs/batch_size.py \\
        --output=results/batch_size.json --figure=docs/batch_size.png

What: an MLP of 800 ReLU units on the first images of MNIST, SGD with momentum 0.9 and a constant
learning rate, 1000 steps whatever the batch size. Test accuracy on all test images, five seeds (weights
and order). The best batch size of a curve is the top of the parabola, in log B, through the largest
mean and its neighbours; a line through the best ones on doubly logarithmic axes has the slope
1 where B_opt is proportional.

Why: stochastic differential equations say that the noise scale g = η (N/B − 1)/(1 − m) decides where
SGD ends, so that B_opt ∝ η N. Source: Smith and Le 2017, arXiv 1710.06451, sections 4 and 5, who
report both, the second from some 20 000 images on.

Before that: a ResNet-8 of 4 filters on 2000 images of MNIST, 8 epochs, its rate divided by 5 after four
and six: with batches of 32, with batches that grow instead, and with batches of 250 at a scaled rate
with a warm-up of two epochs, without and with momentum correction and ghost batches of 50. The statistics
of its batch normalizations are measured anew before the test: 64 steps are too few for moving ones.

Cost: some twenty minutes on one idle CPU core: batch sizes are tried around the best one only, but for
one curve. Errors in the picture are sample standard deviations over seeds.
"""

from ml_collections import ConfigDict

HALF_OCTAVES = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512)
WHOLE = (1, 2, 4, 6, 8, 11, 16, 23, 32, 45, 64, 128, 256, 512)


def between(low, high):
    """The half octaves from one batch size to another."""
    return tuple(size for size in HALF_OCTAVES if low <= size <= high)


def large(rule):
    """Batches of 250 at a scaled rate, with a warm-up."""
    schedule = {"name": "step", "milestones": (4, 6), "factor": 0.2, "warmup_epochs": 2}
    scale = {"reference_batch": 32, "rule": rule}
    return {"batch_size": 250, "scale_learning_rate": scale, "schedule": schedule}


def get_config():
    """The experiment."""

    def curve(learning_rate, images, sizes):
        return {"learning_rate": learning_rate, "images": images, "batch_sizes": sizes}

    return ConfigDict(
        {
            "name": "batch_size",
            "experiment": "batch_size",
            "data": {"name": "mnist", "train": "train", "test": "test"},
            "units": 800,
            "momentum": 0.9,
            "steps": 1000,
            "seeds": (0, 1, 2, 3, 4),
            "convolutional": {
                "data": {"name": "mnist", "train": "train[:2000]", "test": "test"},
                "model": {"name": "resnet_cifar", "depth": 8, "width": 4},
                "train": {
                    "epochs": 8,
                    "batch_size": 32,
                    "learning_rate": 0.05,
                    "optimizer": {"name": "sgd", "momentum": 0.9},
                    "schedule": {"name": "step", "milestones": (4, 6), "factor": 0.2},
                },
            },
            "variants": ConfigDict(
                {
                    "batch 32": {},
                    "batch 32, growing": {"methods": ({"name": "batch_growth"},)},
                    "batch 250": {"train": {"batch_size": 250}},
                    "batch 250, square root": {"train": large("sqrt")},
                    "batch 250, linear": {"train": large("linear")},
                    "batch 250, linear, momentum correction": {
                        "train": large("linear"),
                        "methods": ({"name": "momentum_correction"},),
                    },
                    "batch 250, linear, ghost batches": {
                        "train": {**large("linear"), "ghost_batch": 50}
                    },
                },
                sort_keys=False,
            ),
            "sweeps": {
                "learning_rate": (
                    curve(0.02, 1000, between(2, 45)),
                    curve(0.05, 1000, between(4, 91)),
                    curve(0.1, 1000, WHOLE),
                    curve(0.2, 1000, between(23, 128)),
                    curve(0.5, 1000, between(64, 362)),
                    curve(1.0, 1000, between(128, 512)),
                ),
                "images": (
                    curve(0.1, 1000, WHOLE),
                    curve(0.1, 2000, between(16, 91)),
                    curve(0.1, 4000, between(23, 128)),
                    curve(0.1, 8000, between(32, 256)),
                    curve(0.1, 16000, between(45, 362)),
                ),
            },
        }
    )
