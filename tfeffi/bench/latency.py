"""benchmark(): the latency of one .tflite. compare(): of several, interleaved, with ratios.

One round is one process: it opens the model, warms up, then times single inferences until both
`min_runs` and `min_seconds` are reached. What a process start changes (where memory falls, which core)
is part of a phone's life too, so `compare` starts a new one each round.
"""

import contextlib
import math
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence

from tfeffi.bench import devices
from tfeffi.bench.engine import Engine, check_numbers
from tfeffi.bench.record import Comparison, Latency
from tfeffi.errors import BadInput, near
from tfeffi.export import flatbuffer
from tfeffi.export.flatbuffer import ModelError

_MEGABYTE = 1024.0
_MEDIANS = ("p50_ms", "p90_ms", "mean_ms", "std_ms", "first_ms", "init_ms")
_STATES = ("temperature_c", "frequency_mhz")


def benchmark(
    path: str | os.PathLike,
    *,
    device: str = "host",
    threads: int = 1,
    warmup_runs: int = 10,
    min_runs: int = 200,
    min_seconds: float = 1.0,
    input_shapes: Sequence[Sequence[int]] | None = None,
    timeout: float = 600.0,
    engine: Engine | None = None,
) -> Latency:
    """Measures the latency of a .tflite at batch 1.

    Args:
        path: the file.
        device: where: "host", "adb", "adb:SERIAL", "ssh:HOST", "ssh:USER@HOST", "ssh:HOST:PORT".
        threads: of the engine.
        warmup_runs: inferences before the timed ones, at least the first one.
        min_runs, min_seconds: single inferences are timed until both are reached.
        input_shapes: one shape an input, where the model leaves it open. An open batch is 1.
        timeout: seconds until a process is given up.
        engine: what runs it: a native binary, a delegate, which processors; default LiteRT in Python.

    Returns:
        Percentiles, file sizes, memory and what ran it.

    Raises:
        ModelError: the file is missing, damaged, or cannot be run; a model that aborts the engine is
            reported, not followed.
        DeviceError: the device cannot be reached, goes away, is full, or lacks what is needed.
        BadInput: an argument is out of range, or there is no such device.

    Example:
        benchmark("m.tflite").p50_ms
    """
    return compare(
        [path], device=device, threads=threads, warmup_runs=warmup_runs, min_runs=min_runs,
        min_seconds=min_seconds, rounds=1, input_shapes=input_shapes, timeout=timeout, engine=engine,
    ).rows[0]  # fmt: skip


