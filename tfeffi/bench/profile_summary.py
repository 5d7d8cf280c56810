"""The text in which LiteRT sums up a profile, as rows.

LiteRT's own tools print it too, on phones as well. Kernels of two parts of a model that stand at the same
place in their part are one row in it, so that the times of `profile` come from single events; the
sum must be the same.
"""

import dataclasses
import re

from tfeffi.errors import BadInput

_ROW = re.compile(
    r"^\s*(?P<kind>\S.*?)\s+(?P<start>[\d.]+)\s+(?P<first>[\d.]+)\s+(?P<mean>[\d.]+)\s+[\d.]+%\s+[\d.]+%"
    r"\s+[\d.]+\s+(?P<runs>\d+)\s+\[(?P<part>\w+)\]:(?P<index>\d+)\s*$"
)
_SUM = re.compile(r"^Timings \(microseconds\): count=(\d+).*? curr=(\d+)", re.MULTILINE)
_DELEGATE = "Delegate/"


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """One kernel.

    Attributes:
        name: "Convolution (NHWC, QC8) IGEMM", or "CUMSUM" of a builtin one.
        builtin: whether LiteRT ran it itself.
        index: of the operator, or of the kernel in its delegate.
        ms: mean of its times, to the microsecond.
        runs: how many they are.
    """

    name: str
    builtin: bool
    index: int
    ms: float
    runs: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """A whole text: its rows in the order in which they ran, and the microseconds of all runs."""

    rows: tuple[SummaryRow, ...]
    total_us: int


def parse(text: str) -> Summary:
    """Reads a summary.

    Args:
        text: what LiteRT printed; lines before and after it do no harm.

    Raises:
        BadInput: there is no such summary in it.

    Example:
        parse(pathlib.Path("profile.txt").read_text()).rows[0].ms
    """
    found = _SUM.search(text)
    _, _, rest = text.partition(" Run Order ")
    part, _, _ = rest.partition(" Top by Computation Time ")
    rows = tuple(
        SummaryRow(
            name=match["kind"].removeprefix(_DELEGATE),
            builtin=not match["kind"].startswith(_DELEGATE),
            index=int(match["index"]),
            ms=float(match["mean"]),
            runs=int(match["runs"]),
        )
        for line in part.splitlines()
        if (match := _ROW.match(line))
    )
    if not rows or not found or int(found[1]) != len(rows):
        raise BadInput("this is no whole profile of LiteRT; it begins with Run Order")
    return Summary(rows, int(found[2]))
