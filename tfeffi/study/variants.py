"""One trained model and its variants, from data to Pareto front: train, compress, export, bench.

    config.variants.NAME
        base       the variant it starts from; the trained model itself if absent
        compress   {"method": "prune" | "factorize" | ..., "budget": {"macs": 0.3}, ...};
                   {"method": "prune", "iterations": 3, ...} prunes in steps and fine-tunes after each
        finetune   what differs from config.train; or {"teacher": "baseline" or a .keras file,
               "temperature": 4.0, "alpha": 0.9, "epochs": 3, ...}, the arguments of
               `tfeffi.compress.distill`
        export     {"quantize": "int8", ...}, the arguments of tfeffi.export

Every step leaves its file in `workdir/NAME`, so that a killed run goes on where it was. A folder's
`identity.json` says of which experiment it is, and no other one goes on with it. All files are timed
at the end, interleaved in one run: their latencies may be compared.
"""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from tfeffi import bench, files, models
from tfeffi.analysis.cost import cost
from tfeffi.compress import by_name
from tfeffi.compress.budget import Budget
from tfeffi.compress.distillation import distill
from tfeffi.errors import BadInput
from tfeffi.export import export, recipes
from tfeffi.study import latencies, specs
from tfeffi.study.results import Result, ResultError
from tfeffi.study.specs import BASELINE, KEYS
from tfeffi.train import evaluate, experiment, fit
from tfeffi.train.settings import Settings

CALIBRATION_IMAGES = 500
DATA_IMAGES = 2000  # for activations and data-aware factorization


@dataclasses.dataclass(frozen=True)
class Made:
    """A variant on disk: its Keras model, its .tflite, and what it cost to get there."""

    keras_file: pathlib.Path
    tflite_file: pathlib.Path | None
    train_seconds: float
    row: dict[str, Any]


def run(config: Mapping[str, Any], workdir: str | pathlib.Path, verbose: bool = True) -> Result:
    """Trains a config's model, makes its variants, times them, writes `workdir/result.json`.

    Args:
        config: as for `tfeffi.train.run`, with `variants`; accuracies are of the .tflite files on
            the test split, latencies of one thread on this machine, interleaved.
        workdir: what is finished there is not repeated.
        verbose: whether progress is shown.

    Returns:
        The result, a row a variant.

    Raises:
        BadInput: a config that cannot be used, or a folder of another experiment in `workdir`.
    """
    config, workdir = experiment.plain(config), pathlib.Path(workdir)
    names = specs.check(config)
    for name, identity in specs.identities(config).items():
        _claim(workdir / name, identity)
    study = _Study(config, workdir, Console(stderr=True, quiet=not verbose), len(names) + 2)
    made = {BASELINE: study.baseline(verbose)}
    for name in names:
        made[name] = study.variant(
            name, made[config["variants"][name].get("base", BASELINE)], verbose
        )
    del made[BASELINE]
    return study.measured(made)


def _claim(folder: pathlib.Path, identity: str) -> None:
    """Marks a folder as of this experiment, before anything is made in it; BadInput if of another.

    A mark alone, of a run that came to nothing, binds nobody.
    """
    mark = folder / "identity.json"
    try:
        known = json.loads(mark.read_text())["identity"]
    except (OSError, ValueError, LookupError, TypeError):
        known = None
    if known == identity:
        return
    if folder.exists() and any(path != mark for path in folder.iterdir()):
        raise BadInput(
            f'sweep: "{folder}" holds another "{folder.name}" (its model, data, training or base '
            "differs); remove that folder or name another workdir"
        )
    files.write_json(mark, {"identity": identity})


