"""Latency: how long a .tflite takes on a device, and how often it is right.

    latency.py      benchmark() one file, compare() several interleaved: A B A B
    evaluate.py     accuracy of a .tflite on images
    runner.py       the stand-alone program that does the timing, on whatever device
    devices/        where it runs; one file a device, found by name

Machines drift. That a file is faster than another is only claimed from `compare`.
"""

from tfeffi.bench.evaluate import evaluate
from tfeffi.bench.latency import Comparison, Latency, benchmark, compare

__all__ = ["Comparison", "Latency", "benchmark", "compare", "evaluate"]
