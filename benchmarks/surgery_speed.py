r"""How long pruning takes: tfeffi and Torch-Pruning remove half of the channels of a ResNet-50.

    python -m venv /tmp/torch && /tmp/torch/bin/pip install torch==2.13.0 torch-pruning==1.6.1
    python benchmarks/surgery_speed.py --output=results/surgery_speed.json \
        --torch_python=/tmp/torch/bin/python

The same network for both: ResNet-50 v1.5 at 224², 25 557 032 trained parameters, its own random
weights. The same work: find out which channels are coupled, score them by the L2 norm of all their
weights, and have a network without the lower half of every group, the classes untouched. tfeffi:
`Coupling.of`, `importance.score("l2")`, `apply`, which builds a new model. Torch-Pruning: `BasePruner`
(its dependency graph), `MagnitudeImportance(p=2)`, `step`, which cuts in place; the copy that it cuts
is made outside the clock, and so is every forward pass but those of its tracing. Both take turns,
round after round, each in a process of its own, on all cores; the first turn of each is reported by
itself (`first_seconds`) and not in the median. Torch is no dependency of tfeffi: without
--torch_python its row is left out.

Then the largest models of `keras.applications`, by parameters and by layers, and the whole of
`tfeffi.prune` on the ResNet-50: scores of all layers ranked together, and a search for a quarter of
the multiply-adds.
"""

import json
import os
import statistics
import subprocess
import sys
import time

GOAL = {"ResNet-50": 3.0}  # seconds; any other model: 30
LARGEST = ("ConvNeXtXLarge", "NASNetLarge")  # of keras.applications, by parameters and by layers
PARAMS = 25_557_032
OURS, THEIRS = "tfeffi, ResNet-50", "Torch-Pruning, ResNet-50"


# -- in the process of Torch ----------------------------------------------------------------------
def torch_resnet50():
    """ResNet-50 v1.5 as torchvision has it: bottlenecks that stride in the 3×3 convolution."""
    from torch import nn

    def conv(source, filters, kernel, stride=1):
        layer = nn.Conv2d(source, filters, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(filters))

    class Bottleneck(nn.Module):
        def __init__(self, source, width, stride):
            super().__init__()
            self.reduce, self.middle = conv(source, width, 1), conv(width, width, 3, stride)
            self.expand, self.relu = conv(width, 4 * width, 1), nn.ReLU()
            fits = source == 4 * width
            self.shortcut = nn.Identity() if fits else conv(source, 4 * width, 1, stride)

        def forward(self, x):
            y = self.relu(self.middle(self.relu(self.reduce(x))))
            return self.relu(self.expand(y) + self.shortcut(x))

    blocks, source = [], 64
    for stage, repeats in enumerate((3, 4, 6, 3)):
        for i in range(repeats):
            blocks.append(Bottleneck(source, 64 << stage, 2 if stage and not i else 1))
            source = 256 << stage
    return nn.Sequential(
        conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000),
    )  # fmt: skip


def torch_worker():
    """Prunes once for every line on stdin and answers with the seconds, as JSON."""
    import copy
    from importlib import metadata

    import torch
    import torch_pruning

    torch.manual_seed(0)
    model, x = torch_resnet50().eval(), torch.zeros(1, 3, 224, 224)
    assert sum(p.numel() for p in model.parameters()) == PARAMS
    for _ in sys.stdin:
        small = copy.deepcopy(model)
        started = time.perf_counter()
        pruner = torch_pruning.pruner.BasePruner(
            small, x, torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=0.5, ignored_layers=[small[-1]],
        )  # fmt: skip
        pruner.step()
        seconds = time.perf_counter() - started
        assert small(x).shape == (1, 1000)
        left = sum(p.numel() for p in small.parameters())
        answer = {"seconds": seconds, "trained_params_after": left, "torch": torch.__version__}
        answer["torch_pruning"] = metadata.version("torch-pruning")
        print(json.dumps(answer), flush=True)


