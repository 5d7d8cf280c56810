"""Generated Markdown: what is made from results, in which form, and that drift is seen."""

import matplotlib.image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.study import samples
from tfeffi.errors import BadInput
from tfeffi.study import tables
from tfeffi.study.results import Result


@pytest.fixture
def readme(tmp_path):
    samples.result().write(tmp_path / "results" / "demo.json")
    return tmp_path / "README.md"


def made(readme, text):
    return tables.rendered(text, readme)


def rows_of(text):
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def test_a_table_has_the_columns_asked_for(readme):
    columns = (
        "name=variant, accuracy_mean, delta(accuracy_mean)=Δ, p50_ms:us.1, ratio(p50_ms), "
        "bytes:kB.1=size, n"
    )
    text = made(
        readme,
        f'# Demo\n<!-- table: demo columns="{columns}" rows=baseline,*int8 -->\n'
        "old\n<!-- end -->\nafter\n",
    )
    assert text.startswith("# Demo\n<!-- table: demo") and text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
    head, line, *rows = rows_of(text)
    assert head == ["Variant", "Accuracy", "Δ", "Latency p50", "Faster", "Size", "Seeds"]
    assert line == [":---", *["---:"] * 6]
    assert rows == [
        ["baseline", "91.32 ± 0.21 %", "0.00 points", "412.0 µs", "1.00×", "1,320.0 kB", "3"],
        ["int8", "91.21 ± 0.25 %", "−0.11 points", "131.0 µs", "3.1×", "341.0 kB", "3"],
        ["pruned_int8", "90.85 ± 0.22 %", "−0.47 points", "52.0 µs", "7.9×", "88.4 kB", "3"],
    ]


def test_rows_are_sorted_and_compared_as_asked(readme):
    text = made(
        readme,
        '<!-- table: demo columns="name, ratio(bytes)" rows="int8, pruned*" sort=-bytes '
        "baseline=int8 --><!-- end -->",
    )
    assert rows_of(text)[2:] == [["int8", "1.00×"], ["pruned", "1.13×"], ["pruned_int8", "3.9×"]]


@pytest.mark.parametrize(
    ("column", "heading", "cell"),
    [
        ("bytes:kB.1=size", "Size", "341.0 kB"),
        ("bytes=size:kB.1", "Size", "341.0 kB"),
        ("bytes=size", "Size", "341 kB"),
        ("bytes:.2", "File", "341.00 kB"),
        ("bytes=images/s:.0", "Images/s", "341 kB"),
        ("ratio( bytes ):x.3", "Smaller", "3.871×"),
        ("speedup", "Speedup", "3.31×"),
        ("depth:x.1", "Depth", "7.0×"),
    ],
)
def test_a_column_is_read_whatever_the_order_of_its_parts(readme, column, heading, cell):
    result = samples.result()
    result.add_row(**{**result.row("int8"), "speedup": 3.3111, "depth": 7})
    result.write(readme.parent / "results" / "demo.json")
    text = made(readme, f'<!-- table: demo columns="{column}" rows=int8 --><!-- end -->')
    assert [rows_of(text)[0], rows_of(text)[2]] == [[heading], [cell]]


def test_a_table_may_be_asked_for_over_several_lines(readme):
    text = '<!-- table: demo\n     columns="name,\n     bytes"\n     rows=int8 -->\n<!-- end -->'
    assert rows_of(made(readme, text))[2:] == [["int8", "341 kB"]]


def test_what_was_not_measured_is_a_dash_and_sorts_last(readme):
    result = samples.result()
    result.add_row(name="untimed", accuracy_mean=0.91, remark="a|b")
    result.write(readme.parent / "results" / "demo.json")
    text = made(
        readme,
        "<!-- table: demo columns=name,p50_ms,ratio(p50_ms),remark rows=untimed,int8 "
        "sort=p50_ms --><!-- end -->",
    )
    assert rows_of(text)[2:] == [["int8", "0.131 ms", "3.1×", "–"], ["untimed", "–", "–", "a\\|b"]]


def test_values_and_facts_stand_in_the_prose(readme):
    text = made(
        readme,
        "It is <!-- value: demo row=pruned_int8 column=ratio(p50_ms) -->9×<!-- end --> faster for "
        "<!-- value: demo row=pruned_int8 column=delta(accuracy_mean):points.1 --><!-- end -->.",
    )
    assert "-->7.9×<!-- end --> faster" in text and "-->−0.5 points<!-- end -->." in text
    about = made(readme, "<!-- about: demo --><!-- end -->")
    assert "`tfeffi-sweep --config=configs/demo.py --workdir=runs/demo`" in about
    assert "TensorFlow" in about and "cores" in about


def test_renewing_settles_and_then_changes_nothing(readme):
    readme.write_text(
        "a\n<!-- table: demo columns=name,bytes -->\n<!-- end -->\n<!-- about: demo --><!-- end -->\n"
        "<!-- figure: demo costs=bytes --> ![front](docs/front.png) <!-- end -->\n"
    )
    assert tables.renew(readme)
    settled, picture = readme.read_text(), readme.parent / "docs" / "front.png"
    drawn = picture.stat().st_mtime_ns
    assert not tables.renew(readme)
    assert (readme.read_text(), picture.stat().st_mtime_ns) == (settled, drawn)


