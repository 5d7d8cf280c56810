"""The page and the console table: what they say, and that nothing in them can break out."""

import html
import io
import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest
from rich.console import Console

from tests.study import samples
from tfeffi.errors import BadInput
from tfeffi.study import report, runs
from tfeffi.study.page import page
from tfeffi.study.results import Result


def charts_of(text):
    """The charts of a page, as XML: a chart that is not well formed fails here."""
    found = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    return {svg.get("aria-label"): svg for svg in map(ElementTree.fromstring, found)}


def points_of(chart, kind):
    """Names of the points that are on (off) the front."""
    return {
        group.findtext("text") for group in chart.iter("g") if kind in group.get("class").split()
    }


def prose(text):
    """What a reader sees."""
    body = re.sub(r"<(script|style)>.*?</\1>", "", text[text.index("<body>") :], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return runs.load([samples.run(tmp_path_factory.mktemp("runs") / "demo")])


@pytest.fixture(scope="module")
def text(study):
    return page(study)


def test_the_three_charts_mark_their_fronts(text):
    charts = charts_of(text)
    everyone = {row[0] for row in samples.VARIANTS}
    for cost, front in (
        ("latency p50", samples.LATENCY_FRONT),
        ("file", samples.BYTES_FRONT),
        ("training", ["baseline", "float16"]),
    ):
        chart = charts[f"accuracy against {cost}"]
        assert points_of(chart, "on") == set(front)
        assert points_of(chart, "off") == everyone - set(front)
        bars = [e for e in chart.iter("rect") if e.get("class") == "bar"]
        assert len(bars) == len(everyone)  # the accuracies' deviations; costs have none here


def test_better_is_up_and_left(text):
    chart = charts_of(text)["accuracy against latency p50"]
    dots = {
        g.findtext("text"): next(d for d in g.iter("circle") if d.get("class") == "dot")
        for g in chart.iter("g")
    }
    place = {name: (float(d.get("cx")), float(d.get("cy"))) for name, d in dots.items()}
    by_latency = sorted(samples.VARIANTS, key=lambda row: row[4])
    assert sorted(place, key=lambda name: place[name][0]) == [row[0] for row in by_latency]
    assert place["pruned"][1] < place["separable"][1]


@pytest.mark.parametrize("crowded", [False, True])
def test_the_good_corner_is_named_where_nothing_stands(crowded):
    result = Result.new("corner")
    for at in range(9):
        row = {"accuracy_mean": 0.9 - 0.01 * at, "p50_ms": 1.0 + at if crowded else 9.0 - at}
        result.add_row(name=f"variant number {at}", **row)
    (chart,) = charts_of(page(runs.of(result))).values()
    said = [e for e in chart.iter("text") if e.get("class") == "better"]
    assert len(said) == (0 if crowded else 1)


def test_names_do_not_cover_each_other(text):
    for label, chart in charts_of(text).items():
        boxes = []
        for element in chart.iter("text"):
            if "name" not in element.get("class"):
                continue
            width, x, y = (
                len(element.text) * 13 * 0.55,
                float(element.get("x")),
                float(element.get("y")),
            )
            left = (
                x - {"start": 0, "middle": width / 2, "end": width}[element.get("class").split()[1]]
            )
            boxes.append((left, y - 11, left + width, y + 3))
        for a, b in itertools.combinations(boxes, 2):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{label}: {a} {b}"


def test_the_page_says_what_is_gained_and_what_is_worth_shipping(text):
    words = prose(text)
    assert "7.9× faster pruned_int8 0.412 ms → 0.0520 ms, −0.47 points of accuracy" in words
    assert "14.9× smaller pruned_int8 1.32 MB → 88.4 kB" in words
    assert "separable is beaten by pruned_int8" in words
    assert "factorized is beaten by int8, pruned and pruned_int8" in words
    assert "The same in every row: MACs 7.90 M, seeds 3, threads 1, device host." in words
    assert "tfeffi-sweep --config=configs/demo.py --workdir=runs/demo" in words


def test_the_table_has_every_row_and_its_numbers_for_sorting(text):
    table = text[text.index('class="sortable"') :]
    rows = re.findall(r"<tr data-row.*?</tr>", table, re.DOTALL)
    assert len(rows) == len(samples.VARIANTS)
    assert 'data-value="88400"' in rows[-1] and "14.9× smaller" in rows[-1]


def test_training_curves_are_drawn_with_their_values(text):
    charts = charts_of(text)
    for quantity in ("training loss", "training accuracy", "validation accuracy", "learning rate"):
        chart = charts[f"{quantity} at each epoch"]
        assert len([p for p in chart.iter("path") if "curve" in p.get("class")]) == 2
    assert "validation loss at each epoch" not in charts


def test_a_long_training_is_thinned_but_ends_where_it_ended(study):
    long = runs.Curve("long", samples.history(5000)["rows"])
    text = page(runs.Study(study.results, study.names, study.entries, [long], []))
    assert len(text) < 200_000
    assert "[5000,0.0004]" in html.unescape(text)


def test_nothing_is_loaded_from_anywhere(text):
    assert not re.search(r"(?:src|href)\s*=|@import|url\(", text)
    assert "default-src &#x27;none&#x27;" in text


def test_names_cannot_become_markup():
    evil = '<img src=x onerror="alert(1)">&'
    result = Result.new(evil, evil)
    result.add_row(name=evil, accuracy_mean=0.9, p50_ms=1.0, bytes=10, remark=evil)
    result.add_row(name="b" + evil, accuracy_mean=0.8, p50_ms=0.5, bytes=5)
    curve = runs.Curve(evil, samples.history(3)["rows"])
    made = runs.of(result)
    text = page(runs.Study(made.results, made.names, made.entries, [curve], [evil]))
    assert "<img" not in text
    assert len(charts_of(text)) > 2
    assert evil in prose(text).replace("& ", "&") or "onerror" in prose(text)


def test_what_was_not_measured_is_noted_and_not_drawn():
    result = samples.result()
    result.add_row(name="untimed", accuracy_mean=0.91, bytes=1000)
    result.add_row(name="unscored", p50_ms=0.01)
    text = page(runs.of(result))
    assert "Not measured, so not shown: untimed and unscored." in prose(text)
    chart = charts_of(text)["accuracy against latency p50"]
    assert not {"untimed", "unscored"} & (points_of(chart, "on") | points_of(chart, "off"))
    assert 'title="not measured"' in text


@pytest.mark.parametrize(
    "rows",
    [
        [{"name": "one", "accuracy_mean": 0.9, "p50_ms": 1.0, "bytes": 10}],
        [
            {"name": "same", "accuracy_mean": 0.9, "bytes": 10},
            {"name": "again", "accuracy_mean": 0.9, "bytes": 10},
        ],
        [{"name": "trained", "accuracy_mean": 0.9, "train_seconds_mean": 5.0}],
        [{"name": "nothing"}],
        [
            {"name": "zero", "accuracy_mean": 0.0, "p50_ms": 0.0},
            {"name": "b", "accuracy_mean": 1.0, "p50_ms": 1.0},
        ],
    ],
)
def test_small_results_make_a_page_and_a_table(rows):
    result = Result.new("small")
    for row in rows:
        result.add_row(**row)
    text = page(runs.of(result))
    for row in rows:
        assert row["name"] in prose(text)
    assert "nan" not in text.lower().replace("number.isnan", "")
    out = io.StringIO()
    report.console_table(result, Console(file=out, width=80))
    assert rows[0]["name"] in out.getvalue()


def test_every_cost_has_its_chart_and_its_headline():
    result = Result.new("every cost")
    result.add_row(name="dense", accuracy_mean=0.9, **dict.fromkeys(runs.COSTS, 2e6))
    result.add_row(
        name="small", accuracy_mean=0.9, ratio_to="dense", **dict.fromkeys(runs.COSTS, 1e6)
    )
    text = page(runs.of(result))
    gains = ("faster", "less training", "fewer training MACs", "smaller")
    assert len(charts_of(text)) == len(runs.COSTS) == len(gains)
    assert all(f"2.0× {gain} small" in prose(text) for gain in gains)
    assert "2.00 M training MACs" in prose(text)


def test_two_runs_share_the_charts(tmp_path):
    samples.run(tmp_path / "a", "wide")
    samples.run(tmp_path / "b", "narrow")
    text = page(runs.load([tmp_path / "a", tmp_path / "b"]), "Both")
    assert "<h1>Both</h1>" in text
    chart = charts_of(text)["accuracy against file"]
    points = [g.get("class").split() for g in chart.iter("g")]
    assert sum("s0" in kinds for kinds in points) == len(samples.VARIANTS)
    assert sum("s1" in kinds for kinds in points) == len(samples.VARIANTS)
    lines = [path.get("class") for path in chart.iter("path")]
    assert "front-line mixed" in lines  # of both runs: of neither's colour


def test_an_older_report_is_replaced_and_any_other_file_is_not(study, tmp_path):
    path = tmp_path / "new" / "report.html"
    report.write_report(study, path)
    first = path.read_text()
    report.write_report(study, path, title="Again")
    assert path.read_text() != first and "<h1>Again</h1>" in path.read_text()
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    other = tmp_path / "result.json"
    other.write_text("{}")
    with pytest.raises(BadInput, match="exists and is no report"):
        report.write_report(study, other)
    with pytest.raises(BadInput, match="is a folder"):
        report.write_report(study, tmp_path)
    assert other.read_text() == "{}"


def test_the_console_table_fits_a_terminal_and_shows_gains(study):
    out = io.StringIO()
    report.console_table(samples.result(), Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = [line for line in lines if " int8 " in line]
    assert line.split() == [
        "●",
        "int8",
        "91.21",
        "±",
        "0.25",
        "−0.11",
        "0.131",
        "3.1×",
        "341",
        "kB",
        "3.9×",
        "61.0",
    ]
    assert any(line.split()[:1] == ["separable"] for line in lines)  # dominated: no mark


def test_the_console_table_does_not_read_names_as_markup():
    result = Result.new("x")
    result.add_row(name="[bold]a[/bold] [/]", accuracy_mean=0.5)
    out = io.StringIO()
    report.console_table(result, Console(file=out, width=80))
    assert "[bold]a[/bold] [/]" in out.getvalue()


def test_where_points_crowd_only_the_important_names_always_show():
    result = samples.result()
    for index in range(20):
        result.add_row(
            name=f"poor_{index}", accuracy_mean=0.8 + index / 1000, p50_ms=0.5, bytes=10**6
        )
    text = page(runs.of(result))
    chart = charts_of(text)["accuracy against file"]
    quiet = points_of(chart, "quiet")
    assert {f"poor_{index}" for index in range(20)} <= quiet
    assert not quiet & {*samples.BYTES_FRONT, "baseline"}
    assert "Point at the others for their names." in prose(text)


def test_what_costs_more_is_said_so(text):
    assert "1.36× more" in prose(text)  # 83 s of training where the baseline took 61
    assert "0.73×" not in prose(text)
