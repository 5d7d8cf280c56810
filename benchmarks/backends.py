r"""TensorFlow, JAX or PyTorch: the same Keras model and step under each backend, and tfeffi's loop.

    python -m venv /tmp/backends
    /tmp/backends/bin/pip install keras==3.15.1 jax torch==2.13.0
    python benchmarks/backends.py --python=/tmp/backends/bin/python --output=results/backends.json

ResNets for CIFAR-10, SGD with momentum, one saved `.keras` file for all. Each candidate is a process of
its own that stays alive: `model.fit` on arrays in memory, compiled as Keras does by default, and tfeffi's
loop. They are asked in turn for a burst of steps, round after round; the speed-up is the median over the
rounds of the time of `fit` on TensorFlow in float32 against a candidate's own, with its quartiles. The
time of `fit` is that of its epoch: where it returns, a thread of TensorFlow's input pipeline may wait for
seconds (10 ms, doubled until they are more than the epoch took), once an epoch. `warmup_seconds` are the
first step and the first burst: reading the model, for tfeffi importing it, tracing, compiling. Keras
compiles TensorFlow and JAX with XLA and leaves Torch eager; "no jit" and "torch.compile" are the other
choice of `jit_compile`, for JAX and Torch with the smallest network only.

That all take the same step is checked before the clock starts: from the same weights, on the same
batch, the losses of three steps must be TensorFlow's in float32. The third tells whether the momentum is
the same. `loss_gap` is the largest difference, as a part of how far that loss moved. JAX and Torch are
no dependencies of tfeffi: without --python their rows are left out.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

STOCK = "tensorflow float32"
SIZES = {  # depth, width, images a step, steps a turn
    "small": (8, 8, 128, 24),
    "width 16": (20, 16, 128, 8),
    "width 64": (20, 64, 64, 4),
}
TOLERANCE = {"float32": 2e-3, "mixed_bfloat16": 0.08}  # of how far the loss moved
RATE, MOMENTUM, CHECKED = 0.05, 0.9, 3


# -- in the process of a candidate, which may know Keras and its backend only -----------------------
class Stock:
    """`model.fit` as a user writes it."""

    def __init__(self, path, images, labels, batch, jit):
        import keras

        self.model, self.batch = keras.saving.load_model(path, compile=False), batch
        self.images, self.labels = images.astype("float32") / 255, labels
        self.model.compile(
            keras.optimizers.SGD(RATE, momentum=MOMENTUM),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"], jit_compile=jit,
        )  # fmt: skip

    def step(self):
        """One step on the first batch; its loss."""
        self.model.reset_metrics()  # else the loss is the mean since the start
        first = (self.images[: self.batch], self.labels[: self.batch])
        return float(self.model.train_on_batch(*first, return_dict=True)["loss"])

    def burst(self):
        """The seconds of a step on every batch."""
        import keras

        at = {}
        clock = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: at.update(begin=time.perf_counter()),
            on_epoch_end=lambda epoch, logs: at.update(
                loss=float(logs["loss"]), end=time.perf_counter()
            ),
        )
        self.model.fit(
            self.images, self.labels, batch_size=self.batch, epochs=1, shuffle=False, verbose=0,
            callbacks=[clock],
        )  # fmt: skip
        return at["end"] - at["begin"]


class Ours:
    """tfeffi's loop: its pipeline, its step."""

    def __init__(self, path, images, labels, batch, precision):
        from tfeffi import models
        from tfeffi.data import Images
        from tfeffi.train import Settings, loop

        settings = Settings(
            batch_size=batch, learning_rate=RATE, schedule={"name": "constant"},
            optimizer={"name": "sgd", "momentum": MOMENTUM}, precision=precision,
        )  # fmt: skip
        self.data = Images(
            images=images, labels=labels, num_classes=10, class_names=tuple("0123456789"),
            name="random", split="train",
        )  # fmt: skip
        self.run, self.batch = loop.begin(models.load(path), self.data, None, settings), batch
        self.take = loop.CompiledStep(self.run)

    def step(self):
        """One step on the first batch; its loss."""
        before = float(self.run.totals.loss)
        pixels = self.data.images[: self.batch].astype("float32") / 255
        self.take(pixels, self.data.labels[: self.batch].astype("int32"))
        return float(self.run.totals.loss) - before

    def burst(self):
        """The seconds of a step on every batch, and of the pipeline's start."""
        from tfeffi.data import pipeline

        started = time.perf_counter()
        for batch in pipeline(self.data, self.batch, training=True):
            self.take(*batch)
        float(self.run.totals.loss)
        return time.perf_counter() - started


