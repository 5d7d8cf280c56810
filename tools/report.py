"""The report of one or more runs: a table, a page with the Pareto fronts, the picture, README's tables.

    tfeffi-report --runs=runs/demo --output=report.html
    tfeffi-report --runs=runs/demo,runs/other --output=both.html --title="Two widths"
    tfeffi-report --runs=results/demo.json --figure=docs/front.png
    tfeffi-report --readme=README.md

A run is a folder with result.json, or such a file alone. The page is one file and loads nothing from
the network. A report, a figure and README's tables can be made again at any time, so older ones are
replaced; --output does not replace a file that is no report.
"""

from absl import flags

from tfeffi.tools import app

_RUNS = flags.DEFINE_list("runs", [], "folders or result files, with commas between")
_OUTPUT = flags.DEFINE_string("output", None, "the .html to write")
_TITLE = flags.DEFINE_string("title", None, "its heading; by default the runs' names")
_FIGURE = flags.DEFINE_string("figure", None, "the .png, .svg or .pdf to draw the fronts into")
_README = flags.DEFINE_string("readme", None, "a Markdown file whose generated tables to renew")


def main(_):
    """Reads, prints, writes."""
    from tfeffi.errors import BadInput
    from tfeffi.study import figure, report, runs, tables

    if not (_RUNS.value or _README.value):
        raise BadInput("nothing to report: give --runs=FOLDER or --readme=FILE; see --help")
    if (_OUTPUT.value or _FIGURE.value) and not _RUNS.value:
        raise BadInput("--output and --figure need --runs=FOLDER")
    if _RUNS.value:
        study = runs.load(_RUNS.value)
        report.console_table(study)
        if _OUTPUT.value:
            report.write_report(study, _OUTPUT.value, _TITLE.value)
            print(f"wrote {_OUTPUT.value}")
        if _FIGURE.value:
            figure.draw(study, _FIGURE.value)
            print(f"wrote {_FIGURE.value}")
    if _README.value:
        changed = tables.renew(_README.value)
        print(f"{_README.value}: {'renewed' if changed else 'nothing has changed'}")


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
