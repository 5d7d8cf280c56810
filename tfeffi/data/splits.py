"""Which images a split such as "train[:90%]+test" means, before any of them is read."""

import re
from collections.abc import Mapping

from tfeffi.data.images import DataError
from tfeffi.errors import near


def resolve(name: str, split: str, infos: Mapping) -> list[tuple[str, int, int]]:
    """Works out a split in the language of TFDS.

    Args:
        name: the data set, for messages.
        split: e.g. "train", "train[:90%]", "train[10:20]+test", "all".
        infos: split name → `tfds.core.SplitInfo`.

    Returns:
        (split name, first, last + 1) of each part, with 0 ≤ first ≤ last + 1 ≤ its size.

    Raises:
        DataError: a split that is unknown, malformed, out of range or empty.
    """
    from tensorflow_datasets.core import ReadInstruction

    known = {key: info.num_examples for key, info in infos.items()}
    for part in re.split(r"\+", str(split)):
        base = part.partition("[")[0].strip()
        if base not in known and base != "all":
            raise DataError(f'data set "{name}" has no split "{base}"; {near(base, known)}')
    try:
        parts = ReadInstruction.from_spec(str(split)).to_absolute(infos)
    except Exception as error:  # TFDS raises several kinds, each for what the user has typed
        raise DataError(
            f'data set "{name}": the split "{split}" cannot be read ({_first_line(error)}); '
            'splits look like "train", "train[:90%]", "train[100:200]+test"'
        ) from error
    spans = [(p.splitname, *slice(p.from_, p.to).indices(known[p.splitname])[:2]) for p in parts]
    spans = [(part, first, last) for part, first, last in spans if last > first]
    if not spans:
        sizes = ", ".join(f"{key} {size}" for key, size in known.items())
        raise DataError(
            f'data set "{name}": the split "{split}" is empty; images there are: {sizes}'
        )
    return spans


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