def compare(
    paths: Sequence[str | os.PathLike],
    *,
    device: str | Sequence[str] = "host",
    threads: int = 1,
    rounds: int = 5,
    warmup_runs: int = 10,
    min_runs: int = 200,
    min_seconds: float = 1.0,
    cooldown_seconds: float = 0.0,
    input_shapes: Sequence[Sequence[int]] | None = None,
    timeout: float = 600.0,
    engine: Engine | Mapping[str, Engine] | None = None,
) -> Comparison:
    """Measures several .tflite files in one run, interleaved: A B A B.

    Args:
        paths: the files; ratios are to the first.
        device: as for `benchmark`, or several, which are measured one after the other.
        rounds: how often each file has its turn, each time in a new process. `min_runs` and
            `min_seconds` are for all rounds of a file together.
        cooldown_seconds: the device rests so long between two turns.
        threads, warmup_runs, min_runs, min_seconds, input_shapes, timeout: as for `benchmark`.
        engine: as for `benchmark`, of all devices; or {device: engine}, where devices that are not
            named have the default.

    Returns:
        One row a file and device. Percentiles and times are medians over the rounds; `std_ms` is the
        median of the rounds' standard deviations.

    Raises:
        ModelError, DeviceError, BadInput: as for `benchmark`.

    Example:
        small = compare(["float32.tflite", "int8.tflite"]).rows[1]
        small.ratio  # 0.25: four times as fast
    """
    paths = [os.fspath(path) for path in paths]
    names = [device] if isinstance(device, str) else list(device)
    if not paths:
        raise BadInput("there is no model to benchmark")
    if not names or len(set(names)) < len(names):
        raise BadInput(f"devices {names or 'none'}: name at least one, and each once")
    check_numbers(
        timeout, threads=threads, rounds=rounds, warmup_runs=warmup_runs, min_runs=min_runs,
        min_seconds=min_seconds, cooldown_seconds=cooldown_seconds,
    )  # fmt: skip
    for name in names:
        devices.find(name)
    engines = _engines(engine, names)
    contents = [flatbuffer.inspect(path) for path in paths]
    request = {
        "threads": threads, "warmup_runs": warmup_runs, "min_runs": -(-min_runs // rounds),
        "min_seconds": min_seconds / rounds, "shapes": input_shapes and [[*s] for s in input_shapes],
    }  # fmt: skip
    requests = [{**request, **one.request()} for one in engines]
    rows = []
    with contextlib.ExitStack() as stack:  # all there before the first is kept busy for minutes
        opened = [
            stack.enter_context(devices.opened(name, one.folder))
            for name, one in zip(names, engines, strict=True)
        ]
        answered = [
            interleaved(
                lambda path, measure=measure, asked=asked: measure(path, asked, timeout), paths, rounds,
                cooldown_seconds,
            )
            for (_, measure), asked in zip(opened, requests, strict=True)
        ]  # fmt: skip
    for (full_name, _), one, answers in zip(opened, engines, answered, strict=True):
        for path, measured in zip(paths, answers, strict=True):
            _check_steps(path, full_name, measured, len(paths) > 1 and measured is answers[0])
        for path, content, measured in zip(paths, contents, answers, strict=True):
            row = _summary(measured, warmup_runs)
            if len(paths) > 1:
                row |= _ratios(measured, answers[0]) | {"ratio_to": paths[0]}
            rows.append(
                Latency(
                    model=path, device=full_name, threads=threads, rounds=rounds,
                    bytes=os.path.getsize(path), zip_bytes=flatbuffer.zip_bytes(path),
                    activation_bytes=content.activation_bytes, cpu_affinity=one.cpu_affinity, **row,
                )
            )  # fmt: skip
    return Comparison(tuple(rows))


def _engines(engine: Engine | Mapping[str, Engine] | None, names: Sequence[str]) -> list[Engine]:
    """The engine of each device."""
    if isinstance(engine, Mapping):
        for name in engine:
            if name not in names:
                raise BadInput(
                    f'engine of device "{name}", which is not measured; {near(name, names)}'
                )
        engines = [engine.get(name) or Engine() for name in names]
    else:
        engines = [engine or Engine()] * len(names)
    for key in ("python", "folder"):
        if set(names) == {"host"} and getattr(engines[0], key):
            raise BadInput(f"device_{key} is for devices that are not the host; leave it out")
    return engines


def interleaved(
    measure: Callable, paths: Sequence, rounds: int, cooldown_seconds: float = 0.0
) -> list[list]:
    """What `measure(path)` says in each round, for each path; the order is A B A B.

    Drift of the machine then meets all paths alike, and neighbours in time are what a ratio is of.
    """
    answers: list[list] = [[] for _ in paths]
    for turn in range(rounds * len(paths)):
        if turn and cooldown_seconds:
            time.sleep(cooldown_seconds)
        place = turn % len(paths)
        answers[place].append(measure(paths[place]))
    return answers


def _summary(measured: list[dict], warmup_runs: int) -> dict:
    """The rounds of a file as one row; what one of them does not tell is absent."""

    def told(key):
        return all(key in answer for answer in measured)

    def middle(key):
        return statistics.median(answer[key] for answer in measured)

    row = {key: middle(key) for key in _MEDIANS if told(key)}
    row |= {
        "runs": sum(answer["runs"] for answer in measured),
        "warmup_runs": measured[0].get("warmup_runs", warmup_runs),
    }
    row |= {
        key: of(answer[key] for answer in measured)
        for key, of in (("min_ms", min), ("max_ms", max))
        if told(key)
    }
    known = ("engine", "cpu", "machine", "cores", "operators")
    row |= {key: measured[0][key] for key in known if told(key)}
    if told("delegated"):
        how = {answer["delegated"] for answer in measured}
        row["delegated"] = how.pop() if len(how) == 1 else "partially"
    for key, name in (("peak_kb", "peak_memory_mb"), ("model_kb", "model_memory_mb")):
        if told(key):
            row[name] = middle(key) / _MEGABYTE
    for key in _STATES:
        for when, answer in (("before", measured[0]), ("after", measured[-1])):
            if f"{key}_{when}" in answer:
                row[f"{key}_{when}"] = answer[f"{key}_{when}"]
    return row


def _check_steps(path: str, device: str, measured: list[dict], is_first: bool) -> None:
    """A warning for a program that tells times too roughly, ModelError for a first one of 0."""
    middle = min(answer.get("p50_ms", answer.get("mean_ms", math.inf)) for answer in measured)
    if is_first and middle <= 0:
        raise ModelError(
            f'"{path}" takes less time on {device} than its program can tell, so that nothing can be '
            "held against it; put another file first, or measure with LiteRT in Python"
        )
    if steps := [answer["step_ms"] for answer in measured if "step_ms" in answer]:
        warnings.warn(
            f'times of "{path}" on {device} come in steps of {max(steps):g} ms, its own is '
            f"{middle:g} ms: ratios are no finer",
            stacklevel=3,
        )


def _ratios(measured: list[dict], first: list[dict]) -> dict:
    key = "p50_ms" if all("p50_ms" in answer for answer in (*measured, *first)) else "mean_ms"
    ratios = [a[key] / b[key] for a, b in zip(measured, first, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }
