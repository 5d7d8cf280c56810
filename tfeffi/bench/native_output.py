"""What Google's native `benchmark_model` prints, from its builds of 2019 until LiteRT's own.

Lines begin with nothing, "INFO: ", "INFO: [file:line] " or a logcat prefix, so that they are searched
and never matched from their start. Times are in microseconds ("Inference timings in us: ...", and the
statistics of the runs) or carry their unit ("Inference (avg): 0.95 ms").
"""

import dataclasses
import decimal
import math
import re

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_STATISTICS = re.compile(rf"^(?!.*Timings \(micro).*?\bcount=(\d+)((?: \w+={_NUMBER})+)")
_PAIR = re.compile(rf"\b(first|curr|min|max|avg|std|median)=({_NUMBER})")
_TIMINGS = re.compile(r"[Ii]nference timings in (us|ms): (.*)$")
_PHASE = re.compile(
    r"\b(Init|First inference|Warmup \(avg\)|Inference \(avg\)|Warmup|Inference|no stats): "
    rf"({_NUMBER})"
)
_RESULT = re.compile(
    r"\b(Model initialization|Warmup \(first\)|Inference \((?:avg|min|max|median)\)):"
    rf"\s+({_NUMBER}) (us|ms|s)\b(?: \((\d+) runs\))?"
)
_UNCONSUMED = re.compile(r"Unconsumed cmdline flags: (.+?)\s*$")
_APPLIED = re.compile(
    r"\bapplied (\w+) delegate, and the model graph will be (completely|partially)", re.I
)
_REPLACED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \(([^)]*)\)")
_UNDONE = re.compile(  # what was said before holds no longer
    r"(?<!XNNPACK )\bdelegate is explicitly applied, the model graph will not be executed"
    r"|Restored original execution plan",
    re.I,
)
_OWN = re.compile("xnnpack|flex", re.I)
_DELTA = re.compile(rf"Memory footprint delta .*\boverall=({_NUMBER})")
_OVERALL = re.compile(rf"Overall footprint:\s+({_NUMBER}) MB")
_PEAK = re.compile(
    rf"(?:Overall peak memory footprint \(MB\) via periodic monitoring|Peak memory):\s+({_NUMBER})"
)
_ERROR = re.compile(r"\bERROR: (.+)$")
_GENERIC = ("Benchmarking failed", "Failed to load model", "The model allocation is null")

_PER_MS = {"us": 1e3, "ms": 1.0, "s": 1e-3}
_COARSE = 0.02  # a step of the printed number that is a larger share of it says little
_KEYS = {  # of the statistics
    "avg": "mean_ms", "min": "min_ms", "max": "max_ms", "std": "std_ms", "median": "p50_ms",
}  # fmt: skip
_RESULTS = {
    "Model initialization": "init_ms", "Warmup (first)": "first_ms", "Inference (avg)": "mean_ms",
    "Inference (min)": "min_ms", "Inference (max)": "max_ms", "Inference (median)": "p50_ms",
}  # fmt: skip
_PHASES = {
    "Init": "init_ms", "First inference": "first_ms", "Inference (avg)": "mean_ms",
    "Inference": "mean_ms", "no stats": "mean_ms",
}  # fmt: skip

