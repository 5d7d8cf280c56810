"""Networks against a reference: trained over seeds, exported, scored as files, timed side by side.

    networks.NAME
        seeds      of its trainings
        model      {"name", ...}; or base: another network, whose models of the same seeds it starts from
        compress   {"method", ...}, of what base gave
        teacher    {"network", "export", "seeds"}: whose files say together what is to be learnt, by
                   every seed; and temperature and alpha, see compress.taught. Their trainings count
                   as the student's, as that of a base does; the time they take to answer does not
        train      what differs from config.train
        methods    of the training, in place of config.methods
        exports    {NAME: arguments of tfeffi.export}, a row each; default config.exports
        keep       {NAME of an export: file name}: the median seed's, in the workdir and beside --output

The first network's first export is what the others are held against. Accuracies are of the exported
files on all test images; nothing is stopped or chosen by them but the median.
"""

import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfeffi import analysis, bench, files, methods, models, train
from tfeffi.compress import by_name, distillation, teaching
from tfeffi.compress.budget import Budget
from tfeffi.errors import BadInput, check_keys, near
from tfeffi.export import export, recipes
from tfeffi.study import latencies, specs
from tfeffi.study.experiments.cells import Cells, spread
from tfeffi.train import experiment
from tfeffi.train.settings import make_augment

KEYS = ("seeds", "model", "base", "compress", "teacher", "train", "methods", "exports", "keep")
OF_TEACHER, SOFTENING = ("network", "export", "seeds"), ("temperature", "alpha")
CALIBRATION_IMAGES = 500
DATA_IMAGES = 2000  # for activation-based methods
OF_FILE = (
    "bytes",
    "zip_bytes",
    "activation_bytes",
    "arena_bytes",
)  # of the file that is timed; seeds differ a little


def measure(config: Mapping[str, Any], cells: Cells) -> Iterator[dict[str, Any]]:
    """A row for each export of each network.

    Args:
        config: `data`, `train`, `methods`, `networks`, `exports`, and `clock`, the arguments of
            `bench.compare`; without it nothing is timed.
        cells: where trainings, files and times are kept.

    Raises:
        BadInput: a network that cannot be made; said before the first training.
    """
    plans = plan(config)
    rows = []
    for name, spec in plans.items():
        for label, arguments in spec["exports"].items():
            scored = [_scored(cells, plans, name, label, arguments, s) for s in spec["seeds"]]
            rows.append(_row(name, label, spec, scored, cells))
    for row, (name, label) in zip(
        latencies.timed(cells, rows, config.get("clock")), _pairs(plans), strict=True
    ):
        if kept := plans[name].get("keep", {}).get(label):
            with files.replacing(cells.workdir / kept) as temporary:
                shutil.copyfile(cells.workdir / row["kept"], temporary)
            row |= {"file": kept, "sha256": files.sha256(cells.workdir / kept)}
        yield row


