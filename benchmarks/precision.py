"""What 16 bits cost and bring on this CPU: step time, memory, accuracy, and what float16 loses.

    python benchmarks/precision.py --output=results/precision.json \
        --figure=docs/gradient_exponents.png

The networks and trainings of configs/precision.py, with tfeffi's own loop. All precisions of a width
take turns in one process, a burst of steps each, round after round; the speed-up of a precision is the
median over the rounds of the time of float32 against its own, with its quartiles. Tracing, compiling
and the first burst are left out. Peak memory is measured in a process of its own for each. float16
is timed where the config trains in it: its steps are so slow that a burst is a single one. Trainings,
and what was counted of gradients, are kept in --workdir and not repeated; times are measured anew.
"""

import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)  # where a program finds the other benchmarks and configs

BURST = {2: 16, 4: 16, 8: 16, 16: 8, 32: 4, 64: 2}  # steps a turn
HALF = "mixed_float16"


def candidates(config):
    """The precisions of each width that the config trains in: {width: [precision]}."""
    found = {}
    for training in config["trainings"].values():
        for width in training["widths"]:
            known = found.setdefault(width, [])
            known += [one for one in training["precisions"] if one not in known]
    return found


def burst_of(width, precision):
    """Steps a turn."""
    return 1 if precision == HALF else BURST.get(width, 2)


def times(config, width, precisions, rounds):
    """The columns of each precision: milliseconds of a step, speed-up over float32, memory."""
    from benchmarks import train_step
    from tfeffi.study.turns import interleaved, quartiles, speedup

    turns, depth = {}, config["model"]["depth"]
    for precision in precisions:
        print(f"width {width}: building {precision}", flush=True)
        turns[precision] = train_step.ours(width, burst_of(width, precision), precision, depth)
        turns[precision]()
    measured = interleaved(turns, rounds, lambda at: print(f"width {width}: {at}", flush=True))
    seconds = {
        name: [one / burst_of(width, name) for one in values] for name, values in measured.items()
    }
    macs = 3 * train_step.BATCH * _macs(train_step.model(width, depth))
    columns = {}
    for name, values in seconds.items():
        step = quartiles("step_ms", [1e3 * one for one in values])
        columns[name] = {
            "step_batch_size": train_step.BATCH, "rounds": rounds, **step,
            "images_per_second": 1e3 * train_step.BATCH / step["step_ms"],
            "gmacs_per_second": 1e-6 * macs / step["step_ms"], "step_macs": macs,
            **speedup(values, seconds["float32"]), "peak_memory_mb": memory_of(width, name, depth),
        }  # fmt: skip
    return columns


def _macs(model):
    from tfeffi.analysis.cost import cost

    return cost(model).macs


def memory_of(width, precision, depth):
    """Peak resident memory of a process that takes two turns of this candidate only."""
    command = [sys.executable, __file__, f"--memory_of={precision},{width},{depth}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["peak_memory_mb"]


def peak_memory(precision, width, depth):
    """In the process whose memory is measured."""
    from benchmarks import train_step
    from tfeffi.analysis.memory import peak_memory_mb

    turn = train_step.ours(int(width), min(2, burst_of(width, precision)), precision, int(depth))
    turn()
    turn()
    print(json.dumps({"peak_memory_mb": peak_memory_mb()}))


def measured(config, workdir, rounds):
    """The rows: those of the experiment, the trainings with the times of their steps."""
    from tfeffi.study.experiments import Cells, precision

    columns = {}
    for width, precisions in candidates(config).items() if rounds else ():
        for name, found in times(config, width, precisions, rounds).items():
            columns[width, name] = found
    for row in precision.measure(config, Cells(workdir)):
        yield {**row, **columns.get((row.get("width"), row.get("precision")), {})}


def main(_):
    from absl import flags

    options = flags.FLAGS
    if options.memory_of:
        peak_memory(*options.memory_of)
        return
    from configs import precision as card
    from tfeffi.study import experiments
    from tfeffi.study.results import Result

    result = Result.new("precision")
    for row in measured(card.get_config().to_dict(), options.workdir, options.rounds):
        result.add_row(**row)
    result.write(options.output)
    if options.figure:
        experiments.draw("precision", result, options.figure)


if __name__ == "__main__":
    from absl import flags

    from tfeffi.tools import app

    flags.DEFINE_string("output", "results/precision.json", "The result file.")
    flags.DEFINE_string("figure", None, "The picture of the gradients' exponents.")
    flags.DEFINE_string("workdir", "runs/precision", "Where trainings are kept.")
    flags.DEFINE_integer("rounds", 9, "How often each takes its turn; 0: no times.", lower_bound=0)
    flags.DEFINE_list("memory_of", [], "Internal: precision, width and depth to measure here.")
    app.run(main)
