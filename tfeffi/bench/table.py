"""How long each layer of a model takes: measured one by one, kept on disk, added up.

A layer is exported as a model of its own and timed on the device. What starting an inference takes,
seen on a model that does next to nothing, is subtracted. The sum is not the whole model's latency
(caches are warmer, memory is shared): it tells which layers are slow, and how a change of widths
would move the whole. What is claimed of a whole model is measured on the whole model.
"""

import dataclasses
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
from tfeffi.bench import one_layer, runner
from tfeffi.bench.latency import Latency, benchmark
from tfeffi.errors import BadInput
from tfeffi.export import ExportError, convert
from tfeffi.surgery import graph as graphs
from tfeffi.surgery.rebuild import custom_objects

FORMAT = 1  # of the cache: raised when its figures mean something else


@dataclasses.dataclass(frozen=True)
class LayerLatency:
    """One call of a layer.

    Attributes:
        layer: its name, after those of the nested models it is in.
        kind: its class.
        input_shapes: without the batch.
        ms: its median time, less what starting an inference takes; 0 if the converter folds it
            into the layer before.
    """

    layer: str
    kind: str
    input_shapes: tuple[tuple[int | None, ...], ...]
    ms: float


@dataclasses.dataclass(frozen=True)
class Layers:
    """The calls of a model with their times, in its order.

    Attributes:
        rows: one a call.
        device, threads: where it was measured.
    """

    rows: tuple[LayerLatency, ...]
    device: str
    threads: int

    @property
    def ms(self) -> float:
        """The sum."""
        return sum(row.ms for row in self.rows)

    def table(self) -> str:
        """The slowest first, with their share of the sum; calls that take no time are left out."""
        rows = sorted((row for row in self.rows if row.ms > 0), key=lambda row: -row.ms)
        lines = [("layer", "kind", "input", "ms", "share")]
        for row in rows:
            shape = " ".join("x".join(map(str, shape)) for shape in row.input_shapes)
            lines.append((row.layer, row.kind, shape, f"{row.ms:.4f}", f"{row.ms / self.ms:.1%}"))
        widths = [max(len(line[i]) for line in lines) for i in range(5)]
        text = [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        where = f"{self.device}, {self.threads} thread{'s' * (self.threads > 1)}"
        return "\n".join((*text, f"{where}; together {self.ms:.4f} ms"))


class LatencyTable:
    """Latencies of single layers on a device, each measured once and kept in a file.

    Args:
        device: where, as for `tfeffi.bench.benchmark`.
        threads: of the engine.
        cache: the folder of the file, one for each device, processor, engine and number of threads;
            default `~/.cache/tfeffi/latency` (`$XDG_CACHE_HOME` is obeyed).
        min_runs, min_seconds: of each measurement.

    Raises:
        BadInput: there is no such device, or threads below 1.

    Example:
        print(LatencyTable().of(model).table())     # which layers are slow
    """

    def __init__(
        self,
        device: str = "host",
        threads: int = 1,
        cache: str | os.PathLike | None = None,
        *,
        min_runs: int = 100,
        min_seconds: float = 0.1,
    ):
        self.device, self.threads = device, threads
        self._timing = {"min_runs": min_runs, "min_seconds": min_seconds}
        self.measured = 0  # how many layers were not in the cache
        self.unmeasured: dict[str, str] = {}  # layers that cannot be a model of their own, and why
        start = self._bench(runner.WARM_UP)
        self.overhead_ms = start.p50_ms
        self.identity = {
            "format": FORMAT, "device": device, "threads": threads, "engine": start.engine,
            "cpu": start.cpu, "machine": start.machine, "cores": start.cores,
        }  # fmt: skip
        text = json.dumps(self.identity, sort_keys=True)
        name = f"{device.partition(':')[0]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        self.path = pathlib.Path(cache).expanduser() / name if cache else _home() / name
        self._known = self._read()

    def layer_ms(
        self,
        layer: keras.Layer | Mapping[str, Any],
        *input_shapes: Sequence[int],
        arguments: Any = None,
        custom_objects: Mapping[str, type] | None = None,
    ) -> float:
        """The median time of one layer, less what starting an inference takes.

        Args:
            layer: a Keras layer, or its serialized config {"class_name", "config"}.
            input_shapes: one an input, without the batch.
            arguments: of its call, as `tfeffi.surgery.graph.Call` has them, if it is not called
                on its inputs alone.
            custom_objects: layer classes that Keras does not know.

        Returns:
            Milliseconds; 0 for a layer that cannot be exported by itself (`unmeasured` says why).

        Raises:
            ModelError: the device cannot run it.

        Example:
            table.layer_ms(keras.layers.Conv2D(32, 3), (28, 28, 1))
        """
        if isinstance(layer, keras.Layer):
            layer = keras.saving.serialize_keras_object(layer)
        key = one_layer.key(layer, arguments, input_shapes)
        if key not in self._known:
            what = f"{layer['class_name']} on {' '.join(str(tuple(s)) for s in input_shapes)}"
            try:
                model = one_layer.build(layer, arguments, input_shapes, custom_objects)
                content = convert.convert(model, convert.specs(model, 1, None), None)
            except (ExportError, ValueError, TypeError, NotImplementedError) as error:
                self.unmeasured[what] = (str(error).strip().splitlines() or ["?"])[0]
                return 0.0
            found = self._bench(content)
            self.measured += 1
            self._known[key] = {"layer": what, "ms": max(0.0, found.p50_ms - self.overhead_ms)}
            self._write()
        return self._known[key]["ms"]

    def of(self, model: keras.Model) -> Layers:
        """The layers of a model, each call with its time.

        Args:
            model: a functional or built Sequential model whose input shapes are known.

        Raises:
            BadInput: the model is subclassed or not built, or its input shape is open.
        """
        graph = graphs.read(model)
        free, custom, rows = one_layer.folded(graph), custom_objects(graph), []
        for place, call in enumerate(graph.calls):
            shapes = tuple(shape_of(graph, tensor) for tensor in call.inputs)
            ms = 0.0
            if place not in free:
                ms = self.layer_ms(
                    call.layer.entry, *shapes, arguments=call.arguments, custom_objects=custom
                )
            rows.append(LayerLatency(call.layer.path, call.layer.kind, shapes, ms))
        return Layers(tuple(rows), self.device, self.threads)

    def model_ms(self, model: keras.Model) -> float:
        """The median time of the whole model, exported in float32 and measured now, not kept."""
        model = convert.in_float32(model)
        return self._bench(convert.convert(model, convert.specs(model, 1, None), None)).p50_ms

    def _bench(self, content: bytes) -> Latency:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "layer.tflite"
            path.write_bytes(content)
            return benchmark(path, device=self.device, threads=self.threads, **self._timing)

    def _read(self) -> dict[str, dict[str, Any]]:
        """What the file holds; nothing if there is none, or one that cannot be used."""
        if not self.path.exists():
            return {}
        try:
            content = json.loads(self.path.read_text())
            layers = content["layers"]
            if content["identity"] != self.identity or not all(
                isinstance(row["ms"], float) and row["ms"] >= 0 for row in layers.values()
            ):
                raise ValueError
            return layers
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            warnings.warn(
                f'latency table: "{self.path}" is damaged; its layers are measured again',
                stacklevel=3,
            )
            return {}

    def _write(self) -> None:
        """Whole or not at all, together with what another process may have added meanwhile."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._known = {**self._read(), **self._known}
        files.write_json(self.path, {"identity": self.identity, "layers": self._known})


def shape_of(graph: graphs.Graph, tensor: int) -> tuple[int, ...]:
    """The shape of a tensor without the batch.

    Raises:
        BadInput: it is open.
    """
    shape = graph.shapes[tensor]
    if shape is None or None in shape[1:]:
        raise BadInput(
            f'latency table: model "{graph.model.name}" leaves the shape {shape} open; build it '
            "with an input whose sizes are known"
        )
    return tuple(shape[1:])


def _home() -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(home).expanduser() / "tfeffi" / "latency"