def plan(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each network is made of, complete.

    Raises:
        BadInput: an unknown key, a base that does not come before, or a network without a model.
    """
    plans: dict[str, dict[str, Any]] = {}
    for name, given in config["networks"].items():
        check_keys(f'network "{name}"', given, KEYS)
        if ("model" in given) == ("base" in given):
            raise BadInput(f'network "{name}" needs a "model" or a "base", one of them')
        if "base" in given and given["base"] not in plans:
            raise BadInput(
                f'network "{name}": no base "{given["base"]}" before it; {near(given["base"], plans)}'
            )
        base = plans.get(given.get("base"))
        if base and not set(given.get("seeds", ())) <= set(base["seeds"]):
            raise BadInput(f'network "{name}": its base "{given["base"]}" has not all of its seeds')
        plans[name] = {
            **given, "seeds": tuple(given.get("seeds", ())), "data": dict(config["data"]),
            "train": {**config["train"], **given.get("train", {})},
            "methods": [dict(m) for m in given.get("methods", config.get("methods", ()))],
            "exports": dict(given.get("exports", config["exports"])),
        }  # fmt: skip
        _check(f'network "{name}"', plans[name], plans)
    return plans


def _check(where: str, spec: Mapping[str, Any], plans: Mapping[str, Any]) -> None:
    """What can be wrong before anything is trained."""
    if not spec["seeds"] or not spec["exports"]:
        raise BadInput(f'{where} needs "seeds" and "exports", at least one of each')
    specs.settings(f"{where}: train", spec["train"])
    for values in spec["methods"]:
        methods.build(**values)
    if "compress" in spec:
        specs.check_compress(f"{where}: compress", spec["compress"])
    if "teacher" in spec:
        _check_teacher(f"{where}: teacher", spec, plans)
    for label, arguments in spec["exports"].items():
        specs.check_export(f"{where}: exports.{label}", arguments)
    taken = {file for other in plans.values() if other is not spec for file in _kept(other)}
    for label, file in spec.get("keep", {}).items():
        if label not in spec["exports"]:
            raise BadInput(f'{where}: keep: no export "{label}"; {near(label, spec["exports"])}')
        if pathlib.Path(file).name != file or not file.endswith(".tflite"):
            raise BadInput(f'{where}: keep: "{file}" must be a file name that ends in .tflite')
        if file in taken or _kept(spec).count(file) > 1:
            raise BadInput(f'{where}: keep: "{file}" is the name of another file, too')


def _kept(spec: Mapping[str, Any]) -> list[str]:
    return list(spec.get("keep", {}).values())


def _check_teacher(where: str, spec: Mapping[str, Any], plans: Mapping[str, Any]) -> None:
    teacher, known = specs.mapping(where, spec["teacher"]), (*OF_TEACHER, *SOFTENING)
    for key in (*OF_TEACHER, *teacher):
        if key not in teacher or key not in known:
            raise BadInput(f"{where} has the keys {', '.join(known)}, the first three always")
    network = plans.get(str(teacher["network"]))
    if network is None or network is spec:
        raise BadInput(f'{where}: no network "{teacher["network"]}" before this one')
    seeds = teacher["seeds"]
    if not isinstance(seeds, Sequence) or not seeds or not set(seeds) <= set(network["seeds"]):
        raise BadInput(f"{where}: seeds={seeds!r}; give some of {list(network['seeds'])}")
    if teacher["export"] not in network["exports"]:
        raise BadInput(
            f'{where}: no export "{teacher["export"]}"; {near(teacher["export"], network["exports"])}'
        )
    softening = {key: teacher[key] for key in SOFTENING if key in teacher}
    distillation.check_numbers(**softening, who=where)
    settings = train.Settings.from_mapping(spec["train"])
    if settings.label_smoothing or settings.loss != "cross_entropy":
        raise BadInput(
            f"{where}: train needs label_smoothing=0 and the loss cross_entropy, not "
            f"{settings.label_smoothing} and {settings.loss}: the teacher says what is to be learnt"
        )


def _pairs(plans: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(network, export) in the order of the rows."""
    return ((name, label) for name, spec in plans.items() for label in spec["exports"])


def _row(name, label, spec, scored, cells: Cells) -> dict[str, Any]:
    """The seeds of one export as a row; its file is that of the median seed."""
    order = sorted(range(len(scored)), key=lambda i: scored[i]["accuracy"])
    middle = scored[order[(len(order) - 1) // 2]]
    seeds = [{k: v for k, v in one.items() if k not in (*OF_FILE, "kept")} for one in scored]
    row = {
        "name": f"{name}, {label}", "network": name, "export": label,
        "dataset": f"{spec['data']['name']} {spec['data']['test']}",
        **spread(seeds), "accuracies": [one["accuracy"] for one in scored],
        **{key: middle[key] for key in OF_FILE}, "kept": middle["kept"],
        "file": cells.workdir / middle["kept"], "epochs": spec["train"]["epochs"],
    }  # fmt: skip
    for key in ("params", "macs"):  # the median seed's, where seeds are pruned alike but not equal
        row[key] = middle[key]
        row.pop(f"{key}_mean"), row.pop(f"{key}_std", None)
    return row


def _recipe(plans: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """All that a network's trained model depends on but its seed, its bases' recipes included."""
    spec = plans[name]
    recipe = {key: spec[key] for key in ("data", "train", "methods")}
    recipe |= {key: spec[key] for key in ("model", "compress") if key in spec}
    if "teacher" in spec:
        network, export, _ = (spec["teacher"][key] for key in OF_TEACHER)
        arguments = plans[network]["exports"][export]
        recipe["teacher"] = {**spec["teacher"], "of": _recipe(plans, network), "export": arguments}
    return recipe | ({"base": _recipe(plans, spec["base"])} if "base" in spec else {})


def _scored(cells: Cells, plans, name, label, arguments, seed) -> dict[str, Any]:
    """The accuracy, sizes and costs of one file."""
    recipe, trained = _recipe(plans, name), _trained(cells, plans, name, seed)
    made = functools.partial(_export, cells, trained["folder"], f"{name} {label} {seed}")
    found = cells.once(
        f"{name} {label} seed {seed}", made, recipe=recipe, seed=seed, arguments=arguments
    )
    return {**{k: v for k, v in trained.items() if k != "folder"}, **found}


def _trained(cells: Cells, plans, name, seed) -> dict[str, Any]:
    """What is known of a training; its cost is that of all it needs, each counted once."""
    all_of_it = [_alone(cells, plans, *one) for one in sorted(_lineage(plans, name, seed))]
    costs = {key: sum(one[key] for one in all_of_it) for key in ("train_seconds", "train_macs")}
    return _alone(cells, plans, name, seed) | costs


def _lineage(plans, name: str, seed: int) -> set[tuple[str, int]]:
    """The training, its base and its teachers, with theirs."""
    found = {(name, seed)}
    if base := plans[name].get("base"):
        found |= _lineage(plans, base, seed)
    if "teacher" in plans[name]:
        network, _, seeds = (plans[name]["teacher"][key] for key in OF_TEACHER)
        found = found.union(*(_lineage(plans, network, number) for number in seeds))
    return found


def _alone(cells: Cells, plans, name, seed) -> dict[str, Any]:
    """What the training by itself has cost."""
    recipe, base = _recipe(plans, name), plans[name].get("base")
    before = _alone(cells, plans, base, seed)["folder"] if base else None
    run = functools.partial(
        _train, cells, before, _folder(name, seed, recipe), _teachers(cells, plans, name)
    )
    return cells.once(f"{name} seed {seed}", run, recipe=recipe, seed=seed)


def _teachers(cells: Cells, plans, name) -> list[pathlib.Path]:
    """The files of the network's teachers."""
    if "teacher" not in plans[name]:
        return []
    network, export, seeds = (plans[name]["teacher"][key] for key in OF_TEACHER)
    arguments = plans[network]["exports"][export]
    scored = [_scored(cells, plans, network, export, arguments, seed) for seed in seeds]
    return [cells.workdir / one["kept"] for one in scored]


def _folder(name: str, seed: int, recipe: Mapping[str, Any]) -> str:
    """Where a training is kept; another recipe of the same name has another."""
    return f"trained/{name}_{seed}-{_digest(recipe)}".replace(" ", "_").replace(",", "")


def _digest(values, length: int = 8) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:length]


def _train(cells: Cells, base: str | None, folder: str, teachers, recipe, seed) -> dict[str, Any]:
    import keras

    splits = experiment.load_splits(recipe["data"])
    images = _taught(cells, splits.train, teachers, recipe) if teachers else splits.train
    keras.utils.set_random_seed(seed)
    settings = train.Settings.from_mapping({**recipe["train"], "seed": seed})
    held = ()
    if base is None:
        model = experiment.build_model(recipe["model"], splits.train)
    else:
        model = models.load(cells.workdir / base / "model.keras")
    if "compress" in recipe:
        model, held = _compressed(model, dict(recipe["compress"]), splits.train)
    chosen = [methods.build(**values) for values in recipe["methods"]]
    made = train.fit(
        model, images, settings=settings, methods=[*held, *chosen],
        workdir=cells.workdir / folder, verbose=False,
    )  # fmt: skip
    counted = analysis.cost(made.model)
    agreed = "agreement" if teachers else "accuracy"  # with the teacher's answers, or the labels
    return {
        "folder": folder, "keras_accuracy": train.evaluate(made.model, splits.test)["accuracy"],
        f"train_{agreed}": made.history[-1]["accuracy"], "train_seconds": made.train_seconds,
        "train_macs": made.train_macs, "params": counted.params, "macs": counted.macs,
    }  # fmt: skip


def _taught(cells: Cells, images, teachers: Sequence[pathlib.Path], recipe):
    """The images with the teachers' answers, which are asked for once and kept."""
    augment = recipe["train"].get("augment", {})
    more = {k: v for k, v in recipe["teacher"].items() if k in SOFTENING}
    marks = [files.sha256(teacher) for teacher in teachers]
    mark = _digest([marks, recipe["data"], augment, more], 12)
    path = cells.workdir / "answers" / f"{mark}.npy"
    if not path.exists():
        targets = teaching.taught(images, teachers, augment, **more).targets
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, targets)
    return images.with_targets(np.load(path), make_augment(augment).kind)


def _compressed(model, arguments, images):
    if "budget" in arguments:
        arguments["budget"] = Budget(**arguments["budget"])
    if "data" in by_name.takes(arguments["method"]):
        arguments["data"] = images.take(DATA_IMAGES)
    if "training_data" in by_name.takes(arguments["method"]):
        arguments["training_data"] = images
    small = by_name.compress(model, **arguments)[0]
    return small, by_name.holding(arguments["method"], small)


def _export(cells: Cells, folder: str, name: str, recipe, seed, arguments) -> dict[str, Any]:
    splits = experiment.load_splits(recipe["data"])
    mark = _digest([recipe, seed, arguments])  # another recipe of the same name has another file
    path = pathlib.Path("files") / f"{name}-{mark}.tflite".replace(" ", "_").replace(",", "")
    target = cells.workdir / path
    target.unlink(missing_ok=True)  # of a run that was killed before its cell was written
    images = splits.train.take(CALIBRATION_IMAGES)
    needed = recipes.check(arguments.get("quantize"), arguments.get("recipe"))
    more = {"calibration" if needed else "check_with": images}
    made = export(models.load(cells.workdir / folder / "model.keras"), target, **arguments, **more)
    return {
        "accuracy": bench.evaluate(target, splits.test), "kept": str(path),
        "bytes": made.bytes, "zip_bytes": made.zip_bytes, "activation_bytes": made.activation_bytes,
        "arena_bytes": made.arena_bytes,
    }  # fmt: skip
