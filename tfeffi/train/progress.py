"""What a person sees of a run: a bar with images/s and time left, a line an epoch, TensorBoard."""

import contextlib
import pathlib
import sys

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tfeffi.train.state import Run


class Reporter:
    """Reports one run, on standard error and into `folder/tensorboard`.

    Args:
        run: the run.
        folder: where TensorBoard's files go; None writes none.
        verbose: False shows nothing.
    """

    def __init__(self, run: Run, folder: pathlib.Path | None, verbose: bool = True):
        self.run, self.verbose = run, verbose
        self.console = Console(file=sys.stderr)
        self.writer = folder and tf.summary.create_file_writer(str(folder / "tensorboard"))
        self._bar, self._task = None, None

    def __enter__(self):
        if self.verbose and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"), TimeRemainingColumn(), console=self.console,
                transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=self.run.settings.epochs, speed="")
            self._bar.start()
        return self

    def __exit__(self, *_):
        if self._bar:
            self._bar.stop()
        if self.writer:
            self.writer.close()

    def step(self, images_per_second: float) -> None:
        """After a step."""
        if self._bar:
            run = self.run
            self._bar.update(
                self._task, completed=run.epoch + run.epoch_step / run.steps_per_epoch,
                speed=f"{images_per_second:,.0f} images/s",
                description=f"epoch {run.epoch + 1}/{run.settings.epochs}",
            )  # fmt: skip

    def epoch(self, row: dict[str, float], seconds_left: float) -> None:
        """After an epoch: `row` is its line of the history."""
        if self.verbose:
            self.console.print(
                _line(row, self.run.settings.epochs, seconds_left), highlight=False, soft_wrap=True
            )
        with self.writer.as_default() if self.writer else contextlib.nullcontext():
            for key, value in row.items() if self.writer else ():
                tf.summary.scalar(key, value, step=row["epoch"])
        if self.writer:
            self.writer.flush()

    def say(self, text: str) -> None:
        """A line of its own."""
        if self.verbose:
            self.console.print(text, highlight=False, soft_wrap=True)


def _line(row: dict[str, float], epochs: int, seconds_left: float) -> str:
    shown = [f"epoch {row['epoch']:>3}/{epochs}", f"loss {row['loss']:.4f}"]
    shown += [f"{k.replace('_', ' ')} {row[k]:.4f}" for k in row
              if k in ("accuracy", "validation_accuracy", "validation_loss")]  # fmt: skip
    if row.get("skipped_steps"):
        shown.append(f"skipped {row['skipped_steps']} (scale {row['loss_scale']:g})")
    shown.append(f"{row['images_per_second']:,.0f} images/s")
    minutes, seconds = divmod(round(seconds_left), 60)
    return "  ".join([*shown, f"{minutes}:{seconds:02d} left"])
