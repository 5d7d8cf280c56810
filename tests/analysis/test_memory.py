"""Peak memory is this process's own, and grows with what it takes."""

import subprocess
import sys

from tfeffi.analysis.memory import peak_memory_mb

CODE = """
from tfeffi.analysis.memory import peak_memory_mb
before = peak_memory_mb()
block = bytearray(200_000_000)
print(before, peak_memory_mb() - before)
"""


def test_a_child_does_not_inherit_its_parent_s_peak():
    block = bytearray(300_000_000)
    printed = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True).stdout
    own = peak_memory_mb()
    del block
    before, gained = map(float, printed.split())
    assert before < own - 150
    assert 190 < gained < 250
