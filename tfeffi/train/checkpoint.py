"""Checkpoints: one file, written whole, from which a killed run goes on bit for bit.

It holds the model's architecture (a method may have changed it), every variable of model, optimizer,
loss scale and epoch sums, the best weights so far, the counters and the methods' own state. The data
order needs no state: it is a function of (seed, epoch, step).
"""

import hashlib
import json
import pathlib
import time
import zipfile
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfeffi import derived, files
from tfeffi.data import Images
from tfeffi.errors import BadInput
from tfeffi.methods import Method
from tfeffi.train.precision import fused
from tfeffi.train.settings import Settings
from tfeffi.train.state import Best, Run

NAME = "checkpoint.npz"
PARTS = ("checkpoint", "model", "history", "trained")  # the files of a run


def fingerprint(
    model: keras.Model, data: Sequence[Images], settings: Settings, methods: Sequence[Method]
) -> dict:
    """What must be equal for a run to be resumed or read back.

    Args:
        model: as it was given to `fit`; its architecture and its weights count, names that Keras
            gave do not.
        data: the images; a thousand of them are looked at, and all labels and targets.
        settings: all but how often is saved.
        methods: their classes and `settings()`.
    """
    names = {layer.name: f"#{number}" for number, layer in enumerate(derived.inside(model))}
    architecture = json.dumps(_renamed(json.loads(model.to_json()), names))
    weights = [w.numpy() for w in model.weights]
    images = [[d.images[:: max(1, len(d) // 1000)], d.labels] for d in data]
    for digested, d in zip(images, data, strict=True):
        digested += [] if d.targets is None else [d.targets]
    values = settings.to_json()
    del values["checkpoint_seconds"]
    values |= {
        "model": _digest(architecture.encode()),
        "starting weights": _digest(*weights),
        "data": [f"{d.name} {d.split} {_digest(*i)}" for d, i in zip(data, images, strict=True)],
        "methods": [[type(m).__name__, m.settings()] for m in methods],
    }
    return json.loads(json.dumps(values, default=float))  # a number of numpy's is one, too


def _renamed(config, names: dict[str, str], key: str = ""):
    """A model's config with its layers' names, at any depth, exchanged where they stand as names."""
    if isinstance(config, dict):
        return {k: _renamed(value, names, k) for k, value in config.items()}
    if isinstance(config, list):
        return [_renamed(value, names, key) for value in config]
    is_name = key in ("name", "keras_history", "input_layers", "output_layers")
    return names.get(config, config) if is_name and isinstance(config, str) else config


def _digest(*parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part)
    return digest.hexdigest()[:16]


def check_fingerprint(found: dict, wanted: dict, folder: pathlib.Path) -> None:
    """Raises BadInput if the run in `folder` is another one; names what differs."""
    for key in sorted(set(found) | set(wanted)):
        if found.get(key) != wanted.get(key):
            raise BadInput(
                f'fit: "{folder}" holds another run: its {key} is {found.get(key)!r}, this one\'s is '
                f"{wanted.get(key)!r}; name another workdir or remove that one"
            )


class Keeper:
    """Saves a run now and then.

    Args:
        folder: where the checkpoint goes; None keeps none.
        identity: the run's fingerprint.
        seconds: at most so much work is lost when the run is killed.
    """

    def __init__(self, folder: pathlib.Path | None, identity: dict, seconds: float):
        self.folder, self.identity, self.seconds = folder, identity, seconds
        self._saved = time.perf_counter()
        for part in PARTS if folder else ():
            for stale in folder.glob(f".{part}.*"):
                stale.unlink()  # of a run that was killed while it saved

    def __call__(self, run: Run) -> None:
        """Saves if it is time to."""
        if self.folder and time.perf_counter() - self._saved >= self.seconds:
            save(run, self.folder, self.identity)
            self._saved = time.perf_counter()


def save(run: Run, folder: pathlib.Path, identity: dict) -> None:
    """Writes the checkpoint of `run` into `folder`, replacing the one before at once."""
    header = {
        "identity": identity,
        "counters": run.counters(),
        "model": run.model.to_json(),
        "methods": [method.state() for method in run.methods],
        "best": run.best and [run.best.value, run.best.epoch, run.best.model_json],
    }
    best = run.best.arrays if run.best else []
    arrays = {f"variable_{i}": tf.convert_to_tensor(v).numpy() for i, v in enumerate(run.variables)}
    arrays |= {f"best_{i}": a for i, a in enumerate(best)}
    with files.replacing(folder / NAME) as temporary:
        np.savez(temporary, header=np.array(json.dumps(header)), **arrays)


def restore(run: Run, folder: pathlib.Path, identity: dict) -> bool:
    """Brings `run` to the state of the checkpoint in `folder`; False if there is none.

    Raises:
        BadInput: the checkpoint cannot be read, or belongs to another run.
    """
    path = folder / NAME
    if not path.exists():
        return False
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = {key: archive[key] for key in archive.files}
        header = json.loads(str(stored.pop("header")))
        found = header["identity"]
    except (EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadInput(f'fit: checkpoint "{path}" cannot be read ({error}); remove it') from error
    check_fingerprint(found, identity, folder)
    try:
        _take(run, header, stored)
    except (KeyError, IndexError, ValueError) as error:
        raise BadInput(
            f'fit: checkpoint "{path}" does not fit this run ({error!r}), as of another version of '
            "tfeffi; remove it"
        ) from error
    return True


def _take(run: Run, header: dict, stored: dict) -> None:
    """Model, counters and variables."""
    if header["model"] != run.model.to_json():
        _take_model(run, header["model"])
    for method, state in zip(run.methods, header["methods"], strict=True):
        method.restore(state)
    for name, value in header["counters"].items():
        setattr(run, name, value)
    for i, variable in enumerate(run.variables):
        variable.assign(stored[f"variable_{i}"])
    derived.renew(run.model)
    if header["best"]:
        arrays = [stored[f"best_{i}"] for i in range(sum(k.startswith("best_") for k in stored))]
        run.best = Best(*header["best"], arrays)


def _take_model(run: Run, text: str) -> None:
    """Gives the run the model that a method had made, and an optimizer bound to it."""
    with run.strategy.scope():
        run.model = fused(keras.models.model_from_json(text), run.settings)
        run.optimizer = run.new_optimizer()
