"""How much memory this process has taken at most."""

import pathlib
import re
import resource


def peak_memory_mb() -> float:
    """The peak resident memory of this process, in 10⁶ bytes.

    Linux counts it anew for each program (VmHWM); `getrusage`, used elsewhere, carries over what the
    parent of a process had taken when it started it.

    Example:
        peak_memory_mb()  # 812.3
    """
    status = pathlib.Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    kibibytes = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes * 1024 / 1e6
