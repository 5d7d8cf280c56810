"""The frame of an experiment's own picture: one style, a file that is whole or absent."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from tfeffi import files
from tfeffi.study.figure import DPI

COLOURS = ("#0b62d6", "#c4500c", "#138a5b", "#8250df", "#bf2f78", "#0b7d8c", "#8a6300")
SOFT = "#57606a"
_STYLE = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.edgecolor": "#d8dee4", "axes.grid": True,
    "grid.color": "#e6eaee", "grid.linewidth": 0.8, "axes.axisbelow": True, "axes.labelcolor": SOFT,
    "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False, "xtick.color": SOFT,
    "ytick.color": SOFT, "legend.frameon": False, "lines.markersize": 4, "svg.hashsalt": "",
}  # fmt: skip


@contextlib.contextmanager
def figure(path: str | os.PathLike, size: tuple[float, float]) -> Iterator:
    """Yields a matplotlib Figure, and writes it when all is drawn.

    Args:
        path: of the picture; its suffix is the format.
        size: inches.

    Example:
        with figure("docs/x.png", (9, 4)) as drawn:
            drawn.subplots().plot([1, 2])
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        made = Figure(figsize=size, dpi=DPI)
        FigureCanvasAgg(made)
        yield made
        made.tight_layout(w_pad=2.0, h_pad=1.5)
        with files.replacing(pathlib.Path(path)) as temporary:
            made.savefig(temporary, dpi=DPI)


def mark(panel, x: float, text: str, colour: str = SOFT, height: float = 0.04) -> None:
    """A dashed vertical line with a word beside it, towards the middle of what was drawn so far.

    Args:
        panel: the axes.
        x: where.
        text: beside the line.
        height: of the word, as a fraction of the panel's.
    """
    left, right = panel.get_xlim()
    is_right = x > (left + right) / 2
    panel.axvline(x, color=colour, linewidth=1, linestyle="--")
    panel.annotate(
        text, (x, height), xycoords=("data", "axes fraction"), xytext=(-3 if is_right else 3, 0),
        textcoords="offset points", color=colour, fontsize=7.5, ha="right" if is_right else "left",
    )  # fmt: skip
