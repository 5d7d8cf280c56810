"""94 % on CIFAR-10 in minutes: whitening, Muon, alternating flips, growing images, bfloat16.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-train --config=configs/cifar10_sprint.py --workdir=runs/cifar10_sprint

Work in progress.
"""

from ml_collections import ConfigDict


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "cifar10_sprint",
            "seed": 0,
            "replicates": 5,
            "data": {"name": "cifar10", "train": "train", "test": "test"},
            "model": {"name": "sprint_cnn"},
            "train": {
                "epochs": 8,
                "batch_size": 1000,
                "learning_rate": 0.24,
                "optimizer": {
                    "name": "convolution_muon",
                    "vector_rate": 221.0,
                    "matrix_rate": 2792.0,
                    "decay": 0.002,
                },
                "schedule": {"name": "triangular", "peak_at": 1e-9},
                "label_smoothing": 0.2,
                "augment": {"translate": 2, "flip": "alternate"},
                "precision": "mixed_bfloat16",
                "test_views": "flip_and_move",
            },
            "methods": (
                {"name": "whitening"},
                {"name": "progressive_resizing", "sizes": ((0, 24), (3, 32))},
            ),
        }
    )
