"""The report's page: sections of HTML around the charts. One file, no network, readable and printable."""

import pathlib
from collections.abc import Sequence

from tfeffi.study import charts, curves, metrics, pareto, profiles
from tfeffi.study.markup import Markup, join, tag
from tfeffi.study.runs import ACCURACY, COSTS, Entry, Study

GENERATOR = "tfeffi-report"
ALLOWED_LOSS = 0.01  # of accuracy, in the headline figures
DEEP = ("p50_ms", "bytes")  # with accuracy, the three objectives of the front in three dimensions
_HERE = pathlib.Path(__file__).parent
# The page may run its own script and style, and load nothing at all.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_ABOUT = {
    "p50_ms": "Median time of one inference, batch 1.",
    "train_seconds_mean": "Training and fine-tuning, without compilation.",
    "train_macs_mean": "Multiply-adds of training and fine-tuning.",
    "bytes": "Size of the file that is shipped.",
}


def page(study: Study, title: str | None = None) -> str:
    """The whole page.

    Args:
        study: what to show.
        title: its heading; the runs' names unless given.

    Returns:
        An HTML document.
    """
    title = title or " · ".join(study.names)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=GENERATOR),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", f"{title}: accuracy and what it costs"),
        tag("style", Markup((_HERE / "page.css").read_text())),
    )
    body = tag(
        "body",
        tag("main", _header(study, title), _headlines(study), _fronts(study), _deep_front(study),
            _curves(study), profiles.section(study), _table(study), _notes(study), _how(study)),
        tag("div", id="tip", role="status"),
        tag("script", Markup((_HERE / "page.js").read_text())),
    )  # fmt: skip
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _header(study: Study, title: str) -> Markup:
    lines = []
    for result in study.results:
        hardware = result.hardware
        gpu = hardware["accelerator"]
        lines.append(
            f"{result.date[:10]} · {hardware['cpu']}, {hardware['cores']} cores, "
            f"{hardware['memory_gb']:.0f} GB" + ("" if gpu == "none" else f" · {gpu}")
        )
    same = lines[:1] if len(set(lines)) == 1 else [
        f"{name}: {line}" for name, line in zip(study.names, lines, strict=True)
    ]  # fmt: skip
    return tag(
        "header",
        tag("p", "tfeffi", class_="brand"),
        tag("h1", title),
        tag("p", "What accuracy costs: in latency, in training, in bytes.", class_="lead"),
        *(tag("p", line, class_="meta") for line in same),
    )


def _headlines(study: Study) -> Markup | None:
    """For each cost the best variant that loses at most a point; nothing where none is better."""
    cards = [card for cost in COSTS if (card := _headline(study, cost))]
    if not cards:
        return None
    if len(study.results) == 1 and (card := _baseline_card(study)):
        cards.insert(0, card)
    return tag("section", *cards, class_="cards", aria_label="headlines")


def _baseline_card(study: Study) -> Markup | None:
    baselines = [e for e in study.having(ACCURACY) if e.is_baseline]
    if len(baselines) != 1:
        return None
    (entry,) = baselines
    known = [metrics.metric(cost) for cost in COSTS if cost in entry.row]
    costs = [
        of.text(entry.row[of.key]) + (f" {of.title}" if of.unit == "count" else "") for of in known
    ]
    accuracy = metrics.metric(ACCURACY).text(entry.row[ACCURACY])
    return tag(
        "div",
        tag("p", accuracy, tag("span", " accurate"), class_="figure"),
        tag("p", entry.label + ("" if "baseline" in entry.label else " (baseline)"), class_="who"),
        tag("p", ", ".join(costs), class_="detail"),
        class_="card plain",
        data_row=study.entries.index(entry),
    )


def _headline(study: Study, cost: str) -> Markup | None:
    able = [
        e
        for e in study.having(ACCURACY, cost)
        if not e.is_baseline
        and (change := e.delta(ACCURACY)) is not None
        and change >= -ALLOWED_LOSS - 1e-12
        and (e.ratio(cost) or 0) > 1
    ]
    if not able:
        return None
    best = max(able, key=lambda e: e.ratio(cost))
    of = metrics.metric(cost)
    what = f"{of.gain} {of.title}" if cost.startswith("train_") else of.gain
    was, now = of.text(best.baseline[cost]), of.text(best.row[cost])
    return tag(
        "div",
        tag("p", metrics.times(best.ratio(cost)), tag("span", f" {what}"), class_="figure"),
        tag("p", best.label, class_="who"),
        tag("p", f"{was} \u2192 {now}, {charts.gain(best, ACCURACY)} of accuracy", class_="detail"),
        class_=f"card s{best.run % charts.COLOURS}",
        data_row=study.entries.index(best),
    )


