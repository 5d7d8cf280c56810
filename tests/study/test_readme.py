"""The project's own Markdown says what results/*.json say. `tfeffi-report --readme=FILE` mends it."""

import pathlib

import pytest

from tfeffi.study import tables
from tfeffi.study.results import Result

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/**/*.md", "tfeffi/**/*.md", "benchmarks/**/*.md")
    for path in sorted(ROOT.glob(pattern))
]
RESULTS = sorted((ROOT / "results").glob("*.json"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_number_has_drifted_from_the_results(path):
    text = path.read_text(encoding="utf-8")
    hint = f"run `tfeffi-report --readme={path.relative_to(ROOT)}`"
    assert tables.rendered(text, path) == text, hint
    assert [str(picture) for picture, _ in tables.stale_figures(text, path)] == [], hint


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_every_committed_result_keeps_the_schema(path):
    result = Result.read(path)
    assert result.rows
    assert result.name == path.stem