class TorchPruning:
    """The process of Torch; a call prunes once."""

    def __init__(self, python):
        command = [python, os.path.abspath(__file__), "torch_worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, cwd="/", **pipes)

    def __call__(self):
        from tfeffi.errors import BadInput

        try:
            self.process.stdin.write("prune\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise BadInput(
                "the process of Torch ended; has --torch_python torch and torch-pruning?"
            )
        self.versions = json.loads(answer)
        return self.versions["seconds"], self.versions["trained_params_after"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# -- tfeffi ---------------------------------------------------------------------------------------
def halve(model):
    """A model with the half of every free group that has the larger L2 norm."""
    import numpy as np

    from tfeffi.compress.prune import importance
    from tfeffi.surgery import Coupling, apply

    coupling = Coupling.of(model)
    rank = importance.score("l2", coupling).rank
    kept = np.ones(coupling.classes.count, bool)
    for group in coupling.groups:
        if not group.pinned:
            order = group.classes[np.argsort(rank[group.classes])]
            kept[order[: group.size // 2]] = False
    return apply(coupling, coupling.keep(kept))[0]


def quarter(model):
    """The same network by the front door: as many channels as leave a quarter of the MACs."""
    import tfeffi

    budget = tfeffi.Budget(macs=0.25)
    return tfeffi.prune(model, budget, importance="l2", multiple_of=1)[0]


def resnet50():
    """The same network for tfeffi."""
    from tfeffi import models

    model = models.build("resnet_imagenet", depth=50)
    assert trained_params(model) == PARAMS
    return model


def trained_params(model):
    """As Torch counts: without the statistics of batch normalization."""
    return sum(int(variable.value.shape.num_elements()) for variable in model.trainable_variables)


def timed(prune, model):
    """Seconds, and how many trained parameters are left."""
    started = time.perf_counter()
    small = prune(model)
    return time.perf_counter() - started, trained_params(small)


def turns(candidates, rounds):
    """(seconds, parameters left) of each candidate in each round; the first round is apart."""
    found = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, turn in candidates.items():
            found[name].append(turn())
            print(f"round {number} {name:32} {found[name][-1][0]:.2f} s", flush=True)
    return found


def row(name, params, measured):
    """A row of one candidate."""
    (first, left), *rest = measured
    seconds = [value for value, _ in rest]
    return {
        "name": name, "n": len(seconds), "seconds": statistics.median(seconds),
        "seconds_min": min(seconds), "seconds_max": max(seconds), "first_seconds": first,
        "goal_seconds": GOAL["ResNet-50"] if "ResNet-50" in name else 30.0,
        "trained_params": params, "trained_params_after": left,
    }  # fmt: skip


def resnet_rows(rounds, torch_python):
    """Both on the ResNet-50, with how many times faster tfeffi was, round by round."""
    model = resnet50()
    candidates = {OURS: lambda: timed(halve, model)}
    if torch_python:
        candidates[THEIRS] = theirs = TorchPruning(torch_python)
    candidates["tfeffi.prune, ResNet-50, a quarter of the MACs"] = lambda: timed(quarter, model)
    measured = turns(candidates, rounds)
    for name, values in measured.items():
        made = row(name, PARAMS, values)
        if name == THEIRS:
            pairs = zip(values[1:], measured[OURS][1:], strict=True)
            ratios = [seconds / own for (seconds, _), (own, _) in pairs]
            made |= {
                "ratio_to": OURS, "times_slower": statistics.median(ratios),
                "times_slower_low": min(ratios), "times_slower_high": max(ratios),
                "torch": theirs.versions["torch"],
                "torch_pruning": theirs.versions["torch_pruning"],
            }  # fmt: skip
            theirs.close()
        yield made


def application_rows(rounds):
    """The largest models, one after the other: each takes gigabytes."""
    import keras

    for name in LARGEST:
        model = getattr(keras.applications, name)(weights=None)
        measured = turns({f"tfeffi, {name}": lambda model=model: timed(halve, model)}, rounds)
        layers = sum(1 for _ in model._flatten_layers(include_self=False))
        for key, values in measured.items():
            yield {**row(key, trained_params(model), values), "layers": layers}
        del model
        keras.utils.clear_session()


def main(_):
    from absl import flags

    from tfeffi.study.results import Result

    options, result = flags.FLAGS, Result.new("surgery_speed")
    if not options.torch_python:
        print("no --torch_python: Torch-Pruning is left out; see the top of this file")
    for made in resnet_rows(options.rounds, options.torch_python):
        result.add_row(**made)
    if options.largest:
        for made in application_rows(min(options.rounds, 3)):
            result.add_row(**made)
    for made in result.rows:
        print(f"{made['name']:50} {made['seconds']:.2f} s")
    result.write(options.output)


if __name__ == "__main__":
    if sys.argv[1:] == ["torch_worker"]:
        torch_worker()
    else:
        from absl import flags

        from tfeffi.tools import app

        flags.DEFINE_string("output", "results/surgery_speed.json", "The result file.")
        flags.DEFINE_integer("rounds", 7, "How often each takes its turn.", lower_bound=1)
        flags.DEFINE_string("torch_python", None, "A Python with torch and torch-pruning.")
        flags.DEFINE_bool("largest", True, "Also the largest models of keras.applications.")
        app.run(main)