@dataclasses.dataclass
class _Study:
    config: dict[str, Any]
    workdir: pathlib.Path
    console: Console
    stages: int
    stage: int = 0

    @functools.cached_property
    def splits(self) -> experiment.Splits:
        return experiment.load_splits(self.config["data"])

    def say(self, text: str) -> None:
        self.stage += 1
        self.console.print(
            f"[bold][{self.stage}/{self.stages}][/bold] {text}", highlight=False, soft_wrap=True
        )

    def baseline(self, verbose: bool) -> Made:
        self.say(f"train {self.config['model']['name']} on {self.config['data']['name']}")
        folder = self.workdir / BASELINE
        trained = experiment.train_replicate(
            self.config, self.splits, folder, self.config["seed"], verbose
        )
        return Made(folder / "model.keras", None, trained.train_seconds, {})

    def variant(self, name: str, base: Made, verbose: bool) -> Made:
        """Compresses, fine-tunes and exports one variant, or reads back what is there."""
        spec, folder = self.config["variants"][name], self.workdir / name
        self.say(f"{name}: {' → '.join(k for k in KEYS[1:] if k in spec) or 'export'}")
        record = folder / "variant.json"
        if not record.exists():
            keras_file, seconds = base.keras_file, base.train_seconds
            if "compress" in spec:
                keras_file, more = self._compressed(folder, spec, base.keras_file, verbose)
                seconds += more
            if "finetune" in spec:
                seconds += self._finetuned(folder, spec, keras_file, verbose)
                keras_file = folder / "model.keras"
            files.write_json(record, self._exported(folder, spec, keras_file, seconds))
        kept, path = json.loads(record.read_text()), folder / "model.tflite"
        if not path.exists() or files.sha256(path) != kept["row"]["sha256"]:
            raise BadInput(
                f'sweep: "{path}" is not the file whose accuracy was measured; remove "{folder}"'
            )
        return Made(
            self.workdir / kept["keras_file"], path,
            kept["row"]["train_seconds_mean"], kept["row"],
        )  # fmt: skip

    def _compressed(self, folder, spec, base, verbose) -> tuple[pathlib.Path, float]:
        """The model after compression, `compressed.keras`, with the report beside it.

        Also the seconds of the training between the steps, if there are several; that after the
        last one is the variant's own.
        """
        path, arguments, seconds = folder / "compressed.keras", dict(spec["compress"]), [0.0]
        if path.exists():
            return path, json.loads((folder / "report.json").read_text()).get("train_seconds", 0.0)
        if "budget" in arguments:
            arguments["budget"] = Budget(**arguments["budget"])
        if "data" in by_name.takes(arguments["method"]):
            arguments["data"] = self.splits.train.take(DATA_IMAGES)
        if "training_data" in by_name.takes(arguments["method"]):
            arguments["training_data"] = self.splits.train
        if (iterations := arguments.get("iterations", 1)) > 1:
            steps = iter(range(1, iterations))

            def tune(model):
                if (step := next(steps, None)) is None:
                    return model
                place, held = folder / f"step_{step}", by_name.holding(None, model)
                trained = self._fit(place, spec["finetune"], model, verbose, held)
                seconds[0] += trained.train_seconds
                return trained.model

            arguments["finetune"] = tune
        small, report = by_name.compress(models.load(base), **arguments)
        self.console.print(report.table(), highlight=False, soft_wrap=True)
        files.write_json(folder / "report.json", {**report.to_json(), "train_seconds": seconds[0]})
        with files.replacing(path) as temporary:
            small.save(temporary)
        return path, seconds[0]

    def _finetuned(self, folder, spec, keras_file, verbose) -> float:
        model = models.load(keras_file)
        if "teacher" in spec["finetune"]:
            return self._distilled(folder, spec["finetune"], model)
        held = by_name.holding(spec.get("compress", {}).get("method"), model)
        return self._fit(folder, spec["finetune"], model, verbose, held).train_seconds

    def _distilled(self, folder, spec, model) -> float:
        """Fine-tunes on the answers of a teacher; the seconds it took."""
        arguments, started = dict(spec), time.perf_counter()
        teacher = arguments.pop("teacher")
        path = self.workdir / BASELINE / "model.keras" if teacher == BASELINE else teacher
        made, report = distill(
            model, models.load(path), self.splits.train, seed=self.config["seed"], **arguments
        )
        self.console.print(report.table(), highlight=False, soft_wrap=True)
        seconds = time.perf_counter() - started
        with files.replacing(folder / "model.keras") as temporary:
            made.save(temporary)
        return seconds

    def _fit(self, folder, spec, model, verbose, methods=()):
        values = {**self.config["train"], **spec, "seed": self.config["seed"]}
        splits, settings = self.splits, Settings.from_mapping(values)
        return fit(
            model, splits.train, splits.validation, settings, methods=methods, workdir=folder,
            verbose=verbose,
        )  # fmt: skip

    def _exported(self, folder, spec, keras_file, seconds) -> dict[str, Any]:
        """Exports, measures accuracies and sizes; the variant's record."""
        path, model = folder / "model.tflite", models.load(keras_file)
        arguments = dict(spec.get("export", {}))
        if recipes.check(arguments.get("quantize"), arguments.get("recipe")):
            arguments["calibration"] = self.splits.train.take(CALIBRATION_IMAGES)
        path.unlink(missing_ok=True)  # of a run that was killed before its record
        made, counted = export(model, path, **arguments), cost(model)
        row = {
            "dataset": f"{self.splits.test.name} {self.splits.test.split}",
            "n": 1,
            "accuracy_mean": bench.evaluate(path, self.splits.test),
            "keras_accuracy_mean": evaluate(model, self.splits.test)["accuracy"],
            "train_seconds_mean": seconds,
            "params": counted.params,
            "macs": counted.macs,
            "sha256": files.sha256(path),
            "bytes": made.bytes,
            "zip_bytes": made.zip_bytes,
            "activation_bytes": made.activation_bytes,
            "arena_bytes": made.arena_bytes,
        }
        keras_file = str(keras_file.relative_to(self.workdir))
        return {"spec": json.loads(json.dumps(spec)), "keras_file": keras_file, "row": row}

    def measured(self, made: dict[str, Made]) -> Result:
        """Times all variants against the first and writes the result, or reads back what is there."""
        path, (first, *_) = self.workdir / "result.json", made
        if kept := self._kept(path, made):
            self.say(
                f"{path} has measured these files on {kept.date[:10]}; remove it to do it again"
            )
            return kept
        self.say(f"measure the latency of {len(made)} variants, interleaved")
        started = time.perf_counter()
        compared = bench.compare([m.tflite_file for m in made.values()])
        result = Result.new(self.config["name"])
        for (name, variant), latency in zip(made.items(), compared.rows, strict=True):
            result.add_row(name=name, **variant.row, **latencies.columns(latency, first))
        result.write(path)
        self.console.print(f"measured in {time.perf_counter() - started:.0f} s")
        return result

    def _kept(self, path: pathlib.Path, made: dict[str, Made]) -> Result | None:
        """The result of these very files; None where there is none, or of others."""
        try:
            kept = Result.read(path)
        except ResultError:
            return None
        if kept.name != self.config["name"] or [row["name"] for row in kept.rows] != list(made):
            return None
        rows = zip(kept.rows, made.values(), strict=True)
        if all("p50_ms" in row and m.row.items() <= row.items() for row, m in rows):
            return kept
        return None
