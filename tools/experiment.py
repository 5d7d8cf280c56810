"""Runs an experiment of its own kind: trainings over several seeds, measurements, one result file.

    tfeffi-experiment --config=configs/activation_toy.py --output=results/activation_toy.json

The config's docstring is its run card. A killed run goes on where it was; what is measured is kept in
--workdir and not measured again. --output replaces an older result of the same name only; files that
the result names are put beside it.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from tfeffi.tools import app

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment: configs/NAME.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "What is measured is kept here; default runs/NAME.")
_OUTPUT = flags.DEFINE_string("output", None, "The result file; default WORKDIR/result.json.")
_FIGURE = flags.DEFINE_string("figure", None, "The picture to draw, if the experiment has one.")
flags.mark_flag_as_required("config")


def main(_):
    """Runs, writes, draws, shows."""
    app.import_tensorflow()

    from tfeffi.errors import BadInput
    from tfeffi.study import experiments, report, results, runs

    config = _CONFIG.value
    module = experiments.find(config)
    name = experiments.name_of(config)
    if _FIGURE.value and not hasattr(module, "draw"):
        raise BadInput(f'experiment "{config.experiment}" has no picture; leave out --figure')
    output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else None
    if output and output.exists() and results.Result.read(output).name != name:
        raise BadInput(f'--output="{output}" is the result of another experiment; name another')
    workdir = _WORKDIR.value or f"runs/{name}"
    result = experiments.run(config, workdir)
    if output:
        experiments.write(result, workdir, output)
    if _FIGURE.value:
        experiments.draw(config.experiment, result, _FIGURE.value)
    report.console_table(runs.load([output or workdir]))
    print(f"wrote {output or pathlib.Path(workdir, 'result.json')}")


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
