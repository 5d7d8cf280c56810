"""The picture: made in each format, and found out when its results have changed."""

import pytest

from tests.study import samples
from tfeffi.errors import BadInput
from tfeffi.study import figure, runs


@pytest.mark.parametrize("suffix", figure.FORMATS)
def test_a_picture_remembers_what_it_shows(tmp_path, suffix):
    study, path = runs.of(samples.result()), tmp_path / f"front{suffix}"
    figure.draw(study, path)
    assert path.stat().st_size > 5000
    assert figure.fingerprint_of(path) == figure.fingerprint(study)
    first = path.read_bytes()
    figure.draw(study, path)
    assert path.read_bytes() == first  # nothing of today is in it
    assert [p.name for p in tmp_path.iterdir()] == [path.name]

    changed = samples.result()
    changed.add_row(name="int8", accuracy_mean=0.92, p50_ms=0.1, bytes=341_000)
    assert figure.fingerprint_of(path) != figure.fingerprint(runs.of(changed))


def test_the_fingerprint_is_of_the_rows_not_of_the_day():
    old, new = samples.result(), samples.result()
    new.date, new.commit = "2030-01-01T00:00:00Z", "other"
    assert figure.fingerprint(runs.of(old)) == figure.fingerprint(runs.of(new))
    assert figure.fingerprint(runs.of(old)) != figure.fingerprint(runs.of(old), ["bytes"])


def test_axes_say_what_they_measure(tmp_path):
    figure.draw(runs.of(samples.result()), tmp_path / "front.svg")
    text = (tmp_path / "front.svg").read_text()
    for title in ("latency p50 (ms)", "file", "accuracy (%)"):
        assert f"<!-- {title}" in text  # outlined, with the words beside it


def test_panels_are_the_costs_in_which_the_variants_differ():
    study = runs.of(samples.result())
    assert figure.panels(study) == ["p50_ms", "bytes"]
    assert figure.panels(study, ["train_seconds_mean"]) == ["train_seconds_mean"]
    trained = samples.result()
    trained.rows = [
        {k: row[k] for k in ("name", "accuracy_mean", "train_seconds_mean")} for row in trained.rows
    ]
    assert figure.panels(runs.of(trained)) == ["train_seconds_mean"]


def test_what_cannot_be_drawn_is_bad_input(tmp_path):
    study = runs.of(samples.result())
    with pytest.raises(BadInput, match=r"must end in \.png"):
        figure.draw(study, tmp_path / "front.jpg")
    with pytest.raises(BadInput, match='has "p50"; did you mean "p50_ms"'):
        figure.draw(study, tmp_path / "front.png", ["p50"])
    empty = samples.result()
    empty.rows = [{"name": "a", "depth": 3}]
    with pytest.raises(BadInput, match="no row has accuracy_mean"):
        figure.draw(runs.of(empty), tmp_path / "front.png")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_picture_of_results_has_no_fingerprint(tmp_path):
    (tmp_path / "a.png").write_bytes(b"PNG")
    assert figure.fingerprint_of(tmp_path / "a.png") is None
    assert figure.fingerprint_of(tmp_path / "none.png") is None
