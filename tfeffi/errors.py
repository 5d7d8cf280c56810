"""The exceptions a user of tfeffi can cause, and the line that tells what to do about them.

The library raises `BadInput` or a subclass; its message is one line that names the thing, the value
and the way out. The tools print that line and exit with code 2. Anything else is a bug.
"""

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """The caller gave something that cannot be used; the message says what, and what to do."""


def check_keys(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises BadInput, beginning with `where`, for the first given key that is none of the known ones."""
    known = list(known)
    for key in given:
        if key not in known:
            raise BadInput(f'{where}: unknown key "{key}"; {near(key, known)}')


def near(name: str, known: Iterable[str]) -> str:
    """Says which of the known names is meant: `did you mean "x" or "y"?`, else lists them all."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f'"{c}"' for c in close) + "?"
    return "known: " + ", ".join(known)
