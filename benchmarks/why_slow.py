"""Why are two networks slow? Their operators against what this machine can do.

    python benchmarks/why_slow.py --output=results/why_slow.json --figure=docs/roofline.png

ResNet-8 of MLPerf Tiny (images of 32²) and MobileNetV2 0.35 (96²), in float32 and int8, one thread of
LiteRT, each profiled by `tfeffi.bench.profile` and timed without a profiler too. The weights are random:
times do not depend on them. The first row is the machine, measured in the profile with the fastest
convolutions; then a row a file; then the ten operators of each that lose most against the roofline, and
what to do about them. The picture is of MobileNetV2 in int8.
"""

import collections
import pathlib
import tempfile

from tfeffi import bench
from tfeffi.study import roofline_picture
from tfeffi.study.results import Result

NETWORKS = {"resnet8": 32, "mobilenet_v2": 96}  # and the height and width of their images
DTYPES = ("float32", "int8")
DRAWN = ("mobilenet_v2", "int8")
CLASSES = 10


def build(name):
    """A network with random weights."""
    import keras

    from tfeffi import models

    keras.utils.set_random_seed(0)
    shape = (NETWORKS[name], NETWORKS[name], 3)
    if name == "resnet8":
        return models.build("resnet8_mlperf_tiny", input_shape=shape, num_classes=CLASSES)
    return keras.applications.MobileNetV2(
        weights=None, input_shape=shape, alpha=0.35, classes=CLASSES
    )


def exported(model, dtype, path):
    """The file of a network, int8 at its ends too; untrained, its classes need not agree."""
    import numpy as np

    import tfeffi

    if dtype == "float32":
        return tfeffi.export(model, path, tolerance=1.0)
    images = np.random.default_rng(0).random((32, *model.input_shape[1:]), np.float32)
    return tfeffi.export(
        model, path, quantize="int8", calibration=images, integer_io=True, min_agreement=0.0,
        tolerance=10.0,
    )  # fmt: skip


def file_row(name, profile, latency):
    """What a whole file does, and which kinds of operator its time goes into."""
    matched = [row for row in profile.rows if row.operator]
    kinds = collections.Counter()
    for row in profile.rows:
        kinds[row.kind] += row.share
    macs = sum(row.operator.macs for row in matched)
    together = sum(row.ms for row in profile.rows)
    least = sum(row.least_ms for row in matched)
    return {
        "name": name, "device": "host", "threads": profile.threads, "bytes": latency.bytes,
        "zip_bytes": latency.zip_bytes, "activation_bytes": latency.activation_bytes, "macs": macs,
        "p50_ms": latency.p50_ms, "p90_ms": latency.p90_ms, "profiled_ms": profile.ms,
        "operators_ms": together, "least_ms": least, "attained_share": least / together,
        "gmacs_per_second": 1e-6 * macs / latency.p50_ms, "operators": len(matched),
        "builtin": sum(row.ran == "builtin" for row in matched),
        "unmatched": len(profile.rows) - len(matched), "runs": profile.runs,
        "kinds": [f"{kind} {share:.0%}" for kind, share in kinds.most_common(4)],
        **{f"{kind.lower()}_share": kinds[kind] for kind in _SHARES if kind in kinds},
    }  # fmt: skip


_SHARES = ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD")


def worst_rows(name, profile):
    """A row for each of the ten worst operators."""
    for number, row in enumerate(profile.worst(), 1):
        known = {
            "gmacs_per_second": row.macs_per_second and row.macs_per_second / 1e9,
            "attained_share": row.attained, "least_ms": row.least_ms, "bound": row.bound,
            "macs": row.operator and row.operator.macs,
            "bytes_moved": row.operator and row.operator.bytes, "macs_per_byte": row.intensity,
        }  # fmt: skip
        yield {
            "name": f"{name} {number}", "layer": row.name, "operator": row.kind, "ran": row.ran,
            "time_ms": row.ms, "share": row.share, "lost_ms": row.lost_ms,
            "advice": "; ".join(profile.advice(row)),
            **{key: value for key, value in known.items() if value is not None},
        }  # fmt: skip


def measured(folder, threads, min_seconds, say=print):
    """A profile and a latency for each file: {(network, dtype): (profile, latency)}."""
    found = {}
    for name in NETWORKS:
        model = build(name)
        for dtype in DTYPES:
            say(f"{name} {dtype}")
            path = pathlib.Path(folder, f"{name}_{dtype}.tflite")
            exported(model, dtype, path)
            found[name, dtype] = (
                bench.profile(path, model, threads, min_seconds=min_seconds),
                bench.benchmark(path, threads=threads, min_seconds=min_seconds),
            )
    return found


def rows(found):
    """The machine, the files, their worst operators."""
    machines = [profile.machine for profile, _ in found.values()]
    best = max(machines, key=lambda machine: machine.macs_per_second["int8"]).to_json()
    widths = best.pop("bandwidth_gb_per_second")
    yield {"name": "machine", **best, **{f"gb_per_second_at_{k}": v for k, v in widths.items()}}
    for (network, dtype), (profile, latency) in found.items():
        yield file_row(f"{network} {dtype}", profile, latency)
    for (network, dtype), (profile, _) in found.items():
        yield from worst_rows(f"{network} {dtype}", profile)


def main(_):
    """Measures, writes, draws."""
    from absl import flags

    options = flags.FLAGS
    app.import_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(folder, options.threads, options.min_seconds)
    result = Result.new("why_slow")
    for row in rows(found):
        result.add_row(**row)
    result.write(options.output)
    if options.figure:
        roofline_picture.draw(found[DRAWN][0].to_json(), options.figure)


if __name__ == "__main__":
    from absl import flags

    from tfeffi.tools import app

    flags.DEFINE_string("output", "results/why_slow.json", "The result file.")
    flags.DEFINE_string("figure", None, "The picture to draw.")
    flags.DEFINE_integer("threads", 1, "Of the engine.", lower_bound=1)
    flags.DEFINE_float("min_seconds", 3.0, "Of each profile and each latency.", lower_bound=0)
    app.run(main)