def worker():
    """Answers each line of JSON on stdin with one on stdout: first a candidate, then its turns."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    asked = json.loads(sys.stdin.readline())
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (asked["burst"] * asked["batch"], 32, 32, 3), "uint8")
    labels = rng.integers(0, 10, len(images))
    started = time.perf_counter()
    if asked["backend"] == "tfeffi":
        made = Ours(asked["path"], images, labels, asked["batch"], asked["precision"])
    else:
        made = Stock(asked["path"], images, labels, asked["batch"], asked["jit"])
    losses = [made.step()]
    warmup = time.perf_counter() - started
    losses += [made.step() for _ in range(CHECKED - 1)]
    warmup += made.burst()
    library = sys.modules[keras.backend.backend()]
    answer = {"losses": losses, "warmup_seconds": warmup, "version": library.__version__}
    print(json.dumps(answer | {"keras": keras.__version__}), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": made.burst()}), file=answers, flush=True)


# -- in the process that asks -----------------------------------------------------------------------
class Candidate:
    """The process of one candidate; a call takes a burst of steps, and `seconds` has the times of all.

    Args:
        python: the interpreter.
        backend: "tensorflow", "jax", "torch" or "tfeffi".
        asked: path, batch, burst, precision, and jit, which is "auto" unless given.
    """

    def __init__(self, python, backend, **asked):
        self.python, self.backend, self.seconds = python, backend, []
        keras_backend = "tensorflow" if backend == "tfeffi" else backend
        environment = {**os.environ, "KERAS_BACKEND": keras_backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with it)
        command = [python, os.path.abspath(__file__), "worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.said}
        try:
            self.process = subprocess.Popen(command, text=True, env=environment, **pipes)
        except OSError as error:
            raise _bad(f'--python="{python}" does not run: {error.strerror}') from None
        try:
            self.told = self._ask({"backend": backend, "jit": "auto", **asked})
        except BaseException:
            self.close()
            raise

    def __call__(self):
        self.seconds.append(self._ask({})["seconds"])

    def _ask(self, request):
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.said.seek(0)
            lines = [line.strip() for line in self.said if line.strip()] or ["nothing"]
            raise _bad(
                f"the process of {self.backend} ended: {lines[-1]}; --python needs keras, jax and "
                "torch, see the top of benchmarks/backends.py"
            )
        return json.loads(answer)

    def peak_memory_mb(self):
        """Of the process, from its start to now."""
        from tfeffi.analysis.memory import peak_memory_mb

        return peak_memory_mb(self.process.pid)

    def close(self):
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.said.close()


def _bad(text):
    from tfeffi.errors import BadInput

    return BadInput(text)


def wanted(size, python):
    """What takes turns: {name: (interpreter, backend, precision, jit)}."""
    found = {}
    backends = {"tensorflow": sys.executable, "jax": python, "torch": python}
    for precision in TOLERANCE:
        for backend, interpreter in backends.items():
            found[f"{backend} {precision}"] = (interpreter, backend, precision, "auto")
        found[f"tfeffi {precision}"] = (sys.executable, "tfeffi", precision, "auto")
        found[f"tensorflow {precision}, no jit"] = (sys.executable, "tensorflow", precision, False)
    if size == "small":
        found["jax float32, no jit"] = (python, "jax", "float32", False)
        found["torch float32, torch.compile"] = (python, "torch", "float32", True)
    return {name: one for name, one in found.items() if one[0]}


def gap(losses, reference):
    """The largest difference of two lists of losses, as a part of how far the second moved."""
    import numpy as np

    apart = np.abs(np.subtract(losses, reference)).max()  # NaN if one is
    return float(apart / abs(reference[-1] - reference[0]))


def same_step(name, losses, reference, precision):
    """The gap to the reference; BadInput if it is more than rounding."""
    found = gap(losses, reference)
    if not found <= TOLERANCE[precision]:
        raise _bad(
            f"{name} does not take the step of {STOCK}: losses {losses} in place of {reference}"
        )
    return found


def saved(depth, width, folder):
    """The network in each precision, as files: {precision: path}; and its multiply-adds."""
    import keras

    from tfeffi import models
    from tfeffi.analysis.cost import cost
    from tfeffi.train.precision import recast

    keras.utils.set_random_seed(0)
    model = models.build(
        "resnet_cifar", depth=depth, width=width, input_shape=(32, 32, 3), num_classes=10
    )
    paths = {precision: f"{folder}/{precision}.keras" for precision in TOLERANCE}
    for precision, path in paths.items():
        recast(model, precision).save(path)
    return paths, cost(model).macs


def rows(size, candidates, shape, rounds):
    """The rows of a network: every candidate built, checked, timed in turns.

    Args:
        size: what the network is called.
        candidates: of `wanted`.
        shape: depth, width, images a step, steps a turn.
        rounds: how often each takes its turn.
    """
    import contextlib

    from tfeffi.study.turns import interleaved, quartiles, speedup

    depth, width, batch, burst = shape
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        paths, macs = saved(depth, width, folder)
        turns = {}
        for name, (python, backend, precision, jit) in candidates.items():
            print(f"{size}: starting {name}", flush=True)
            turns[name] = Candidate(
                python, backend, path=paths[precision], batch=batch, burst=burst,
                precision=precision, jit=jit,
            )  # fmt: skip
            stack.callback(turns[name].close)
        reference = turns[STOCK].told["losses"]
        gaps = {
            name: same_step(name, turn.told["losses"], reference, candidates[name][2])
            for name, turn in turns.items()
        }
        interleaved(turns, rounds, lambda at: print(f"{size}: {at}", flush=True))
        steps = {name: [one / burst for one in turn.seconds] for name, turn in turns.items()}
        for name, values in steps.items():
            step = quartiles("step_ms", [1e3 * one for one in values])
            told, (_, backend, precision, _) = turns[name].told, candidates[name]
            yield {
                "name": f"{size} {name}", "backend": backend, "precision": precision,
                "depth": depth, "width": width, "batch_size": batch, "n": rounds, **step,
                **speedup(values, steps[STOCK]), "ratio_to": f"{size} {STOCK}",
                "images_per_second": 1e3 * batch / step["step_ms"],
                "step_macs": 3 * batch * macs, "macs": macs,
                "gmacs_per_second": 3e-6 * batch * macs / step["step_ms"],
                "warmup_seconds": told["warmup_seconds"],
                "peak_memory_mb": turns[name].peak_memory_mb(),
                "loss_gap": gaps[name], "losses": told["losses"],
                "keras_version": told["keras"], "backend_version": told["version"],
            }  # fmt: skip


def main(_):
    from absl import flags

    from tfeffi.study.results import Result

    options, result = flags.FLAGS, Result.new("backends")
    if not options.python:
        print("no --python: JAX and Torch are left out; see the top of this file")
    for size in options.sizes:
        candidates = wanted(size, options.python)
        for row in rows(size, candidates, SIZES[size], options.rounds):
            result.add_row(**row)
            print(f"{row['name']:45} {row['step_ms']:8.1f} ms  {row['speedup']:.2f}x", flush=True)
    result.write(options.output)


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        worker()
    else:
        from absl import flags

        from tfeffi.tools import app

        flags.DEFINE_string("output", "results/backends.json", "The result file.")
        flags.DEFINE_integer("rounds", 9, "How often each takes its turn.", lower_bound=1)
        flags.DEFINE_string("python", None, "A Python with keras, jax and torch.")
        flags.DEFINE_multi_enum("sizes", list(SIZES), list(SIZES), "Which networks.")
        app.run(main)