def test_the_picture_of_an_experiment_is_held_against_its_result(readme):
    mark = "<!-- figure: demo by=blocks_cifar10 --> ![seed by seed](own.png) <!-- end -->\n"
    readme.write_text(mark)
    result = Result.new("demo")
    result.add_row(name="a", accuracy_mean=0.5, accuracies=[0.4, 0.6], n=2, macs=1e6, epochs=1)
    result.write(readme.parent / "results" / "demo.json")
    assert tables.renew(readme) and not tables.renew(readme)
    picture = readme.parent / "own.png"
    assert matplotlib.image.imread(picture).ndim == 3
    result.rows[0]["accuracies"] = [0.3, 0.7]
    result.write(readme.parent / "results" / "demo.json")
    ((stale, _),) = tables.stale_figures(mark, readme)
    assert stale == picture


def test_drift_is_seen_in_tables_and_pictures(readme):
    readme.write_text(
        "<!-- table: demo columns=name,bytes -->\n<!-- end -->\n"
        "<!-- figure: demo --> ![front](front.png) <!-- end -->\n"
    )
    tables.renew(readme)
    text = readme.read_text()
    assert tables.rendered(text, readme) == text and not tables.stale_figures(text, readme)
    assert tables.rendered(text.replace("341 kB", "241 kB"), readme) == text
    result = samples.result()
    result.add_row(name="int8", accuracy_mean=0.5, bytes=1, p50_ms=1.0)
    result.write(readme.parent / "results" / "demo.json")
    assert tables.rendered(text, readme) != text
    ((picture, _),) = tables.stale_figures(text, readme)
    assert picture == readme.parent / "front.png"


def test_a_text_without_marks_stays_as_it_is(readme):
    text = "# A\n<!-- a comment -->\n<!-- end -->\n| a | b |\n"
    assert made(readme, text) == text


@given(st.text(st.characters(exclude_characters="<"), max_size=30))
def test_only_what_is_between_the_marks_changes(tmp_path_factory, other):
    folder = tmp_path_factory.mktemp("made")
    result = Result.new("x")
    result.add_row(name="a", bytes=5)
    result.write(folder / "results" / "x.json")
    mark = "<!-- value: x row=a column=bytes -->"
    text = f"{other}{mark}{other}<!-- end -->{other}"
    assert tables.rendered(text, folder / "a.md") == f"{other}{mark}5 B<!-- end -->{other}"


def test_results_are_found_from_a_folder_below(readme):
    card = readme.parent / "methods" / "svd" / "README.md"
    assert "5 B" not in made(card, text := "<!-- value: demo row=int8 column=bytes --><!-- end -->")
    assert "341 kB" in made(card, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: demo columns=name -->", "line 2: <!-- table: has no <!-- end -->"),
        (
            "<!-- table: demo columns=name -->\n<!-- value: demo row=a column=n --><!-- end -->",
            "line 2: <!-- table: has no <!-- end -->",
        ),
        ("<!-- table: --><!-- end -->", "needs the name of a result first"),
        ("<!-- table: columns=name --><!-- end -->", "needs the name of a result first"),
        ("<!-- table: demo --><!-- end -->", "name its columns"),
        (
            "<!-- table: demo column=name --><!-- end -->",
            'no option "column"; did you mean "columns"',
        ),
        ("<!-- about: demo x=1 --><!-- end -->", 'about has no option "x"; it has none'),
        (
            "<!-- table: demos columns=name --><!-- end -->",
            'no results/demos.json; did you mean "demo"',
        ),
        (
            "<!-- table: demo columns=name,p5_ms --><!-- end -->",
            'has "p5_ms"; did you mean "p50_ms"',
        ),
        ("<!-- table: demo columns=name,p50_ms:kB --><!-- end -->", 'not in "kB" but in ms, us'),
        (
            "<!-- table: demo columns=ratio(p50_ms --><!-- end -->",
            'column "ratio\\(p50_ms" must read like',
        ),
        (
            "<!-- table: demo columns=name rows=int9 --><!-- end -->",
            'no row "int9" .*did you mean "int8"',
        ),
        (
            "<!-- table: demo columns=name baseline=int9 --><!-- end -->",
            'no row "int9"; did you mean "int8"',
        ),
        ("<!-- table: demo columns=name sort=pp --><!-- end -->", 'has "pp"'),
        ("<!-- value: demo row=int8 --><!-- end -->", "needs row= and column="),
        ("<!-- value: demo row=int9 column=n --><!-- end -->", 'no row "int9"'),
        ("<!-- figure: demo --> none <!-- end -->", "no picture between the marks"),
        ("<!-- figure: demo by=blocks costs=bytes --> ![](a.png) <!-- end -->", "leave one out"),
        ("<!-- figure: demo by=blocks --> ![](a.png) <!-- end -->", "blocks_cifar10"),
        ("<!-- figure: demo by=strategies --> ![](a.svg) <!-- end -->", "with a .png"),
        ('<!-- table: demo columns="name --><!-- end -->', "line 2: No closing quotation"),
    ],
)
def test_a_mark_that_cannot_be_followed_is_told_with_its_line(readme, text, message):
    with pytest.raises(BadInput, match=message) as caught:
        readme.write_text(f"first line\n{text}\n")
        tables.renew(readme)
    assert str(caught.value).startswith("line 2: ") and "\n" not in str(caught.value)
    assert readme.read_text() == f"first line\n{text}\n"


def test_a_value_that_a_row_lacks_is_bad_input(readme):
    result = samples.result()
    result.add_row(name="untimed", bytes=5)
    result.write(readme.parent / "results" / "demo.json")
    with pytest.raises(BadInput, match=r'row "untimed" .* has no p50_ms'):
        made(readme, "<!-- value: demo row=untimed column=p50_ms --><!-- end -->")


def test_a_missing_file_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        tables.renew(tmp_path / "README.md")
