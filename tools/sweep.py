"""Trains what a config lists, times it, and draws the Pareto front.

    tfeffi-sweep --config=configs/demo.py              one model and its variants
    tfeffi-sweep --config=configs/pareto_cifar10.py    many ways to train, each over several seeds

A list of configs is one file: what its strategies or variants have in common, and what each changes.
Everything is written into --workdir: the trainings, result.json with a row each, report.html. A killed
sweep goes on where it was; what is finished is not repeated.
"""

from absl import flags
from ml_collections import config_flags

from tfeffi.tools import app

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment: configs/demo.py.")
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Where everything is written; default runs/NAME-HASH of the config, runs/NAME of an experiment.",
)
flags.mark_flag_as_required("config")


def main(_):
    """Runs the study, shows its table, writes its page."""
    app.import_tensorflow()

    from tfeffi.study import experiments, report, runs, variants
    from tfeffi.train import experiment

    config = _CONFIG.value
    if "experiment" in config:
        run_study, name = experiments.run, config.get("name")
    else:
        run_study, name = variants.run, experiment.name_of(config)
    workdir = _WORKDIR.value or f"runs/{name}"
    run_study(config, workdir)
    study = runs.load([workdir])
    report.write_report(study, f"{workdir}/report.html")
    report.console_table(study)
    print(f"wrote {workdir}/result.json and {workdir}/report.html")


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
