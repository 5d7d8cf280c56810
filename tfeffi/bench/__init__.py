"""Latency: how long a .tflite takes on a device, and how often it is right.

    latency.py      benchmark() one file, compare() several interleaved: A B A B
    record.py       what they give back, and its table
    engine.py       what runs the model: a native binary, a delegate, which processors
    table.py        LatencyTable: operators, measured one by one and kept; groups.py takes them out of
                    a .tflite, one_layer.py makes one of a layer, breakdown.py holds the answers
    profile_model.py  profile() the operators of one file, against what the machine can do at best:
                    profile_runner.py measures, profile_match.py finds out which operator a kernel
                    belongs to, profile_layers.py which Keras layer, roofline.py the limits,
                    profile_advice.py what to do; profile_record.py is what it gives back
    evaluate.py     accuracy of a .tflite on images
    runner.py       the stand-alone program that does the timing, on whatever device
    devices/        where it runs; one file a device, found by name
    remote.py       what devices behind a cable or a network share: push, run, clean up
    remote_turn.py  one turn of a model there
    native.py       Google's benchmark_model: its command line; native_output.py reads what it prints
    state.py        temperature and clock of a device

Machines drift. That a file is faster than another is only claimed from `compare`.
"""

from tfeffi.bench.engine import Engine
from tfeffi.bench.evaluate import evaluate
from tfeffi.bench.latency import Comparison, Latency, benchmark, compare
from tfeffi.bench.profile_model import profile
from tfeffi.bench.profile_record import Profile

__all__ = [
    "Comparison",
    "Engine",
    "Latency",
    "LatencyTable",
    "Profile",
    "benchmark",
    "compare",
    "evaluate",
    "profile",
]


def __getattr__(name: str):  # a table exports layers, and TensorFlow takes seconds to load
    if name != "LatencyTable":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tfeffi.bench.table import LatencyTable

    return LatencyTable
