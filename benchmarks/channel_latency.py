"""How long a convolution takes for every number of channels from 1 to 128: the steps in the curve.

    python benchmarks/channel_latency.py --output=results/channel_latency.json \
        --figure=docs/channel_latency.png

Convolutions 3x3 and 1x1 of n channels into n on an image of 28², in float32 and int8, on one thread of
LiteRT with XNNPACK. All are open in one process and take turns, the order reversed in every other
round; a turn is so many inferences as fill half a millisecond. A row is one convolution: the median over
the rounds with its quartiles. The summary rows compare a count that is no multiple of 8 with the next
one that is, round by round: where their ratio is above 1, the larger convolution is the faster one. And
they say what one channel more costs: more than 8, 24, ..., than 16, 48, ..., than 32, 96.
"""

import statistics
import time

import numpy as np

from tfeffi.bench import roofline_files, runner
from tfeffi.study import pictures
from tfeffi.study.results import Result
from tfeffi.study.turns import quartiles

CASES = tuple((kernel, dtype) for kernel in (3, 1) for dtype in roofline_files.DTYPES)
MULTIPLE = 8
TURN_SECONDS = 5e-4
JUMPS = (8, 16, 32)
FREE = 1.02  # of the time: so much is within the noise of a round


def opened(kernel, dtype, channels, size, threads):
    """The inference of one convolution, ready to be called."""
    content = roofline_files.convolution(channels, channels, kernel, size, dtype)
    interpreter = runner.opened(content, threads, None)
    runner.fill(interpreter, np.random.default_rng(0))
    return interpreter


def measured(counts, size, threads, rounds, say=print):
    """Milliseconds by (kernel, dtype, channels), one a round."""
    models = {
        (kernel, dtype, channels): opened(kernel, dtype, channels, size, threads)
        for channels in counts
        for kernel, dtype in CASES
    }
    times = {key: [] for key in models}
    repeats = {key: _repeats(model.invoke) for key, model in models.items()}
    keys = list(models)
    for number in range(rounds):
        for key in keys if number % 2 == 0 else reversed(keys):
            invoke, many = models[key].invoke, repeats[key]
            start = time.perf_counter()
            for _ in range(many):
                invoke()
            times[key].append(1e3 * (time.perf_counter() - start) / many)
        say(f"round {number + 1} of {rounds}")
    return times


def _repeats(invoke):
    """How many inferences fill a turn, once it is warm."""
    runner.warmed(invoke, 3)
    fastest = min(runner.timed(invoke, 3, 0.0))
    return max(1, round(TURN_SECONDS / fastest))


def rows(times, size, threads):
    """A row a convolution, then a summary for each kernel and type."""
    rounds = len(next(iter(times.values())))
    for (kernel, dtype, channels), values in times.items():
        macs = (channels * kernel * size) ** 2
        ms = quartiles("p50_ms", values)
        yield {
            "name": f"{dtype} {kernel}x{kernel} {channels}", "device": "host", "threads": threads,
            "dtype": dtype, "kernel": kernel, "channels": channels, "image": size, "macs": macs,
            **ms, "rounds": rounds, "gmacs_per_second": 1e-6 * macs / ms["p50_ms"],
        }  # fmt: skip
    for kernel, dtype in CASES:
        yield from _summary(times, kernel, dtype)


