"""What this machine can do at best, measured in LiteRT: its roofline (Williams et al. 2009).

An operator of M multiply-adds that moves B bytes takes at least the larger of M / peak and B / bandwidth.
The peak is that of the fastest large convolution. The bandwidth is that of reading arrays and
writing others, for several sizes: what fits into a cache is faster. A bound like this is optimistic on
purpose: that weights are packed, tensors padded or read twice is what makes up the difference.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

from tfeffi.bench import roofline_files
from tfeffi.errors import BadInput

# Channels, kernel and image of the convolutions; one of them is about the fastest on any machine.
CONVOLUTIONS = ((64, 3, 56), (128, 3, 28), (256, 1, 28), (128, 1, 56))
COPIES = (1 << 16, 1 << 19, 1 << 22, 1 << 25)  # bytes that one operator moves
OPERATORS = 8  # of a file of copies


@dataclasses.dataclass(frozen=True)
class Machine:
    """The limits of a machine.

    Attributes:
        threads: with so many.
        macs_per_second: the best, by the type of the activations.
        bytes_per_second: the best, by how many bytes an operator moves; falls with them.
    """

    threads: int
    macs_per_second: dict[str, float]
    bytes_per_second: dict[int, float]

    def peak(self, dtype: str) -> float:
        """Multiply-adds a second; integers count as int8, everything else as float32."""
        return self.macs_per_second["int8" if "int" in dtype else "float32"]

    def bandwidth(self, moved: float) -> float:
        """Bytes a second of an operator that moves so many."""
        sizes = [size for size in self.bytes_per_second if size <= moved]
        return self.bytes_per_second[max(sizes, default=min(self.bytes_per_second))]

    def least_ms(self, macs: int, moved: int, dtype: str) -> float:
        """The least milliseconds of so many multiply-adds and bytes."""
        return 1e3 * max(macs / self.peak(dtype), moved / self.bandwidth(moved))

    def bound(self, macs: int, moved: int, dtype: str) -> str:
        """What limits it: "compute" or "memory"."""
        compute = macs / self.peak(dtype) > moved / self.bandwidth(moved)
        return "compute" if compute else "memory"

    def attainable(self, intensity: float, moved: int, dtype: str) -> float:
        """Multiply-adds a second of an operator that does so many for each byte."""
        return min(self.peak(dtype), intensity * self.bandwidth(moved))

    def to_json(self) -> dict:
        """The limits as JSON."""
        return {
            "threads": self.threads,
            **{f"peak_{k}_gmacs_per_second": v / 1e9 for k, v in self.macs_per_second.items()},
            "bandwidth_gb_per_second": {
                str(size): found / 1e9 for size, found in self.bytes_per_second.items()
            },
        }

    def text(self) -> str:
        """The limits as a line."""
        peaks = ", ".join(f"{k} {v / 1e9:.0f}" for k, v in self.macs_per_second.items())
        sizes = sorted(self.bytes_per_second)
        widths = ", ".join(
            f"{self.bytes_per_second[size] / 1e9:.0f} at {size >> 10} kB" for size in sizes
        )
        return f"this machine at best: {peaks} GMAC/s; {widths} (GB/s)"


def write_files(folder: str | os.PathLike) -> dict[str, str]:
    """Writes the .tflite files that the limits are measured on.

    Returns:
        The path of each, by a name that `machine` understands.
    """
    contents = {
        f"{dtype} {channels} {kernel} {size}": roofline_files.convolution(
            channels, channels, kernel, size, dtype
        )
        for dtype in roofline_files.DTYPES
        for channels, kernel, size in CONVOLUTIONS
    } | {f"copy {moved}": roofline_files.copies(moved // 8, OPERATORS) for moved in COPIES}
    paths = {}
    for name, content in contents.items():
        path = pathlib.Path(folder, name.replace(" ", "_") + ".tflite")
        path.write_bytes(content)
        paths[name] = str(path)
    return paths


def machine(fastest_ms: Mapping[str, float], threads: int) -> Machine:
    """The limits, from the fastest run of each file.

    Args:
        fastest_ms: by the names of `write_files`.
        threads: what they ran with.

    Raises:
        BadInput: a time is not positive.
    """
    if min(fastest_ms.values()) <= 0:
        raise BadInput("the clock of this machine is too coarse to measure what it can do")
    peaks = dict.fromkeys(roofline_files.DTYPES, 0.0)
    moved = {}
    for name, ms in fastest_ms.items():
        kind, *numbers = name.split()
        numbers = [int(number) for number in numbers]
        if kind == "copy":
            moved[numbers[0]] = 1e3 * OPERATORS * numbers[0] / ms
        else:
            channels, kernel, size = numbers
            macs = (channels * kernel * size) ** 2
            peaks[kind] = max(peaks[kind], 1e3 * macs / ms)
    falling, best = {}, 0.0
    for size in sorted(moved, reverse=True):  # fewer bytes are never slower: that was a disturbance
        best = max(best, moved[size])
        falling[size] = best
    return Machine(threads, peaks, dict(sorted(falling.items())))
