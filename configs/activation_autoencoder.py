"""The MNIST autoencoder [32, 64, 32] pruned by activation, and narrowed to [8, 32, 8].

    tfeffi-experiment --config=configs/activation_autoencoder.py --config.timing=True \\
        --output=results/activation_autoencoder.json --figure=docs/activation_autoencoder.png

What: the network of the source with a sigmoid at its end, trained for 3 epochs on all of MNIST, then
  - cycles of one epoch that remove what is never active (`prune_cycle`), in five variants;
  - "ours": the most active channels of each layer stay, [8, 32, 8] (`prune_to_widths`), 6 more epochs;
  - "unpruned, trained on": the whole network for the same 6 more epochs, on the same schedule;
  - the source's ReLU at the end, instead of the sigmoid.

Source: Çallı 2017, section 2.2.3: one run, [16, 64, 22] left by vanilla pruning, nothing else
reported. Widths [4, 16, 4] would be enough for a lossless code in theory (28·28 = 7·7·16).

Cost: some 15 to 20 minutes of training on two idle CPU cores; networks are kept in
runs/activation_autoencoder, so that a killed run goes on, and --config.timing=True times the first seed's
files in one interleaved run. Without it nothing is timed.

What we saw (mean squared errors a pixel on the test images):
  - Counting finds next to nothing to remove here: batch normalization centres every channel in front
    of its ReLU, so that all are active somewhere. The outlier rule takes a third of the MACs at no loss.
  - [8, 32, 8] at a seventh of the MACs is on average no worse than the network it was pruned from.
  - That comparison is with the network as it was trained at first. Trained on for as many epochs as
    the small one, the whole network is several times better: at equal epochs the small one loses.
  - Float32 for the small network and bfloat16 for the wide ones: what is faster on this CPU. Over two
    epochs at full width the two precisions ended at 0.00330 and 0.00331.

What did not help:
  - λ₁: 1e-5 is large against an error of 4e-4. It kills more than half of the channels and costs about
    seventy times the loss; 1e-4 would be the default.
  - Noise of the source's size (α = 1) is large against these kernels; two epochs later the loss is
    still above what it was, and no more channels have gone than with the outlier rule.
  - A ReLU at the end: pixels whose pre-activation is negative get no gradient; of every 2×2 block some
    stay white for good.
  - Adam at 0.003: the sigmoid's corners take too many steps. 0.05 was chosen between 0.03 and 0.1 by the
    training loss of two epochs of the small network, seed 0.
"""

from ml_collections import ConfigDict


def cycles(variant, **more):
    """`prune_cycle` from the trained network, one epoch a cycle."""
    return {"kind": "cycles", "variant": variant, "cycle_epochs": 1, "max_cycles": 2, **more}


L1 = 1e-5
FIRST = 3  # epochs of the network that is pruned
SMALL = (8, 32, 8)
MORE = 6  # epochs of the small network after pruning, and of the unpruned one beside it


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "activation_autoencoder",
            "experiment": "activation_autoencoder",
            "seeds": (0, 1, 2, 3, 4),
            "data": {"name": "mnist", "train": "train", "test": "test"},
            "model": {
                "name": "mnist_autoencoder",
                "widths": (32, 64, 32),
                "final_activation": "sigmoid",
            },
            "train": {
                "batch_size": 128,
                "learning_rate": 0.05,
                "optimizer": {"name": "adam"},
                "schedule": {"name": "cosine"},
                "loss": "reconstruction",
                "precision": "mixed_bfloat16",
            },
            "first_epochs": FIRST,
            "networks": ConfigDict(
                {
                    "ours": {
                        "kind": "widths",
                        "importance": "mean_activation",
                        "steps": ({"widths": SMALL, "epochs": MORE},),
                        "train": {"precision": "float32"},
                    },
                    "unpruned, trained on": {"kind": "widths", "steps": ({"epochs": MORE},)},
                    "outliers": cycles("outliers"),
                    "vanilla": cycles("vanilla"),
                    "distorted": cycles("distorted", min_cycles=2),
                    "regularized": cycles("regularized", l1=L1),
                    "combined": cycles("combined", l1=L1, min_cycles=2),
                    "ReLU output": {"kind": "trained", "model": {"final_activation": "relu"}},
                    "ReLU output, vanilla": cycles("vanilla", parent="ReLU output"),
                },
                sort_keys=False,
            ),
            "timing": False,
            "clock": {"rounds": 15, "min_runs": 3000, "min_seconds": 3.0},
        }
    )
