"""The part of a report that says why files are slow: a roofline each, and the worst operators."""

import base64
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from tfeffi.errors import BadInput
from tfeffi.study import metrics, roofline_picture
from tfeffi.study.markup import Markup, tag
from tfeffi.study.runs import Study

_HEADINGS = ("layer", "operator", "above the roofline", "what to do")


def section(study: Study) -> Markup | None:
    """The section; None where no run has a profile."""
    if not study.profiles:
        return None
    parts = [part for name, record in study.profiles for part in _profile(name, record)]
    return tag("section", tag("h2", "Why is it slow?"), *parts, id="profiles")


def _profile(name: str, record: Mapping[str, Any]) -> list[Markup]:
    model = pathlib.Path(record["model"]).name
    body = [
        tag("tr",
            tag("th", ", ".join(row["layers"]) or "-", scope="row"),
            tag("td", row["operator"], class_="text"),
            tag("td", metrics.write(row["lost_ms"], "us", 1), class_="number"),
            tag("td", "; ".join(row["advice"]), class_="text"))
        for row in record["worst"]
    ]  # fmt: skip
    head = tag("tr", *(tag("th", heading, scope="col") for heading in _HEADINGS))
    return [
        tag("h3", f"{name}: {model}, {metrics.write(record['ms'], 'ms')} an inference"),
        _picture(record, f"The roofline of this machine and the operators of {model}"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll"),
    ]


def _picture(record: Mapping[str, Any], alt: str) -> Markup:
    """The picture inside the page, which loads nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "roofline.svg")
        try:
            roofline_picture.draw(record, path)
        except BadInput as error:
            return tag("p", str(error), class_="prose")
        content = base64.b64encode(path.read_bytes()).decode()
    picture = tag("img", src=f"data:image/svg+xml;base64,{content}", alt=alt, style="width:100%")
    return tag("figure", picture, class_="wide")
