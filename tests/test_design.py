"""The rooms stand in a row: none imports one to its right, and none is too large to live in."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
ROW = (
    "analysis", "data", "models", "layers", "surgery", "methods", "train", "export", "bench",
    "compress", "study",
)  # fmt: skip
ANYWHERE = ("tfeffi.study.results",)  # the record that every step may write
FILES = sorted(ROOT.glob("tfeffi/**/*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_room_imports_one_to_its_right(path):
    room = path.relative_to(ROOT / "tfeffi").parts[0]
    allowed = ROW[: ROW.index(room) + 1] if room in ROW else ()
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "tfeffi" and len(parts) > 1 and parts[1] in ROW:
            assert parts[1] in allowed or name.startswith(ANYWHERE), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            first = node.body[1] if has_docstring and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < 60, node.name
