"""Runs one tool many times in a process of its own: TensorFlow is loaded once, flags start afresh.

python -m tests.tools.many compress < cases.json     # [[argument, ...], ...] -> [[code, out, err]]
"""

import contextlib
import importlib
import io
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run(tool: str, cases: list[list[str]]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each run."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.tools.many", tool],
        input=json.dumps([[str(word) for word in case] for case in cases]),
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]


def _one(module, tool: str, arguments: list[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    sys.argv = [f"tfeffi-{tool}", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            module.run()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    return code, out.getvalue(), err.getvalue()


def _main(tool: str) -> None:
    from absl import flags
    from absl.testing import flagsaver

    module = importlib.import_module(f"tfeffi.tools.{tool}")
    results = []
    for case in json.load(sys.stdin):
        with flagsaver.flagsaver():
            results.append(_one(module, tool, case))
        flags.FLAGS.unparse_flags()
    print(json.dumps(results))


if __name__ == "__main__":
    _main(sys.argv[1])