def _summary(times, kernel, dtype):
    """What a count between multiples of 8 takes against the next multiple, in this kernel and type."""
    of = {n: values for (k, d, n), values in times.items() if (k, d) == (kernel, dtype)}
    ratios = {
        n: statistics.median(a / b for a, b in zip(of[n], of[padded], strict=True))
        for n in of
        if n % MULTIPLE and n > MULTIPLE and (padded := -(-n // MULTIPLE) * MULTIPLE) in of
    }
    if not ratios:
        return
    yield {
        "name": f"{dtype} {kernel}x{kernel}, between multiples of {MULTIPLE}", "counts": len(ratios),
        "padding_is_free_share": statistics.fmean(one >= 1 / FREE for one in ratios.values()),
        **quartiles("time_over_padded", list(ratios.values())),
        "worst_time_over_padded": max(ratios.values()),
        "worst_channels": max(ratios, key=ratios.get),
        **{f"jump_after_{multiple}": jump for multiple in JUMPS if (jump := _jump(of, multiple))},
    }  # fmt: skip


def _jump(of, multiple):
    """One channel more than k times the multiple, against those; median over the odd k."""
    found = [
        statistics.median(a / b for a, b in zip(of[n + 1], of[n], strict=True))
        for n in range(multiple, max(of), 2 * multiple)
        if n in of and n + 1 in of
    ]
    return statistics.median(found) if found else None


def draw(result, path):
    """Latency above, speed below, against channels; 3x3 on the left, 1x1 on the right."""
    points = [row for row in result.rows if "channels" in row]
    with pictures.figure(path, (10.5, 6.2)) as figure:
        panels = figure.subplots(2, 2, sharex=True)
        for column, kernel in enumerate((3, 1)):
            for colour, dtype in zip(pictures.COLOURS, roofline_files.DTYPES, strict=False):
                of = [row for row in points if (row["kernel"], row["dtype"]) == (kernel, dtype)]
                _curve(panels[0, column], of, "p50_ms", 1e3, colour, dtype)
                _curve(panels[1, column], of, "gmacs_per_second", 1.0, colour, dtype)
            image = f"{points[0]['image']}²"
            panels[0, column].set(
                title=f"{kernel}×{kernel}, n channels into n, {image}", ylabel="µs", yscale="log"
            )
            panels[1, column].set(ylabel="GMAC/s", xlabel="channels n")
            for panel in panels[:, column]:
                panel.set_xticks(range(0, 129, 16))
                panel.set_xticks(range(0, 129, MULTIPLE), minor=True)
                panel.grid(which="minor", axis="x")
                panel.legend(loc="upper left")


def _curve(panel, of, key, factor, colour, label):
    """A line, a dot on each multiple of 8, and the quartiles where they were measured."""
    xs, ys = [row["channels"] for row in of], [factor * row[key] for row in of]
    panel.plot(xs, ys, color=colour, linewidth=1, label=label)
    even = [(x, y) for x, y in zip(xs, ys, strict=True) if x % MULTIPLE == 0]
    panel.plot(*zip(*even, strict=True), "o", color=colour) if even else None
    if of and f"q1_{key}" in of[0]:
        ends = [[factor * row[f"{q}_{key}"] for row in of] for q in ("q1", "q3")]
        panel.fill_between(xs, *ends, color=colour, alpha=0.2, linewidth=0)


def main(_):
    """Measures, writes, draws."""
    from absl import flags

    options = flags.FLAGS
    counts = range(1, options.most_channels + 1)
    times = measured(counts, options.image, options.threads, options.rounds)
    result = Result.new("channel_latency")
    for row in rows(times, options.image, options.threads):
        result.add_row(**row)
    result.write(options.output)
    if options.figure:
        draw(result, options.figure)
    for row in result.rows:
        if "counts" in row:
            print(f"{row['name']}: {row['time_over_padded']:.2f} times the padded one's time")


if __name__ == "__main__":
    from absl import flags

    from tfeffi.tools import app

    flags.DEFINE_string("output", "results/channel_latency.json", "The result file.")
    flags.DEFINE_string("figure", None, "The picture to draw.")
    flags.DEFINE_integer("rounds", 101, "How often each takes its turn.", lower_bound=1)
    flags.DEFINE_integer("threads", 1, "Of the engine.", lower_bound=1)
    flags.DEFINE_integer("image", 28, "Height and width.", lower_bound=1)
    flags.DEFINE_integer("most_channels", 128, "The last count.", lower_bound=1)
    app.run(main)
