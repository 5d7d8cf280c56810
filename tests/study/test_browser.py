"""The page in a real browser: no error, no request, and its script does what it should."""

import html
import json
import pathlib
import re
import shutil
import subprocess

import pytest

from tests.study import samples
from tfeffi.study import report, runs

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed to open the page in"
)

# Runs after the page's own script and leaves what it saw in the page.
PROBE = """
const column = title => [...document.querySelectorAll(".sortable th")].findIndex(
  th => th.textContent.startsWith(title));
const order = () => [...document.querySelectorAll(".sortable tbody tr")].map(
  row => row.cells[0].dataset.value);
const sorted = title => {
  const heading = document.querySelectorAll(".sortable th")[column(title)];
  heading.querySelector("button").click();
  return [heading.getAttribute("aria-sort"), order()];
};
const seen = {first: order(), file: sorted("file"), again: sorted("file"), name: sorted("variant")};
const text = element => element.textContent;
const point = [...document.querySelectorAll(".point")].find(
  g => text(g.querySelector("text")) === "int8");
const send = (target, kind, x = 300, y = 300) => target.dispatchEvent(
  new PointerEvent(kind, {clientX: x, clientY: y, bubbles: true}));
send(point, "pointerenter"); send(point, "pointermove");
seen.tip = document.getElementById("tip").innerText;
seen.lit = [...document.querySelectorAll("tr.lit")].map(row => text(row.cells[0]));
send(point, "pointerleave");
seen.hidden = getComputedStyle(document.getElementById("tip")).visibility;
const chart = document.querySelector("svg[data-curves]"), box = chart.getBoundingClientRect();
send(chart, "pointermove", box.left + box.width * 0.14, box.top + 50);
seen.curve = document.getElementById("tip").innerText;
const names = [...document.querySelectorAll("svg")].map(svg => [...svg.querySelectorAll(".name")].map(
  name => name.getBoundingClientRect()));
seen.covered = names.flatMap(boxes => boxes.flatMap((a, i) => boxes.slice(i + 1).filter(
  b => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom))).length;
seen.drawn = [...document.querySelectorAll("figure svg")].every(
  svg => svg.getBoundingClientRect().height > 100);
seen.wide = document.documentElement.scrollWidth <= innerWidth;
seen.requests = performance.getEntriesByType("resource").map(entry => entry.name);
document.body.setAttribute("data-seen", JSON.stringify(seen));
"""


def opened(page: pathlib.Path, folder: pathlib.Path, width: int = 1200):
    """What the probe saw, and what the browser wrote to its log."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder}", f"--window-size={width},1000", "--enable-logging=stderr",
        "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<body data-seen="([^"]*)"', done.stdout)
    assert found, done.stderr
    return json.loads(html.unescape(found[1])), [
        line for line in done.stderr.splitlines() if "CONSOLE" in line
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    report.write_report(runs.load([samples.run(folder / "demo")]), path)
    path.write_text(path.read_text().replace("</body>", f"<script>{PROBE}</script></body>"))
    return path


def test_the_page_works_and_asks_nothing_of_the_network(page, tmp_path):
    seen, console = opened(page, tmp_path)
    assert console == []
    assert seen["requests"] == []
    assert seen["drawn"] and seen["wide"] and seen["covered"] == 0

    names = [row[0] for row in samples.VARIANTS]
    by_size = [row[0] for row in sorted(samples.VARIANTS, key=lambda row: row[5])]
    assert seen["first"] == names
    assert seen["file"] == ["ascending", by_size]
    assert seen["again"] == ["descending", by_size[::-1]]
    assert seen["name"] == ["ascending", sorted(names)]

    assert seen["tip"].splitlines()[:3] == [
        "int8", "accuracy: 91.21 ± 0.25 % (−0.11 points)", "latency p50: 0.131 ms (3.1× faster)",
    ]  # fmt: skip
    assert seen["lit"] == ["int8", "int8"]  # its row in both tables
    assert seen["hidden"] == "hidden"
    assert seen["curve"].splitlines() == ["epoch 1", "baseline: 2", "pruned: 2"]


def test_the_page_fits_a_narrow_window(page, tmp_path):
    seen, console = opened(page, tmp_path, width=500)
    assert console == [] and seen["wide"] and seen["drawn"]


def test_the_probe_would_see_a_request_and_an_error(page, tmp_path):
    """The two tests above could not fail if this one did."""
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(
        page.read_text().replace("<main>", '<main><img src="https://example.org/a.png">')
    )
    _, console = opened(spoilt, tmp_path / "profile")
    assert any("Content Security Policy" in line for line in console)
