"""Reading a .keras file, with one line for everything that can be wrong with it."""

import os
import pathlib
import warnings
import zipfile

import keras

from tfeffi.errors import BadInput


def load(path: str | os.PathLike) -> keras.Model:
    """Reads a model.

    Args:
        path: a .keras file, as `model.save` writes it.

    Returns:
        The model, without optimizer and loss.

    Raises:
        BadInput: there is no such file, it is of another kind, or it is damaged.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise BadInput(f'there is no model file "{path}"')
    if path.suffix != ".keras":
        raise BadInput(f'model "{path}" is not a .keras file; save it with model.save("m.keras")')
    if not zipfile.is_zipfile(path):
        raise BadInput(f'model "{path}" is not a .keras file inside, or is cut off; save it again')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return keras.models.load_model(path, compile=False)
    except Exception as error:  # zip, JSON, HDF5 and Keras each raise their own
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(f'cannot load model "{path}": {first_line}') from error
