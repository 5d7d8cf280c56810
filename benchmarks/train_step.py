"""One training step: tfeffi's loop against stock Keras `model.fit`, on the same functional model.

    python benchmarks/train_step.py --output=results/train_step.json

ResNet-20 for CIFAR-10, batch 256, SGD with momentum, data in memory. All candidates of a width take
turns in one process, a burst of steps each, round after round; the speed-up of a candidate is the
median over the rounds of the time of `fit` float32 against its own. Tracing, compiling and the first
burst are left out. Peak memory is measured in a process of its own for each candidate. mixed_float16
is not among them: CPUs have no float16 convolutions worth the name. What a convolution does by itself
stands beside the steps, in multiply-adds a second: how far a step is from all that the CPU can give.
"""

import json
import statistics
import subprocess
import sys
import time

from absl import flags

from tfeffi.tools import app

BATCH = 256
BURST = {16: 6, 64: 2}  # steps a turn
STOCK = "fit float32"


def images(batches):
    """Random images and labels of CIFAR-10's shape."""
    import numpy as np

    from tfeffi.data import Images

    rng = np.random.default_rng(0)
    return Images(
        images=rng.integers(0, 256, (batches * BATCH, 32, 32, 3), "uint8"),
        labels=rng.integers(0, 10, batches * BATCH), num_classes=10,
        class_names=tuple("0123456789"), name="random", split="train",
    )  # fmt: skip


def model(width, depth=20):
    """The functional model that all candidates train."""
    from tfeffi import models

    return models.build(
        "resnet_cifar", depth=depth, width=width, input_shape=(32, 32, 3), num_classes=10
    )


def stock(width, burst, precision="float32"):
    """`model.fit` as a user writes it; returns what runs one burst."""
    import keras
    import tensorflow as tf

    from tfeffi.train.precision import recast

    made = recast(model(width), precision)
    made.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )  # fmt: skip
    data = images(burst)
    pixels = tf.constant(data.images, tf.float32) / 255.0
    batches = tf.data.Dataset.from_tensor_slices((pixels, data.labels)).batch(BATCH).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False  # as in tfeffi's pipeline: its waits are not what is compared
    batches = batches.with_options(options)
    return lambda: made.fit(batches, verbose=0)


def ours(width, burst, precision="float32", depth=20):
    """tfeffi's loop: its pipeline, its step; returns what runs one burst."""
    from tfeffi.data import pipeline
    from tfeffi.train import Settings, loop

    settings = Settings(
        batch_size=BATCH, learning_rate=0.01, schedule={"name": "constant"},
        optimizer={"name": "sgd", "momentum": 0.9}, precision=precision,
    )  # fmt: skip
    data = images(burst)
    run = loop.begin(model(width, depth), data, None, settings)
    step = loop.CompiledStep(run)

    def turn():
        for batch in pipeline(data, BATCH, training=True):
            step(*batch)
        float(run.totals.loss)

    return turn


CANDIDATES = {
    STOCK: (stock, {}),
    "fit mixed_bfloat16": (stock, {"precision": "mixed_bfloat16"}),
    "tfeffi float32": (ours, {}),
    "tfeffi mixed_bfloat16": (ours, {"precision": "mixed_bfloat16"}),
}


def times(width, rounds):
    """Seconds of a step of each candidate, in rounds."""
    from tfeffi.study.turns import interleaved

    turns, burst = {}, BURST.get(width, 2)
    for name, (build, arguments) in CANDIDATES.items():
        print(f"width {width}: building {name}", flush=True)
        turns[name] = build(width, burst, **arguments)
        turns[name]()
    measured = interleaved(turns, rounds, lambda at: print(f"width {width}: {at}"))
    return {name: [one / burst for one in seconds] for name, seconds in measured.items()}


def convolution(width, dtype, repeats=15):
    """A 3×3 convolution of the first stage by itself, forward: the pace that nothing here exceeds."""
    import tensorflow as tf

    images = tf.cast(tf.random.normal((BATCH, 32, 32, width)), dtype)
    kernel = tf.cast(tf.random.normal((3, 3, width, width)), dtype)
    run = tf.function(lambda: tf.nn.conv2d(images, kernel, 1, "SAME"))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    macs = BATCH * 32 * 32 * 9 * width * width
    return {
        "name": f"width {width} convolution alone, {dtype}", "width": width, "batch_size": BATCH,
        "n": repeats, "step_ms": 1e3 * statistics.median(seconds),
        "gmacs_per_second": 1e-9 * macs / statistics.median(seconds),
    }  # fmt: skip


def memory_of(width, name):
    """Peak resident memory of a process that trains this candidate only."""
    command = [sys.executable, __file__, f"--memory_of={name}", f"--width={width}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["peak_memory_mb"]


def rows(width, rounds):
    """The rows of one width."""
    from tfeffi.analysis.cost import cost

    measured, macs = times(width, rounds), cost(model(width)).macs
    for name, seconds in measured.items():
        ratios = [s / own for s, own in zip(measured[STOCK], seconds, strict=True)]
        step_seconds = statistics.median(seconds)
        yield {
            "name": f"width {width} {name}", "width": width, "batch_size": BATCH, "n": len(seconds),
            "step_ms": 1e3 * step_seconds, "step_ms_min": 1e3 * min(seconds),
            "step_ms_max": 1e3 * max(seconds), "images_per_second": BATCH / step_seconds,
            "speedup": statistics.median(ratios), "speedup_low": min(ratios),
            "speedup_high": max(ratios), "ratio_to": f"width {width} {STOCK}",
            "gmacs_per_second": 3e-9 * macs * BATCH / step_seconds, "macs": macs,
            "peak_memory_mb": memory_of(width, name),
        }  # fmt: skip


def main(_):
    options = flags.FLAGS
    if options.memory_of:
        from tfeffi.analysis.memory import peak_memory_mb

        build, arguments = CANDIDATES[options.memory_of]
        turn = build(options.width[0], 2, **arguments)
        turn()
        turn()
        print(json.dumps({"peak_memory_mb": peak_memory_mb()}))
        return
    from tfeffi.study.results import Result

    result = Result.new("train_step")
    for width in options.width:
        for row in rows(width, options.rounds):
            result.add_row(**row)
            print(f"{row['name']:40} {row['step_ms']:8.0f} ms  {row['speedup']:.2f}x", flush=True)
        for dtype in ("float32", "bfloat16"):
            result.add_row(**convolution(width, dtype))
    result.write(options.output)


if __name__ == "__main__":
    flags.DEFINE_string("output", "results/train_step.json", "The result file.")
    flags.DEFINE_multi_integer("width", [16, 64], "Widths of ResNet-20.")
    flags.DEFINE_integer("rounds", 7, "How often each candidate takes its turn.")
    flags.DEFINE_string("memory_of", None, "Internal: measure this candidate's memory.")
    app.run(main)
