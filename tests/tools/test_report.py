"""tfeffi-report as a user types it."""

import subprocess
import sys

import pytest

from tests.study import samples


def report(*arguments, cwd):
    command = [sys.executable, "-m", "tfeffi.tools.report", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_runs_become_a_table_a_page_and_a_picture(tmp_path):
    samples.run(tmp_path / "runs" / "demo")
    done = report(
        "--runs=runs/demo", "--output=out/report.html", "--figure=front.png", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "pruned_int8" in done.stdout and "wrote out/report.html" in done.stdout
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_a_readme_is_renewed_and_says_whether_it_had_to_be(tmp_path):
    samples.result().write(tmp_path / "results" / "demo.json")
    (tmp_path / "README.md").write_text("<!-- table: demo columns=name,bytes -->\n<!-- end -->\n")
    assert "README.md: renewed" in report("--readme=README.md", cwd=tmp_path).stdout
    assert "| int8 | 341 kB |" in (tmp_path / "README.md").read_text()
    assert "nothing has changed" in report("--readme=README.md", cwd=tmp_path).stdout


def test_help_tells_what_it_does(tmp_path):
    done = report("--help", cwd=tmp_path)
    assert "tfeffi-report --runs=runs/demo --output=report.html" in done.stdout
    for flag in ("--runs", "--output", "--title", "--figure", "--readme"):
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to report: give --runs=FOLDER"),
        (["--output=a.html"], "nothing to report"),
        (["--readme=README.md", "--figure=a.png"], "need --runs=FOLDER"),
        (["--runs=demos"], 'there is no run "demos"; did you mean "demo"'),
        (["--runs=nope"], 'there is no run "nope"; known: broken, demo'),
        (["--runs=."], "holds no result.json; its folders have: broken,demo"),
        (["--runs=broken"], '"broken/result.json" is not JSON'),
        (["--runs=demo,demo"], 'run "demo" is given twice'),
        (["--runs=demo", "--output=demo/result.json"], "exists and is no report"),
        (["--runs=demo", "--figure=a.txt"], "must end in .png"),
        (["--readme=none.md"], '"none.md" cannot be read'),
        (["--runs=demo", "extra"], 'unexpected argument "extra"'),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    samples.run(tmp_path / "demo")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "result.json").write_text("{")
    (tmp_path / "no_run").mkdir()
    (tmp_path / "notes.txt").write_text("")
    before = (tmp_path / "demo" / "result.json").read_bytes()
    done = report(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "demo" / "result.json").read_bytes() == before