_TABLE = re.compile(
    rf"^\s*(\S.*?)\s*\t\s*({_NUMBER})\t\s*({_NUMBER})\t\s*{_NUMBER}%\t\s*{_NUMBER}%\t"
    rf"\s*{_NUMBER}\t\s*(\d+)\t(.*)$"
)
_CSV = re.compile(
    rf"^(.+), ({_NUMBER}), ({_NUMBER}), {_NUMBER}%, {_NUMBER}%, {_NUMBER}, (\d+), (.*)$"
)


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a profile: its kind, its mean time a run in ms, how often a run calls it."""

    kind: str
    name: str
    ms: float
    calls: int


def timings(text: str) -> dict:
    """The times and the memory that it tells; what it does not tell is absent.

    Args:
        text: its standard output and error, or a logcat of it.

    Returns:
        Of "runs", "warmup_runs", "p50_ms", "mean_ms", "std_ms", "min_ms", "max_ms", "first_ms",
        "init_ms", "peak_kb" and "model_kb" (what the process grew by) those that are there. The finest
        of several sources of a time counts; a median that is rounded coarsely is absent beside a mean
        that is not. "step_ms" is there if what is left is coarse: 0.01 if 0.04 may be 0.0351 or 0.0449.

    Example:
        timings("count=2 avg=360.5 median=360")  # {"runs": 2, "mean_ms": 0.3605, "p50_ms": 0.36}
    """
    told, counts, statistics = {}, {}, []  # told: the printed number, and how many units a ms has
    for line in text.splitlines():
        for label, number, unit, runs in _RESULT.findall(line):
            told[_RESULTS[label]] = number, _PER_MS[unit]
            if runs and label == "Inference (avg)":
                counts["runs"] = int(runs)
        if match := _STATISTICS.search(line):
            statistics.append((int(match[1]), _statistics(match[2])))
    for line in text.splitlines():
        if match := _TIMINGS.search(line):
            phases = _PHASE.findall(match[2])
            told |= {_PHASES[k]: (v, _PER_MS[match[1]]) for k, v in phases if k in _PHASES}
    if len(statistics) > 1:  # the first are those of the warm-up
        counts["warmup_runs"], warmup = statistics[0]
        if "first_ms" in warmup:
            told["first_ms"] = warmup["first_ms"]
    if statistics:
        counts["runs"], last = statistics[-1]
        told |= {k: v for k, v in last.items() if k != "first_ms"}
    return {**counts, **_in_ms(told), **_memory(text)}


def _statistics(rest: str) -> dict[str, tuple[str, float]]:
    """Of "first=3231 curr=1876 min=1683 ..." in microseconds; a single run has only "curr"."""
    values = dict(_PAIR.findall(rest))
    if "avg" not in values and "curr" in values:
        values |= dict.fromkeys(("avg", "min", "max", "first"), values["curr"])
    keys = {**_KEYS, "first": "first_ms"}
    return {key: (values[name], _PER_MS["us"]) for name, key in keys.items() if name in values}


def _in_ms(told: dict[str, tuple[str, float]]) -> dict[str, float]:
    """The printed numbers in ms, and "step_ms" if the middle one is coarse."""
    found = {key: float(number) / per for key, (number, per) in told.items()}
    steps = {
        key: 10.0 ** decimal.Decimal(number).as_tuple().exponent / per
        for key, (number, per) in told.items()
    }
    coarse = {key for key in found if steps[key] > _COARSE * found[key]}
    if "p50_ms" in coarse and steps.get("mean_ms", math.inf) < steps["p50_ms"]:
        del found["p50_ms"]
    middle = "p50_ms" if "p50_ms" in found else "mean_ms"
    return found | ({"step_ms": steps[middle]} if middle in coarse else {})


def _memory(text: str) -> dict:
    """Where the tool cannot tell, it prints nothing, or a number that is not above 0."""
    found = {}
    for key, patterns in (("model_kb", (_DELTA, _OVERALL)), ("peak_kb", (_PEAK,))):
        for pattern in patterns:
            if (match := pattern.search(text)) and float(match[1]) > 0:
                found[key] = float(match[1]) * 1024
    return found


def unconsumed(text: str) -> str | None:
    """The flags that it did not know and went on without; it exits with 0 all the same."""
    found = (_UNCONSUMED.search(line) for line in text.splitlines())
    return next((match[1] for match in found if match), None)


def delegated(text: str) -> str | None:
    """How much of the graph the delegate took: "completely", "partially", or None.

    XNNPACK and Flex are not meant, which the engine takes by itself.
    """
    if _UNDONE.search(text):
        return None
    for name, how in _APPLIED.findall(text):
        if name.upper() != "XNNPACK":
            return how.lower()
    replaced = [(n, m) for n, m, name in _REPLACED.findall(text) if not _OWN.search(name)]
    taken = [(int(n), int(m)) for n, m in replaced if int(n)]
    if not taken:
        return None
    return "completely" if all(n == m for n, m in taken) else "partially"


def error(text: str) -> str | None:
    """The line that says most about what went wrong."""
    lines = [match[1].strip() for line in text.splitlines() if (match := _ERROR.search(line))]
    telling = [line for line in lines if not line.startswith(_GENERIC)]
    return next(iter(telling or lines), None)


def _operator(line: str) -> re.Match | None:
    return _TABLE.search(line) or _CSV.search(line)


def operators(text: str) -> tuple[Operator, ...]:
    """The profile of the timed runs in the order of the graph, from the printed table or the CSV.

    The summary by time and that of the initialization, which print the same lines, are left out.
    """
    rows, section, regular = [], "", "Profiling Info for" not in text
    for line in text.splitlines():
        if "Profiling Info for" in line:
            regular = "Regular Benchmark Runs" in line
        elif "====" in line and "BENCHMARK" not in line:
            section = line.strip(" =")
        elif match := regular and section == "Run Order" and _operator(line):
            kind, _, ms, calls, name = match.groups()
            rows.append(Operator(kind.strip(), name.strip(), float(ms), int(calls)))
    return tuple(rows)
