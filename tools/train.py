"""Trains the model of a config file: replicates, checkpoints, history, result.json.

A killed run resumes where it was; a finished one is not repeated. Any key of the config can be
overridden, e.g. --config.train.epochs=1.
"""

from absl import flags
from ml_collections import config_flags

from tfeffi.tools import app

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment, e.g. configs/demo.py.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where everything is written; default runs/NAME-HASH of the config."
)
flags.mark_flag_as_required("config")


def main(_):
    """Trains, shows the row."""
    app.import_tensorflow()

    from tfeffi.study import report, runs
    from tfeffi.train import experiment

    workdir = _WORKDIR.value or f"runs/{experiment.name_of(_CONFIG.value)}"
    experiment.run(_CONFIG.value, workdir)
    report.console_table(runs.load([workdir]))
    print(f"wrote {workdir}/result.json")


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