def _fronts(study: Study) -> Markup:
    drawn = [(cost, study.having(ACCURACY, cost)) for cost in COSTS]
    drawn = [cost for cost, entries in drawn if entries]
    figures = []
    for place, cost in enumerate(drawn):
        wide = place == 0 and len(drawn) % 2 == 1
        width, height = (1080, 440) if wide else (530, 400)
        chart = charts.front_chart(study, cost, width, height)
        shy = len(charts.always_named(study, cost, width)) < len(study.having(ACCURACY, cost))
        hint = " Point at the others for their names." if shy else ""
        caption = tag("figcaption", _ABOUT[cost], hint, _left_out(study, cost))
        figures.append(tag("figure", chart, caption, class_="wide" if wide else "half"))
    if not figures:
        figures = [tag("p", "No row has both an accuracy and a cost: there is no front to draw.")]
    return tag(
        "section",
        tag("h2", "The Pareto front"),
        tag("p", "Filled points are on the front: nothing else measured is both more accurate and "
            "cheaper. The ringed point is the baseline. Point at one for its figures.",
            class_="prose"),
        _legend(study.names) if len(study.names) > 1 else None,
        tag("div", *figures, class_="figures"),
        id="front",
    )  # fmt: skip


def _left_out(study: Study, cost: str) -> str:
    missing = study.lacking(ACCURACY, cost)
    return f" Not measured, so not shown: {_listed(missing)}." if missing else ""


def _legend(names: Sequence[str], data: str | None = None) -> Markup:
    items = []
    for index, name in enumerate(names):
        kind = f"key s{index % charts.COLOURS} dash{index // charts.COLOURS % 3}"
        items.append(tag("li", name, class_=kind, **({data: index} if data else {})))
    return tag("ul", *items, class_="legend")


def _deep_front(study: Study) -> Markup | None:
    """Which variants are worth having if accuracy, latency and bytes all count."""
    groups = [group for group in study.groups(ACCURACY, *DEEP) if len(group) > 1]
    if not groups:
        return None
    chosen = {"minimize": DEEP, "maximize": [ACCURACY]}
    tables, beaten = [], []
    for group in groups:
        rows = [e.row for e in group]
        front = [group[i] for i in pareto.front(rows, **chosen)]
        tables.append(_choices(study, front))
        for entry, by in zip(group, pareto.dominators(rows, **chosen), strict=True):
            if by:
                better = _listed([group[i] for i in by if group[i] in front])
                beaten.append(tag("li", tag("b", entry.label), f" is beaten by {better}"))
    return tag(
        "section",
        tag("h2", "Worth shipping"),
        tag("p", "The front in three dimensions, accuracy, latency and bytes: for each of these no "
            "other is at least as good in all three.", class_="prose"),
        *tables,
        tag("p", "Never the best choice:", class_="prose") if beaten else None,
        tag("ul", *beaten, class_="beaten") if beaten else None,
        id="three",
    )  # fmt: skip


def _choices(study: Study, front: Sequence[Entry]) -> Markup:
    keys = (ACCURACY, *DEEP)
    head = tag("tr", tag("th", "variant"), *(tag("th", metrics.metric(k).title) for k in keys))
    body = [
        tag(
            "tr",
            tag("th", entry.label, scope="row"),
            *(_cell(entry, key) for key in keys),
            data_row=study.entries.index(entry),
        )
        for entry in front
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def _curves(study: Study) -> Markup | None:
    drawn = curves.curve_charts(study.curves, 530, 300)
    if not drawn:
        return None
    return tag(
        "section",
        tag("h2", "Training"),
        _legend([curve.name for curve in study.curves], "data_curve"),
        tag("div", *(tag("figure", chart, class_="half") for chart in drawn), class_="figures"),
        id="training",
    )


def _table(study: Study) -> Markup:
    """All that was measured; what is the same in every row is said once, below."""
    keys = _columns(study.entries)
    same = [k for k in keys if _is_same(study.entries, k)]
    shown = [k for k in keys if k not in same]
    head = [_sorter("variant"), *(_sorter(metrics.metric(k).title) for k in shown)]
    body = [
        tag("tr",
            tag("th", entry.label, _remark(entry), scope="row", data_value=entry.label),
            *(_cell(entry, key) for key in shown),
            data_row=index)
        for index, entry in enumerate(study.entries)
    ]  # fmt: skip
    constant = ", ".join(
        f"{metrics.metric(k).title} {_plain(k, study.entries[0].row[k])}" for k in same
    )
    return tag(
        "section",
        tag("h2", "Everything measured"),
        tag("p", "Ratios are to the baseline, times better. A heading sorts.", class_="prose"),
        tag("div", tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body),
            class_="sortable"), class_="scroll"),
        tag("p", f"The same in every row: {constant}.", class_="prose") if constant else None,
        id="table",
    )  # fmt: skip


