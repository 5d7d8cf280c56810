"""Trains a config's model, makes its variants, times them, and draws the Pareto front.

Everything is written into --workdir: a folder a variant, result.json, report.html. A killed sweep goes on
where it was; what is finished is not repeated.
"""

from absl import flags
from ml_collections import config_flags

from tfeffi.tools import app

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment: configs/demo.py.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where everything is written; default runs/NAME-HASH of the config."
)
flags.mark_flag_as_required("config")


def main(_):
    """Runs the study, shows its table, writes its page."""
    app.import_tensorflow()

    from tfeffi.study import report, runs, variants
    from tfeffi.train import experiment

    workdir = _WORKDIR.value or f"runs/{experiment.name_of(_CONFIG.value)}"
    variants.run(_CONFIG.value, workdir)
    study = runs.load([workdir])
    report.write_report(study, f"{workdir}/report.html")
    report.console_table(study)
    print(f"wrote {workdir}/result.json and {workdir}/report.html")


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
