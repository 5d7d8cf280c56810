"""A sum of two numbers by 1000 ReLU units: how many die, what pruning leaves, and one unit.

    tfeffi-experiment --config=configs/activation_toy.py --output=results/activation_toy.json \\
        --figure=docs/activation_toy.png

What: 2 → 1000 ReLU → 1 learns y = x₁ + x₂: mean squared error, SGD with momentum 0.3, learning rate
0.01, batches of 1000, a million samples, 10 epochs. Then cycles of pruning by activation
(`prune_cycle`), in five variants, later cycles of 2 epochs; then, from what vanilla pruning
left, `prune_to_tolerance` down to a mean squared error of 1e-6.

Why: the best network is known. One unit is enough, its bias so high that it is always active.

Source: Çallı 2017, section 2.2.2, which reports "approximately 950" of 1000 pruned after the first
cycle, none afterwards, and no way found to the optimum. It gives neither the range of the inputs nor the
initial weights: here both ranges, and truncated normal weights of variance 1, biases 0. Its
printed solution is not one: its slopes are (-5.0, -4.4).

Cost: about ten minutes on two idle CPU cores. Errors are those of the float32 model on 100 000
inputs that were not trained on, summed up in float64.

What we saw: the units that die, die early, because 1000 units of unit weights make the first steps
overshoot. How many depends on seed and initial weights: "dead_each" in the result. After 200 steps, five
seeds, U(-1,1)²: 930 to 997 of variance 1 as here; 386 to 997 of a normal that is not truncated. At
the end of the ten epochs, with a truncated normal *before* truncation of variance 1, which is narrower:
807, 894, 905, 980 and all 1000, so that the network was a constant. Which units are never active does not
say which are needed: dozens are left where one would do, and training them again kills no other.

Removing them one by one with refit and Gauss-Newton steps finds the one unit from all ten networks here,
in nine of them within 1e-6 on held-out inputs too; from the narrower weights it got stuck in four of
ten. Merging what is linear on the data finds it from every one of all those, also from the network
that had died, to an error below 1e-12.

What did not help: the outlier rule removes nothing here. The penalty and the noise on the kernels kill
some more units, not most, and the noise costs loss. Keras's own initial weights (Glorot) kill no unit on
U(-1,1)² to begin with.
"""

from ml_collections import ConfigDict


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "activation_toy",
            "experiment": "activation_toy",
            "seeds": (0, 1, 2, 3, 4),
            "units": 1000,
            "samples": 1_000_000,
            "test_samples": 100_000,
            "ranges": {
                "U(-1,1)": {"low": -1.0, "high": 1.0, "variance": 2 / 3},
                "U(0,1)": {"low": 0.0, "high": 1.0, "variance": 1 / 6},
            },
            "train": {"epochs": 10, "batch_size": 1000, "learning_rate": 0.01, "momentum": 0.3},
            "cycle_epochs": 2,
            "variants": ConfigDict(
                {
                    "vanilla": {"min_cycles": 2},
                    "distorted": {"min_cycles": 2},
                    "regularized": {"l1": 1e-4, "min_cycles": 2},
                    "outliers": {"min_cycles": 2, "max_cycles": 5},
                    "combined": {"l1": 1e-4, "min_cycles": 2, "max_cycles": 5},
                },
                sort_keys=False,
            ),
            "minimal": {"tolerance": 1e-6, "samples": 2048},
        }
    )