def _remark(entry: Entry) -> Markup | None:
    """That a row is the baseline, unless its name says so."""
    return tag("small", "baseline") if entry.is_baseline and "baseline" not in entry.label else None


def _sorter(title: str) -> Markup:
    return tag("th", tag("button", title, type="button"), scope="col", aria_sort="none")


def _columns(entries: Sequence[Entry]) -> list[str]:
    """The keys of the rows: the known ones first, then the others as they come; no spreads, no lists."""
    found = list(dict.fromkeys(key for e in entries for key in e.row))
    known = [key for key in metrics.KNOWN if key in found]
    spreads = {metrics.metric(key).std_key for key in found}
    hidden = spreads | {"name", "ratio_to", "sha256"}
    return [*known, *(
        key for key in found
        if key not in known and key not in hidden
        and any(isinstance(e.row.get(key), (str, int, float)) for e in entries)
    )]  # fmt: skip


def _is_same(entries: Sequence[Entry], key: str) -> bool:
    values = {str(e.row.get(key)) for e in entries}
    return len(entries) > 1 and len(values) == 1 and key not in (ACCURACY, *COSTS)


def _cell(entry: Entry, key: str) -> Markup:
    value = entry.row.get(key)
    if value is None or isinstance(value, (list, dict)):
        return tag("td", tag("span", "–", class_="absent"), title="not measured")
    text = metrics.metric(key).with_spread(entry.row) if metrics.is_number(value) else value
    compared = charts.gain(entry, key)
    better = "" if key == ACCURACY else " more" if (entry.ratio(key) or 0) > 1.0 else ""
    return tag(
        "td",
        text,
        tag("small", compared, class_=f"gain{better}") if compared else None,
        data_value=value,
        class_="number" if metrics.is_number(value) else "text",
    )


def _plain(key: str, value: object) -> str:
    return metrics.metric(key).text(value) if metrics.is_number(value) else str(value)


def _notes(study: Study) -> Markup | None:
    notes = list(study.notes)
    if any(len(study.groups(ACCURACY, cost)) > 1 for cost in COSTS):
        notes.append(
            "Not everything here was measured on the same device or data: each such group has its "
            "own front, and only points of one group may be compared."
        )
    if not any(metrics.is_number(e.row.get("accuracy_std")) for e in study.entries):
        notes.append(
            "Accuracies are of one seed each: there are no error bars, and small differences "
            "may be chance."
        )
    if not notes:
        return None
    return tag("section", tag("h2", "Notes"), tag("ul", *(tag("li", n) for n in notes)), id="notes")


def _how(study: Study) -> Markup:
    """What was run, where, with which versions: enough to do it again."""
    blocks = []
    for name, result in zip(study.names, study.results, strict=True):
        hardware, features = result.hardware, result.hardware.get("cpu_features", [])
        facts = {
            "command": tag("code", result.command),
            "commit": tag("code", result.commit) if result.commit else "not from a checkout",
            "date": result.date.replace("T", " ").replace("Z", " UTC"),
            "cpu": hardware["cpu"] + (f" ({', '.join(features)})" if features else ""),
            "cores": hardware["cores"],
            "memory": f"{hardware['memory_gb']} GB",
            "accelerator": hardware["accelerator"],
            "versions": ", ".join(f"{k} {v}" for k, v in result.versions.items()),
        }
        pairs = [part for k, v in facts.items() for part in (tag("dt", k), tag("dd", v))]
        blocks += [tag("h3", name) if len(study.names) > 1 else None, tag("dl", *pairs)]
    return tag("section", tag("h2", "How it was measured"), join(*blocks), id="how")


def _listed(entries: Sequence[Entry]) -> str:
    names = [entry.label for entry in entries]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
