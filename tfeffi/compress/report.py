"""What a compression did: costs before and after, every layer changed, every layer left and why."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Change:
    """One layer that was changed.

    Attributes:
        layer: the name of the layer in the original model.
        before: what it was: a number of channels, or a few words ("3×3, 64→128").
        after: what it is now, in the same terms.
    """

    layer: str
    before: int | str
    after: int | str


@dataclasses.dataclass(frozen=True)
class Skipped:
    """One layer that was left alone, and the reason."""

    layer: str
    why: str


@dataclasses.dataclass(frozen=True)
class Report:
    """The account of one compression.

    Attributes:
        method: "prune", "factorize", "separable", ...
        before: `tfeffi.cost` of the original model.
        after: `tfeffi.cost` of the result.
        changed: the layers changed, in the order of the model.
        skipped: the layers that the method could have met but left alone.
        settings: the arguments of the call and what was chosen from them; JSON values.
        measured: of what is shipped, if the budget asked for it: "file_bytes_before" and
            "file_bytes_after", or "latency_ms_before", "latency_ms_after", "ratio" (after over
            before, interleaved), "ratio_low", "ratio_high", "device", "threads", "cpu", "engine".
        note: what a user must know that the figures do not say; empty where there is nothing.
    """

    method: str
    before: Any
    after: Any
    changed: tuple[Change, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; of the costs the totals, not the layers."""
        return {
            "method": self.method,
            "before": _totals(self.before),
            "after": _totals(self.after),
            "changed": [dataclasses.asdict(change) for change in self.changed],
            "skipped": [dataclasses.asdict(skipped) for skipped in self.skipped],
            "settings": self.settings,
            **({"measured": self.measured} if self.measured else {}),
            **({"note": self.note} if self.note else {}),
        }

    def table(self) -> str:
        """The report as plain text: the costs and their ratios, then the layers."""
        blocks = [self._costs(), *self._speed()]
        if self.changed:
            rows = [(c.layer, str(c.before), str(c.after)) for c in self.changed]
            blocks.append(_columns([("changed", "before", "after"), *rows]))
        else:
            blocks.append("nothing changed")
        if self.skipped:
            blocks.append(_columns([("left alone", "why"), *_by_reason(self.skipped)]))
        if self.note:
            blocks.append(self.note)
        return "\n\n".join(blocks)

    def _costs(self) -> str:
        rows = [(self.method, "before", "after", "ratio")]
        before, after = _totals(self.before), _totals(self.after)
        for kind, title in (("macs", "MACs"), ("params", "parameters"), ("bytes", "bytes")):
            ratio = f"{before[kind] / after[kind]:.2f}×" if after[kind] else "-"
            rows.append((title, f"{before[kind]:,}", f"{after[kind]:,}", ratio))
        found = self.measured
        if "file_bytes_after" in found:
            sizes = found["file_bytes_before"], found["file_bytes_after"]
            rows.append(("file bytes", *(f"{b:,}" for b in sizes), f"{sizes[0] / sizes[1]:.2f}×"))
        if "latency_ms_after" in found:
            times = found["latency_ms_before"], found["latency_ms_after"]
            rows.append(("latency, ms", *(f"{t:.4g}" for t in times), f"{1 / found['ratio']:.2f}×"))
        return _columns(rows, right=(1, 2, 3))

    def _speed(self) -> list[str]:
        """What a measured latency means, and where it was measured; nothing if there is none."""
        found = self.measured
        if "ratio" not in found:
            return []
        said = f"{1 / found['ratio']:.2f}× as fast" if found["ratio_high"] < 1 else "not faster"
        if said == "not faster" and found["ratio"] < 1:
            said = "not faster in every round"
        low, high = 1 / found["ratio_high"], 1 / found["ratio_low"]
        where = f"{found['device']}, {found['threads']} thread{'s' * (found['threads'] > 1)}"
        return [f"{said} ({low:.2f} to {high:.2f} in single rounds): {where}, {found['cpu']}"]


def _totals(cost) -> dict[str, int]:
    return {"macs": int(cost.macs), "params": int(cost.params), "bytes": int(cost.bytes)}


def _by_reason(skipped: tuple[Skipped, ...]) -> list[tuple[str, str]]:
    """One row a reason: a MobileNet leaves dozens of layers for the same one."""
    names: dict[str, list[str]] = {}
    for one in skipped:
        names.setdefault(one.why, []).append(one.layer)
    return [(_named(layers), why) for why, layers in names.items()]


def _named(layers: list[str]) -> str:
    return layers[0] if len(layers) == 1 else f"{layers[0]} and {len(layers) - 1} more"


def _columns(rows: list[tuple[str, ...]], right: tuple[int, ...] = ()) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
