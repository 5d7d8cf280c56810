"""How long each operator of a model takes: measured one by one, kept on disk, added up.

An operator (with what is fused into it) is taken out of the exported file and timed by itself on the
device, see `tfeffi.bench.groups`; a layer is the operators that it becomes. What starting an inference
takes, seen on a model that does next to nothing, is subtracted, and counted once in a prediction. The
sum tells which parts are slow, and what a change of widths does to the whole. What is claimed of a
model is measured on that model.
"""

import hashlib
import json
import os
import pathlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfeffi import files
from tfeffi.bench import groups, one_layer, runner
from tfeffi.bench.breakdown import LayerLatency, Layers, OperatorLatency, Prediction
from tfeffi.bench.engine import Engine
from tfeffi.bench.latency import Latency, compare
from tfeffi.errors import BadInput, near
from tfeffi.export import ExportError, flatbuffer, litert
from tfeffi.surgery import graph as graphs
from tfeffi.surgery.rebuild import custom_objects

FORMAT = 3  # of the cache: raised when its figures mean something else
QUANTIZE = (None, "int8")  # what layers are exported in


class LatencyTable:
    """Latencies of operators on a device, each measured once and kept in a file.

    Args:
        device: where, as for `tfeffi.bench.benchmark`.
        threads: of the engine.
        cache: the folder of the file, one for each device (each phone, where "adb" is whichever is
            attached), processor, engine and number of threads; default
            `~/.cache/tfeffi/latency` (`$XDG_CACHE_HOME` is obeyed). An entry's name holds the types
            and shapes of its operator, and the memory that the model around it goes through.
        quantize: what Keras layers and models are exported in: None, float32, or "int8", inputs and
            outputs too, calibrated on random values, which makes no difference to time.
        min_runs, min_seconds, rounds: of each measurement, see `tfeffi.bench.compare`.
        engine: what runs it: Google's native program, for a phone without Python; a delegate,
            which processors; default LiteRT in Python.

    Raises:
        BadInput: there is no such device, engine or quantization, or threads below 1.

    Example:
        print(LatencyTable().of(model).table())     # which layers are slow
        LatencyTable().predict("m.tflite").ms       # what its operators add up to
    """

    def __init__(
        self,
        device: str = "host",
        threads: int = 1,
        cache: str | os.PathLike | None = None,
        *,
        quantize: str | None = None,
        min_runs: int = 50,
        min_seconds: float = 0.05,
        rounds: int = 1,
        engine: Engine | None = None,
    ):
        if quantize not in QUANTIZE:
            known = near(str(quantize), [name for name in QUANTIZE if name])
            raise BadInput(f'latency table: unknown quantize "{quantize}"; {known}')
        self.device, self.threads, self.quantize = device, threads, quantize
        engine = engine or Engine()
        self._timing = {
            "min_runs": min_runs, "min_seconds": min_seconds, "rounds": rounds, "engine": engine,
        }  # fmt: skip
        self.measured = 0  # how many operators were not in the cache
        self.unmeasured: dict[str, str] = {}  # layers that cannot be a model of their own, and why
        (start,) = self._bench([("start", runner.WARM_UP)])
        self.overhead_ms = middle_ms(start)
        self.device = start.device  # "adb" stays the phone that it was now
        self.identity = {
            "format": FORMAT, "device": self.device, "threads": threads, "engine": start.engine,
            "cpu": start.cpu, "machine": start.machine, "cores": start.cores, **_asked(engine),
        }  # fmt: skip
        text = json.dumps(self.identity, sort_keys=True)
        name = f"{device.partition(':')[0]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        self.path = pathlib.Path(cache).expanduser() / name if cache else _home() / name
        self._operators, self._layers = self._read()

    def predict(self, model: keras.Model | str | os.PathLike) -> Prediction:
        """What a model would take: its operators' times, and what starting takes, added up.

        Args:
            model: the path of a .tflite of any types, or a Keras model, which is exported as the
                table says.

        Raises:
            ModelError: the file cannot be read, has control flow, or the device cannot run a part.
            BadInput: an input shape other than the batch is open.

        Example:
            print(LatencyTable("adb").predict("m.tflite").table())
        """
        if isinstance(model, keras.Model):
            content = one_layer.exported(model, self.quantize)
        else:
            if custom := flatbuffer.inspect(model).custom:
                raise flatbuffer.ModelError(litert.needs_custom(model, custom[0]))
            content = flatbuffer.read(model)
        program = groups.Program(content)
        size = groups.rounded(program.memory)
        self._fill(program, size)
        rows = tuple(
            OperatorLatency(group.kind, group.key, self._operators[_entry(group.key, size)]["ms"])
            for group in program.groups
        )
        return Prediction(rows, self.overhead_ms, self.device, self.threads)

    def layer_ms(
        self,
        layer: keras.Layer | Mapping[str, Any],
        *input_shapes: Sequence[int],
        arguments: Any = None,
        custom_objects: Mapping[str, type] | None = None,
        memory: int | None = None,
    ) -> float:
        """The median time of one layer, less what starting an inference takes.

        Args:
            layer: a Keras layer, or its serialized config {"class_name", "config"}.
            input_shapes: one an input, without the batch.
            arguments: of its call, as `tfeffi.surgery.graph.Call` has them, if it is not called
                on its inputs alone.
            custom_objects: layer classes that Keras does not know.
            memory: the bytes that the model around it goes through, see
                `one_layer.memory_of`; default the layer's own.

        Returns:
            Milliseconds; 0 for a layer that cannot be exported by itself (`unmeasured` says why).

        Raises:
            ModelError: the device cannot run it.

        Example:
            table.layer_ms(keras.layers.Conv2D(32, 3), (28, 28, 1))
        """
        if isinstance(layer, keras.Layer):
            layer = keras.saving.serialize_keras_object(layer)
        key = f"{self.quantize or 'float32'} {one_layer.key(layer, arguments, input_shapes)}"
        if (ms := self._known_ms(key, memory)) is not None:
            return ms
        what = f"{layer['class_name']} on {' '.join(str(tuple(s)) for s in input_shapes)}"
        try:
            model = one_layer.build(layer, arguments, input_shapes, custom_objects)
            content = one_layer.exported(model, self.quantize)
        except (ExportError, ValueError, TypeError, NotImplementedError) as error:
            self.unmeasured[what] = (str(error).strip().splitlines() or ["?"])[0]
            return 0.0
        program = groups.Program(content)
        self._layers[key] = {
            "layer": what,
            "memory": program.memory,
            "operators": [group.key for group in program.groups],
        }
        self._fill(program, groups.rounded(memory or program.memory))
        return self._known_ms(key, memory)

    def of(self, model: keras.Model) -> Layers:
        """The layers of a model, each call with its time.

        Args:
            model: a functional or built Sequential model whose input shapes are known.

        Raises:
            BadInput: the model is subclassed or not built, or its input shape is open.
        """
        graph = graphs.read(model)
        free, custom, rows = one_layer.folded(graph), custom_objects(graph), []
        memory = one_layer.memory_of(graph, self.quantize)
        for place, call in enumerate(graph.calls):
            shapes = tuple(one_layer.shape_of(graph, tensor) for tensor in call.inputs)
            ms = 0.0
            if place not in free:
                ms = self.layer_ms(
                    call.layer.entry, *shapes, arguments=call.arguments, custom_objects=custom,
                    memory=memory,
                )  # fmt: skip
            rows.append(LayerLatency(call.layer.path, call.layer.kind, shapes, ms))
        return Layers(tuple(rows), self.device, self.threads)

    def model_ms(self, model: keras.Model) -> float:
        """The median time of the whole model, exported as the table says and measured now, not kept."""
        return middle_ms(*self._bench([("model", one_layer.exported(model, self.quantize))]))

    def _known_ms(self, key: str, memory: int | None) -> float | None:
        """A layer's time from what is known; None if something is not."""
        if key not in self._layers:
            return None
        layer = self._layers[key]
        size = groups.rounded(memory or layer["memory"])
        rows = [self._operators.get(_entry(one, size)) for one in layer["operators"]]
        return None if None in rows else float(sum(row["ms"] for row in rows))

    def _fill(self, program: groups.Program, size: int) -> None:
        """Measures what the table lacks of a program that goes through so many bytes."""
        missing = {
            _entry(group.key, size): group
            for group in program.groups
            if _entry(group.key, size) not in self._operators
        }
        counts = [groups.copies(group, size) for group in missing.values()]
        made = (
            (one.kind.replace("/", "_"), program.alone(one, count))
            for one, count in zip(missing.values(), counts, strict=True)
        )
        found = self._bench(made) if missing else []
        for entry, count, row in zip(missing, counts, found, strict=True):
            ms = max(0.0, (middle_ms(row) - self.overhead_ms) / count)
            self._operators[entry] = {"ms": ms, "copies": count}
            self.measured += 1
        self._write()

    def _bench(self, files_by_name) -> tuple[Latency, ...]:
        """Of pairs of a name, which an error then shows, and a flatbuffer."""
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for number, (name, content) in enumerate(files_by_name):
                paths.append(pathlib.Path(folder) / f"{number} {name}.tflite")
                paths[-1].write_bytes(content)
            return compare(paths, device=self.device, threads=self.threads, **self._timing).rows

    def _read(self) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """What the file holds: operators, layers; nothing if there is none, or one of no use."""
        if not self.path.exists():
            return {}, {}
        try:
            content = json.loads(self.path.read_text())
            operators, layers = content["operators"], content["layers"]
            whole = content["identity"] == self.identity
            whole &= all(isinstance(r["ms"], float) and r["ms"] >= 0 for r in operators.values())
            if not whole or not all(map(_is_layer, layers.values())):
                raise ValueError
            return operators, layers
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            warnings.warn(
                f'latency table: "{self.path}" is damaged; its operators are measured again',
                stacklevel=3,
            )
            return {}, {}

    def _write(self) -> None:
        """Whole or not at all, together with what another process may have added meanwhile."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            operators, layers = self._read()
        self._operators, self._layers = operators | self._operators, layers | self._layers
        kept = {"operators": self._operators, "layers": self._layers}
        files.write_json(self.path, {"identity": self.identity, **kept})


def _asked(engine: Engine) -> dict[str, Any]:
    """What is asked of an engine that changes its times; nothing of the usual one.

    Native programs have one name and no version: what is in the file tells them apart.
    """
    asked = {
        "cpu_affinity": engine.cpu_affinity, "xnnpack": engine.xnnpack, "gpu": engine.gpu or None,
        "nnapi": engine.nnapi or None,
    }  # fmt: skip
    for name in ("binary", "external_delegate"):
        if path := getattr(engine, name):
            asked[name] = files.sha256(path) if os.path.isfile(path) else os.fspath(path)
    return {name: value for name, value in asked.items() if value is not None}


def _entry(operator: str, size: int) -> str:
    return f"{size} B: {operator}"


def middle_ms(row: Latency) -> float:
    """The median, or the mean, which is all that some native programs tell."""
    return row.mean_ms if row.p50_ms is None else row.p50_ms


def _is_layer(row) -> bool:
    return isinstance(row["memory"], int) and all(isinstance(o, str) for o in row["operators"])


def _home() -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(home).expanduser() / "tfeffi" / "latency"
