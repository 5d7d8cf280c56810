"""profile(): how long each operator of a .tflite takes, where it came from, and what it could take."""

import os
import pathlib
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

from tfeffi.bench import profile_layers, profile_match, profile_summary, roofline
from tfeffi.bench.engine import check_numbers
from tfeffi.bench.profile_record import Profile, Row
from tfeffi.errors import BadInput
from tfeffi.export import flatbuffer, litert, operators
from tfeffi.export.flatbuffer import ModelError

_RUNNER = pathlib.Path(__file__).with_name("profile_runner.py")
_BUILTIN = 1 << 1  # the kind of event of a builtin kernel
_INTEGER_KERNELS = ("QC8", "QS8", "QU8", "QD8", "QDU8", "QP8")


def profile(
    path: str | os.PathLike,
    model: Any = None,
    threads: int = 1,
    *,
    warmup_runs: int = 10,
    min_runs: int = 100,
    min_seconds: float = 1.0,
    input_shapes: Sequence[Sequence[int]] | None = None,
    timeout: float = 600.0,
) -> Profile:
    """Measures every operator of a .tflite on this machine, at batch 1, and what the machine can do.

    It runs in a process of its own, by LiteRT's own profiler, whose clock has whole microseconds.

    Args:
        path: the file.
        model: the Keras model it was made from, or the path of its .keras file: operators are named
            after its layers. Without it, after whatever the names in the file say.
        threads: of the engine.
        warmup_runs: inferences before the timed ones.
        min_runs, min_seconds: inferences are timed until both are reached.
        input_shapes: one shape an input, where the model leaves it open. An open batch is 1.
        timeout: seconds until the process is given up.

    Returns:
        A row for each operator that has kernels, in the order in which they run.

    Raises:
        ModelError: the file is missing, damaged, or cannot be run; or this version of LiteRT is not
            known to the profiler.
        BadInput: an argument is out of range, or the model has no layer that the file names.

    Example:
        print(profile("m.tflite", "m.keras").table())
    """
    check_numbers(
        timeout,
        threads=threads,
        warmup_runs=warmup_runs,
        min_runs=min_runs,
        min_seconds=min_seconds,
    )
    flatbuffer.inspect(path)
    known = None if model is None else _layers(model)
    with tempfile.TemporaryDirectory() as folder:
        request = {
            "model": os.path.abspath(path), "threads": threads, "warmup_runs": warmup_runs,
            "min_runs": min_runs, "min_seconds": min_seconds,
            "shapes": input_shapes and [[*shape] for shape in input_shapes],
            "references": roofline.write_files(folder),
        }  # fmt: skip
        answer = litert.call(_RUNNER, request, path, timeout)
    _check_sum(path, answer)
    shapes = {int(number): shape for number, shape in answer["shapes"].items()}
    found = profile_of(answer, operators.read(path, shapes), os.fspath(path), threads, known)
    if known is not None and not any(row.layers for row in found.rows):
        raise BadInput(
            f'"{path}" names no layer of the Keras model; give the one it was made from, and a file that '
            "is not compact"
        )
    return found


def profile_of(
    answer: dict, found: Sequence[operators.Operator], path: str, threads: int, known=None
) -> Profile:
    """The record of what the runner measured.

    Args:
        answer: of profile_runner.py.
        found: the operators of the file.
        path, threads: what was measured, and how.
        known: the layers of the Keras model, if there is one.
    """
    kernels = [
        profile_match.Kernel(name, kind == _BUILTIN, index if graph == 0 else None)
        for name, kind, index, graph in answer["events"]
    ]
    machine = roofline.machine(answer["fastest_ms"], threads)
    times = list(zip(*answer["us"], strict=True))  # for each kernel, one a run
    rows, at = [], {}
    for number, owner in enumerate(profile_match.match(kernels, found)):
        if owner is not None and owner in at:
            at[owner].append(number)
        else:
            rows.append(group := [number])
            if owner is not None:
                at[owner] = group
    owners = {id(group): found[owner] for owner, group in at.items()}
    sums = [_sums(group, times) for group in rows]
    total = sum(midmean(one) for one in sums)
    return Profile(
        model=path,
        threads=threads,
        rows=tuple(
            _row([kernels[n] for n in group], one, total, owners.get(id(group)), machine, known)
            for group, one in zip(rows, sums, strict=True)
        ),
        folded=tuple(
            (one.kind, profile_layers.layers_of(one.names, known))
            for one in found
            if one.index not in at and not one.is_constant
        ),
        ms=statistics.median(answer["invoke_us"]) / 1e3,
        runs=len(answer["us"]),
        machine=machine,
        engine=answer["engine"],
        cpu=answer["cpu"],
    )


def _sums(group: Sequence[int], times: Sequence[Sequence[int]]) -> list[float]:
    """The milliseconds of some kernels together, one a run."""
    return [sum(one) / 1e3 for one in zip(*(times[number] for number in group), strict=True)]


def _row(kernels, sums, total, operator, machine, known) -> Row:
    names = tuple(kernel.name for kernel in kernels)
    dtype = operator.dtype if operator else "float32"
    if any(word in name for word in _INTEGER_KERNELS for name in names):
        dtype = "int8"  # it multiplies integers, whatever it reads and writes
    work = (operator.macs, operator.bytes, dtype) if operator else None
    return Row(
        kernels=names,
        operator=operator,
        layers=profile_layers.layers_of(operator.names, known) if operator else (),
        ran="builtin" if kernels[0].builtin else "XNNPACK",
        dtype=dtype,
        ms=midmean(sums),
        mean_ms=statistics.fmean(sums),
        share=midmean(sums) / total if total else 0.0,
        least_ms=machine.least_ms(*work) if work else None,
        bound=machine.bound(*work) if work else None,
    )


def midmean(values: Sequence[float]) -> float:
    """The mean of the middle half: robust as a median is, and finer than the clock of the values."""
    ordered = sorted(values)
    cut = len(ordered) // 4
    return statistics.fmean(ordered[cut : len(ordered) - cut])


def _check_sum(path, answer: dict) -> None:
    """Single events are read from memory as a structure; LiteRT's own sum shows that it is right."""
    if profile_summary.parse(answer["summary"]).total_us != answer["summary_us"]:
        raise ModelError(
            f'"{path}": the times of single operators do not add up to the sum that {answer["engine"]} '
            "gives; its C API has changed"
        )


def _layers(model: Any) -> frozenset[str]:
    """The layers of a Keras model, nested ones with their path."""
    if isinstance(model, (str, os.PathLike)):
        from tfeffi.models import saved

        model = saved.load(model)
    from tfeffi.analysis.cost import cost

    return frozenset(layer.name for layer in cost(model).layers)
