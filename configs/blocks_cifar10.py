"""Which block? Basic, bottleneck and inception blocks, with and without shortcuts, at equal MACs.

    tfeffi-experiment --config=configs/blocks_cifar10.py --output=results/blocks_cifar10.json \\
        --figure=docs/blocks_cifar10.png

What: one network around each block: a 5×5 stem that strides by 4, three stages of two blocks, a
classifier. Widths are found so that each costs 2 M MACs within 3 %. CIFAR-10, all 50 000 training
images, five seeds, accuracy on all 10 000 test images at the end of training; nothing is stopped or
chosen by them.

Source: Çallı 2017, sections 2.3.2 (inception), 2.3.3 (bottleneck) and 2.5.1 (residual), which names
the blocks and leaves the comparison open; He et al. 2015; Szegedy et al. 2014.

Cost: 12 minutes on one idle CPU core, then a minute of timing; `--config.timing=False` leaves the
latter for later. Nothing is done twice.

Read with care: two epochs rank how fast blocks learn, not where they end. `--config.train.epochs=60`
(six hours on one core) with `--config.train.augment.crop=4` would tell that; deeper networks are where
shortcuts pay most, and these have six blocks. The stem strides by 4 so that MACs, not memory traffic,
take the time in training.

Expect: 50 to 61 %. `difference` is to basic blocks, and `difference_error` the standard error of it:
below twice that, it is noise.

What we saw: shortcuts pay already at six blocks, 3 points for basic and 5 for bottleneck blocks, far
beyond the spread of the seeds. Basic blocks beat bottlenecks by 2 points, three standard errors, and
bottlenecks keep nearly three times the activations alive. Inception blocks lead basic ones by a point
and a half, two standard errors: among four comparisons of five seeds that is a hint, no finding.

What did not help, or was left out: a shortcut around an inception block, with the 1×1 convolution that it
needs, does not pay at equal MACs. Inverted residuals were tried with one seed (block=
"inverted_residual": 60.9 %) and left out because they train slowest. A smaller stem stride trains
slower still. A fixed number of MACs is no fixed time: look at the latencies.
"""

from ml_collections import ConfigDict


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "blocks_cifar10",
            "experiment": "blocks_cifar10",
            "seeds": (0, 1, 2, 3, 4),
            "macs": 2_000_000,
            "data": {"name": "cifar10", "train": "train", "test": "test"},
            "network": {
                "input_shape": (32, 32, 3),
                "num_classes": 10,
                "repeats": 2,
                "stem": 16,
                "stem_stride": 4,
            },
            "variants": ConfigDict(
                {
                    "basic": {"block": "basic", "shortcut": True},
                    "basic_plain": {"block": "basic", "shortcut": False},
                    "bottleneck": {"block": "bottleneck", "shortcut": True},
                    "bottleneck_plain": {"block": "bottleneck", "shortcut": False},
                    "inception": {"block": "inception", "shortcut": False},
                    "inception_residual": {"block": "inception", "shortcut": True},
                },
                sort_keys=False,
            ),
            "train": {
                "epochs": 2,
                "batch_size": 128,
                "learning_rate": 0.1,
                "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
                "schedule": {"name": "triangular", "peak_at": 0.2},
                "l2": 1e-4,
                "augment": {"flip": True},
                "checkpoint_seconds": 600.0,
            },
            "timing": True,
            "latency": {"threads": 1, "rounds": 7, "min_runs": 1000, "min_seconds": 3.0},
        }
    )
