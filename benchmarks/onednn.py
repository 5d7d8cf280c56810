"""What oneDNN is worth to a training step: `TF_ENABLE_ONEDNN_OPTS` on and off, a process each.

    python benchmarks/onednn.py --output=results/onednn.json

TensorFlow reads the variable when it is imported, and by itself turns oneDNN on only for x86 CPUs that
have VNNI, bfloat16 or AMX; elsewhere `fit` says that it is off. Here ResNet-20 for CIFAR-10 in float32,
batch 256, with tfeffi's loop; on and off take turns, round after round, each turn a process of its own
that takes a burst of steps to warm up and another one that is timed. The speed-up is the median over the
rounds.
"""

import os
import subprocess
import sys
import time

from absl import flags

from tfeffi.tools import app

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)  # where a program finds the other benchmarks

BURST = 3  # steps a turn
SETTINGS = {"off": "0", "on": "1"}


def step_seconds(width):
    """Seconds of a step, in this process."""
    from benchmarks import train_step

    turn = train_step.ours(width, BURST)
    turn()
    started = time.perf_counter()
    turn()
    return (time.perf_counter() - started) / BURST


def asked(width, setting):
    """The same of a process with this setting."""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": SETTINGS[setting]}
    command = [sys.executable, __file__, f"--here={width}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.splitlines()[-1])


def rows(width, rounds):
    """The rows of one width."""
    from benchmarks import train_step
    from tfeffi.analysis.cost import cost
    from tfeffi.study.turns import quartiles, speedup

    seconds = {setting: [] for setting in SETTINGS}
    for number in range(rounds):
        for setting, found in seconds.items():
            found.append(asked(width, setting))
        print(f"width {width}: round {number + 1} of {rounds}", flush=True)
    macs = 3 * train_step.BATCH * cost(train_step.model(width)).macs
    for setting, found in seconds.items():
        step = quartiles("step_ms", [1e3 * one for one in found])
        yield {
            "name": f"width {width}, oneDNN {setting}", "width": width, "n": rounds,
            "batch_size": train_step.BATCH, **step, **speedup(found, seconds["off"]),
            "images_per_second": 1e3 * train_step.BATCH / step["step_ms"],
            "gmacs_per_second": 1e-6 * macs / step["step_ms"], "step_macs": macs,
        }  # fmt: skip


def main(_):
    options = flags.FLAGS
    if options.here:
        print(step_seconds(options.here))
        return
    from tfeffi.study.results import Result

    result = Result.new("onednn")
    for width in options.width:
        for row in rows(width, options.rounds):
            result.add_row(**row)
            print(f"{row['name']:24} {row['step_ms']:8.0f} ms  {row['speedup']:.2f}x", flush=True)
    result.write(options.output)


if __name__ == "__main__":
    flags.DEFINE_string("output", "results/onednn.json", "The result file.")
    flags.DEFINE_multi_integer("width", [8, 16, 32], "Widths of ResNet-20.")
    flags.DEFINE_integer("rounds", 5, "How often each takes its turn.", lower_bound=1)
    flags.DEFINE_integer("here", None, "Internal: time a step of this width in this process.")
    app.run(main)
