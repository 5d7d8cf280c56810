"""A training step of the sprint without each of the layers that make it fast.

    python benchmarks/sprint_step.py --output=results/sprint_step.json         # with AMX
    python benchmarks/sprint_step.py --output=results/sprint_step_avx512.json  # without

The network and settings of configs/cifar10_sprint.py, random images of CIFAR-10's shape, full size. All
candidates take turns in one process, a step each, round after round; the speed-up of a candidate is the
median over the rounds of the time of Keras's own layers in float32 against its own, with its quartiles.
Tracing, compiling and the first step are left out.
"""

import os
import pathlib
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)  # where a program finds the configs

from absl import flags  # noqa: E402

from tfeffi.tools import app  # noqa: E402

PLAIN = {"fuse_batch_normalization": False, "fuse_activations": False, "pack_small_images": False}
CANDIDATES = {
    "Keras's layers, float32": {**PLAIN, "precision": "float32"},
    "Keras's layers, bfloat16": PLAIN,
    "all": {},
    "without packed small images": {"pack_small_images": False},
    "without fused activations": {"fuse_activations": False},
    "without fused batch normalization": {"fuse_batch_normalization": False},
}


def build(config, batch_size, changes):
    """What takes one step, and the multiply-adds of that."""
    import numpy as np

    from tfeffi.analysis.cost import cost
    from tfeffi.data import Images, pipeline
    from tfeffi.train import Settings, loop
    from tfeffi.train.experiment import build_model

    rng = np.random.default_rng(0)
    images = Images(
        images=rng.integers(0, 256, (batch_size, 32, 32, 3), "uint8"),
        labels=rng.integers(0, 10, batch_size), num_classes=10,
        class_names=tuple("0123456789"), name="random", split="train",
    )  # fmt: skip
    model = build_model(config["model"], images)
    model.get_layer("whitening").trainable = False
    settings = Settings.from_mapping({**config["train"], "batch_size": batch_size, **changes})
    run = loop.begin(model, images, None, settings)
    step = loop.CompiledStep(run)
    batch = next(iter(pipeline(images, batch_size, training=True)))

    def turn():
        step(*batch)
        float(run.totals.loss)

    return turn, 3 * cost(model).macs * batch_size


def main(_):
    from configs import cifar10_sprint
    from tfeffi.study.results import Result
    from tfeffi.study.turns import interleaved, quartiles, speedup

    options, config = flags.FLAGS, cifar10_sprint.get_config().to_dict()
    batch_size = options.batch_size or config["train"]["batch_size"]
    turns = {name: build(config, batch_size, changes) for name, changes in CANDIDATES.items()}
    measured = interleaved({name: turn for name, (turn, _) in turns.items()}, options.rounds)
    result, first = Result.new(pathlib.Path(options.output).stem), next(iter(CANDIDATES))
    for name, seconds in measured.items():
        step = quartiles("step_ms", [1e3 * one for one in seconds])
        macs = turns[name][1]
        result.add_row(
            name=name, batch_size=batch_size, n=options.rounds, **step, ratio_to=first,
            **speedup(seconds, measured[first]), step_macs=macs,
            images_per_second=1e3 * batch_size / step["step_ms"],
            gmacs_per_second=1e-6 * macs / step["step_ms"],
        )  # fmt: skip
    result.write(options.output)


if __name__ == "__main__":
    flags.DEFINE_string("output", "results/sprint_step.json", "The result file.")
    flags.DEFINE_integer("rounds", 7, "How often each takes its turn.", lower_bound=1)
    flags.DEFINE_integer("batch_size", None, "Images a step; default that of the sprint.")
    app.run(main)
