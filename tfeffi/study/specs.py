"""What a config says of its variants: checked before anything is trained, ordered, told apart."""

import hashlib
import inspect
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from tfeffi.compress import by_name
from tfeffi.compress.budget import ARGUMENTS, Budget
from tfeffi.compress.distillation import check_numbers, distill
from tfeffi.errors import BadInput, check_keys, near
from tfeffi.export import recipes
from tfeffi.export.exporter import export
from tfeffi.export.views import check_views
from tfeffi.train.settings import LOSSES, Settings

BASELINE = "baseline"
KEYS = ("base", "compress", "finetune", "export")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
# arguments that no config can give
_IMAGES = {"data", "training_data", "tflite", "calibration", "check_with", "finetune"}


def check(config: Mapping[str, Any]) -> list[str]:
    """Everything of a study that can be wrong before its first training.

    Args:
        config: of `experiment.plain`.

    Returns:
        The names of its variants, each after its base.

    Raises:
        BadInput: a variant, or `config.train`, that could not be made; or replicates.
    """
    variants = config.get("variants") or {}
    if not isinstance(variants, Mapping):
        raise BadInput(f"config.variants={variants!r} must be a mapping of names to variants")
    if not variants:
        raise BadInput("config: no variants; give config.variants, or train with tfeffi-train")
    if config["replicates"] > 1:
        raise BadInput(
            f"config: replicates={config['replicates']}, but sweep runs one replicate; "
            "leave it out, or sweep each seed into its own workdir"
        )
    settings("config.train", config["train"])
    if (loss := config["train"].get("loss", LOSSES[0])) != LOSSES[0]:
        raise BadInput(
            f'config.train: loss="{loss}" has no accuracy, by which a sweep ranks its variants; train it '
            "with tfeffi-train"
        )
    for name, spec in variants.items():
        _check_name(name)
        _check_variant(f"config.variants.{name}", spec, variants, config["train"])
    return _ordered(variants)


def identities(config: Mapping[str, Any]) -> dict[str, str]:
    """For the baseline and each variant a hash of all that its numbers depend on.

    That is the data, model, training, methods and seed; and of a variant also its own
    specification and those of its bases. The config is one that passed `check`.
    """
    made_of = {key: config[key] for key in ("data", "model", "train", "methods", "seed")}
    found = {BASELINE: _hash(made_of)}
    for name in _ordered(config["variants"]):
        spec = config["variants"][name]
        found[name] = _hash([spec, found[spec.get("base", BASELINE)], made_of])
    return found


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_name(name: Any) -> None:
    """A variant's name is its folder's."""
    if name == BASELINE:
        raise BadInput(f'config.variants: "{name}" is the trained model itself; name it otherwise')
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadInput(
            f'config.variants: name {name!r} must be of letters, digits, "_", "-" and ".", '
            'not a "." first'
        )


def _check_variant(where: str, spec: Any, variants: Mapping, train: Mapping) -> None:
    check_keys(where, mapping(where, spec), KEYS)
    base = spec.get("base", BASELINE)
    if not isinstance(base, str) or base not in (BASELINE, *variants):
        raise BadInput(f'{where}: no base "{base}"; {near(str(base), [BASELINE, *variants])}')
    if "compress" in spec:
        check_compress(f"{where}.compress", spec["compress"])
        iterations = spec["compress"].get("iterations", 1)
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
            raise BadInput(f"{where}.compress: iterations={iterations!r} must be from 1 on, whole")
        if iterations > 1 and "finetune" not in spec:
            raise BadInput(f"{where}.compress: iterations={iterations} need {where}.finetune")
        if iterations > 1 and "teacher" in spec["finetune"]:
            raise BadInput(f"{where}.finetune: a teacher tunes once, not between iterations")
    if "finetune" in spec:
        finetune = mapping(f"{where}.finetune", spec["finetune"])
        if "teacher" in finetune:
            _check_distillation(f"{where}.finetune", finetune)
        else:
            settings(f"{where}.finetune", {**train, **finetune})
    if "export" in spec:
        check_export(f"{where}.export", spec["export"])


def _check_distillation(where: str, spec: Mapping[str, Any]) -> None:
    """A fine-tuning by `distill`: the teacher and its arguments, and none of `config.train`."""
    known = {p for p in inspect.signature(distill).parameters if p not in ("model", "data", "seed")}
    for key in spec:
        if key not in known:
            raise BadInput(f'{where}: distillation takes no "{key}"; {near(str(key), known)}')
    teacher = spec["teacher"]
    if teacher != BASELINE and not pathlib.Path(str(teacher)).is_file():
        raise BadInput(f'{where}: teacher="{teacher}" is neither "{BASELINE}" nor a .keras file')
    numbers = ("epochs", "batch_size", "learning_rate", "temperature", "alpha")
    try:
        check_numbers(**{key: spec[key] for key in numbers if key in spec})
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def check_compress(where: str, spec: Any) -> None:
    """Raises BadInput, beginning with `where`, for a compression that could not be made."""
    method = mapping(where, spec).get("method")
    if not isinstance(method, str):
        raise BadInput(f"{where}: method={method!r} must be one of {', '.join(by_name.METHODS)}")
    try:
        known = by_name.takes(method) - _IMAGES
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    for key in spec:
        if key not in ("method", *known):
            raise BadInput(f'{where}: "{method}" takes no "{key}"; {near(str(key), known)}')
    if spec.get("budget") is not None:
        budget = mapping(f"{where}.budget", spec["budget"])
        check_keys(f"{where}.budget", budget, ARGUMENTS)
        try:
            Budget(**budget)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None


def check_export(where: str, spec: Any) -> None:
    """Raises BadInput, beginning with `where`, for arguments that `tfeffi.export` does not take."""
    keywords = inspect.signature(export).parameters.values()
    known = {p.name for p in keywords if p.kind is p.KEYWORD_ONLY} - _IMAGES
    check_keys(where, mapping(where, spec), known)
    try:
        recipes.check(spec.get("quantize"), spec.get("recipe"), spec.get("integer_io", False))
        check_views(spec.get("views", "one"))
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def settings(where: str, values: Mapping[str, Any]) -> None:
    """Raises BadInput, beginning with `where`, for settings of a training that are none."""
    try:
        Settings.from_mapping(values)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def mapping(where: str, value: Any) -> Mapping[str, Any]:
    """The value; BadInput, beginning with `where`, if it is no mapping."""
    if not isinstance(value, Mapping):
        raise BadInput(f"{where}={value!r} must be a mapping")
    return value


def _ordered(variants: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The variants so that each comes after its base."""
    placed: list[str] = []
    while len(placed) < len(variants):
        ready = [
            name for name, v in variants.items()
            if name not in placed and v.get("base", BASELINE) in (BASELINE, *placed)
        ]  # fmt: skip
        if not ready:
            circle = ", ".join(sorted(set(variants) - set(placed)))
            raise BadInput(f"config.variants: {circle} are each other's base")
        placed += ready
    return placed
