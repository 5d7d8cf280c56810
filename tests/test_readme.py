"""The README's Python runs as it stands, block after block, in an empty folder."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_the_code_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S)
    assert blocks
    names = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"README.md, Python block {number}", "exec"), names)
    assert (tmp_path / "small.tflite").exists()


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text()))
def test_links_and_pictures_are_there(path):
    assert (README.parent / path).exists()


def anchors(page):
    """What a heading is called in a link: lower case, without marks, spaces as dashes."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", one.strip().lower()).replace(" ", "-") for one in headings}


PAGES = [README, *README.parent.glob("docs/*.md"), *README.parent.glob("tfeffi/**/README.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(README.parent)))
def test_links_to_headings_lead_there(page):
    for path, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#([^)]+)\)", page.read_text()):
        assert anchor in anchors(page.parent / path if path else page), anchor


def test_the_commands_of_the_readme_exist():
    text = README.read_text()
    scripts = (README.parent / "setup.py").read_text()
    for tool in set(re.findall(r"^tfeffi-([a-z-]+)", text, re.M)):
        assert f'"{tool.replace("-", "_")}"' in scripts
    makefile = (README.parent / "Makefile").read_text()
    for target in set(re.findall(r"^make ([a-z-]+)", text, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M)
