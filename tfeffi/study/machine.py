"""Who measured: the hardware, the versions, the commit and the command of this process.

Nothing here names the machine or its user: no host name, no absolute path.
"""

import glob
import importlib.metadata
import math
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
from typing import Any

from tfeffi.export import litert

CPU_FEATURES = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
PACKAGES = (
    "tfeffi", "tensorflow", "keras", "numpy", "ai-edge-litert", "litert-quantizer",
    "tensorflow-datasets",
)  # fmt: skip
_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
_GIGABYTE = 1e9


def hardware() -> dict[str, Any]:
    """What this process runs on.

    Returns:
        cpu: the name the CPU gives itself.
        cpu_features: those instruction sets it has that decide the speed of a network.
        cores: that this process may use (affinity and cgroup counted).
        memory_gb: that this process may use, in 10⁹ bytes.
        accelerator: the GPUs' name, "2x ..." if there are two; "none" if there is none.

    Example:
        hardware()["cpu"]  # "Intel(R) Xeon(R) Processor"
    """
    described = _cpuinfo()
    name = next((described[k] for k in ("model name", "Model", "Hardware") if k in described), "")
    flags = set((described.get("flags") or described.get("Features") or "").split())
    return {
        "cpu": name or platform.processor() or platform.machine(),
        "cpu_features": [feature for feature in CPU_FEATURES if feature in flags],
        "cores": _cores(),
        "memory_gb": round(_memory_bytes() / _GIGABYTE, 1),
        "accelerator": _accelerator(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a result; one not installed is absent."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The git commit of tfeffi's own source, "-dirty" after it if source has changed since.

    Returns:
        None where tfeffi does not run from a checkout of itself: an installed copy inside somebody
        else's repository has no commit.
    """
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git("rev-parse", "HEAD")
    if not head:
        return None
    # Results and the README are written by the programs that measure: they are no change of source.
    changed = _git(
        "status", "--porcelain", "--untracked-files=no", "--",
        ":(top)", ":(top,exclude)results", ":(top,exclude)README.md",
    )  # fmt: skip
    return f"{head}-dirty" if changed else head


def command() -> str:
    """The command that started this process, as one would type it in the checkout."""
    typed = list(sys.orig_argv[1:])
    if typed[:1] == ["-m"]:
        return without_paths(shlex.join(["python", *typed]))
    program, arguments = sys.argv[0], sys.argv[1:]
    if program.endswith(".py"):
        return without_paths(shlex.join(["python", program, *arguments]))
    name = "python" if program in ("", "-", "-c") else pathlib.Path(program).name
    return without_paths(shlex.join([name, *arguments]))


def without_paths(text: str) -> str:
    """`text` with absolute paths made relative to the working directory, or reduced to their last part.

    Example:
        without_paths("tfeffi-train --workdir=/home/me/x")  # "tfeffi-train --workdir=x"
    """
    return re.sub(r"(?<![^\s=,\"'\[(])/[^\s,=\"'\])]+", lambda found: _relative(found[0]), text)


def _relative(path: str) -> str:
    given, here = pathlib.Path(path), pathlib.Path.cwd()
    return str(given.relative_to(here)) if given.is_relative_to(here) else given.name


def _cpuinfo() -> dict[str, str]:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _cores() -> int:
    cores = litert.cores()
    limit = _words("/sys/fs/cgroup/cpu.max")
    if len(limit) == 2 and limit[0] != "max":
        cores = min(cores, max(1, math.ceil(int(limit[0]) / int(limit[1]))))
    return cores


def _memory_bytes() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _words("/sys/fs/cgroup/memory.max")
    return min(memory, int(limit[0])) if limit and limit[0].isdigit() else memory


def _accelerator() -> str:
    """From the driver's own files: asking TensorFlow would start it."""
    names = []
    for path in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")):
        found = re.search(r"^Model:\s*(.+)$", pathlib.Path(path).read_text(), re.MULTILINE)
        names.append(found[1].strip() if found else "NVIDIA GPU")
    counted = {name: names.count(name) for name in names}
    return ", ".join(f"{n}x {name}" if n > 1 else name for name, n in counted.items()) or "none"


def _words(path: str) -> list[str]:
    try:
        return pathlib.Path(path).read_text().split()
    except OSError:
        return []


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_PACKAGE), *arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
