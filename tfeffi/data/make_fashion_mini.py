"""Makes the embedded fashion_mini.npz out of the archive of Debian's package dataset-fashion-mnist.

python -m tfeffi.data.make_fashion_mini ARCHIVE.deb OUTPUT.npz
"""

import pathlib
import sys

import numpy as np

from tfeffi import files
from tfeffi.data.fashion_mini import CLASS_NAMES, PER_CLASS
from tfeffi.data.sources import SOURCES, Arrays


def make(full: Arrays) -> dict[str, np.ndarray]:
    """The arrays of the .npz: the first images of each class, in the order they have.

    Args:
        full: split → (images, labels) of the whole of Fashion-MNIST.
    """
    made = {}
    for split, each in PER_CLASS.items():
        images, labels = full[split]
        firsts = [np.flatnonzero(labels == c)[:each] for c in range(len(CLASS_NAMES))]
        which = np.sort(np.concatenate(firsts))
        made[f"{split}_images"], made[f"{split}_labels"] = images[which], labels[which]
    return made


if __name__ == "__main__":
    _, _archive, _output = sys.argv
    files.refuse_existing(_output)
    with files.replacing(_output) as _temporary:
        _arrays = make(SOURCES["fashion_mnist"].read(pathlib.Path(_archive)))
        np.savez_compressed(_temporary, **_arrays)
