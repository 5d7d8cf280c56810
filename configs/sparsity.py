"""Zeros and shared values in kernels: what they bring in TensorFlow and in LiteRT, and what they do not.

    tfeffi-fetch-data --dataset=mnist
    tfeffi-experiment --config=configs/sparsity.py --output=results/sparsity.json
    tfeffi-experiment --config=configs/sparsity.py --config.timing=True \\
        --output=results/sparsity.json --figure=docs/sparsity.png

The first command trains and tunes (the 2-D classifiers of configs/mnist_structures.py are used, and
trained if they are missing), the second times and wants a quiet machine.

What: the MNIST classifier of Çallı 2017, table 2.2, with 50 to 99 % of its weights zero (the smallest
of all kernels), and with 2^8 to 2^2 values a kernel (k-means, linear initialization), as changed and
after 100 steps of tuning that hold the zeros or the shared values. Of each the
accuracy of the Keras model over five seeds, and of the first seed's .tflite the bytes, the bytes
zipped, and the latency. Then the same files with sparse tensors (`Optimize.EXPERIMENTAL_SPARSITY` of
TensorFlow's converter), a network of the only shape for which XNNPACK documents sparse inference, and
tf.matmul against tf.sparse.sparse_dense_matmul.

Why: the source leaves single weights aside because dense products multiply zeros and TensorFlow's
documentation puts the sparse product's use below a density of about 15 %; and weight sharing because
tf.gather takes indices of 32 or 64 bits. Both are measured here instead of assumed.

Cost: about 10 minutes of training and 5 of timing on two cores with avx512_bf16.

What to expect: 80 % of the weights go for nothing, 99 % do not. Files stay as large and as fast; zipped
they shrink with the zeros and with the bits. Sparse tensors make the file itself as small as the
zipped one, and nothing faster: LiteRT (2.3.0, x86) makes them dense when it opens the file.

What did not help: sparse tensors together with quantized weights (`Optimize.DEFAULT` beside
EXPERIMENTAL_SPARSITY). The converter writes such files, smaller still, and LiteRT cannot open them:
"failed to delegate CONV_2D node", XNNPACK "failed to prepare". Zeros in blocks of four, along inputs or
outputs, changed nothing either.
"""

from ml_collections import ConfigDict

SGD = {"name": "sgd", "momentum": 0.9, "nesterov": True}
SHORT = {
    "epochs": 1,
    "batch_size": 128,
    "schedule": {"name": "cosine"},
    "precision": "mixed_bfloat16",
}


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "sparsity",
            "experiment": "sparsity",
            "seeds": (0, 1, 2, 3, 4),
            "data": {"name": "mnist", "train": "train", "test": "test"},
            "trained_workdir": "runs/mnist_structures",
            "train": {  # that of configs/mnist_structures.py: its trained classifiers are used
                "epochs": 3,
                "batch_size": 128,
                "learning_rate": 0.05,
                "optimizer": SGD,
                "schedule": {"name": "cosine", "warmup_epochs": 0.2},
                "precision": "mixed_bfloat16",
            },
            "sparsities": (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99),
            "bits": (8, 7, 6, 5, 4, 3, 2),
            "untuned_bits": (8, 7, 6, 5),  # bits that lose nothing
            "tune": {
                "sparsity": {
                    "split": "train[:12800]",
                    "settings": {**SHORT, "learning_rate": 0.02, "optimizer": SGD},
                },
                "bits": {
                    "split": "train[:12800]",
                    "settings": {**SHORT, "learning_rate": 3e-4, "optimizer": {"name": "adam"}},
                },
            },
            "pointwise_sparsities": (0.5, 0.7, 0.8, 0.9, 0.95),
            "timing": False,
            "clock": {"rounds": 5, "min_runs": 200, "min_seconds": 1.0},
            "shapes": ((4096, 4096), (300, 784)),
            "columns": (1, 16, 128),
            "densities": (0.5, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001),
            "rounds": 15,
        }
    )
