"""Silence from native code, which prints to the file descriptors themselves, past sys.stderr."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def native_code() -> Iterator[None]:
    """While this is open, what is written to descriptors 1 and 2 goes nowhere.

    That is Python's own output too. TensorFlow's start and its LiteRT converter chat whatever
    TF_CPP_MIN_LOG_LEVEL says; their errors come as exceptions.

    Example:
        with quiet.native_code():
            flatbuffer = converter.convert()
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as nowhere:
        try:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, number in zip(kept, (1, 2), strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
