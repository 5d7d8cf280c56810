"""Run by test_fetch in a process of its own: prepares a small mnist, and stops to be killed.

    python -m tests.data.killed ARCHIVE DATA_DIR LINE

prints READY when the progress line that contains LINE has come, and waits.
"""

import pathlib
import sys
import time

from tests.data.made import source_of
from tfeffi.data.fetch import fetch


def main(archive, data_dir, line):
    def progress(told):
        if line in told:
            print("READY", flush=True)
            time.sleep(60)

    fetch(source_of(pathlib.Path(archive), "mnist"), data_dir, archive=archive, progress=progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
