"""Training: the loop, precision, schedules, checkpoints.

    trained = tfeffi.train.fit(model, images, validation, Settings(epochs=10, precision="mixed_bfloat16"))
    result = tfeffi.train.run(config, "runs/mine")            # what tfeffi-train does with a config file

`loop.fit` tells the story from top to bottom; every other file is one noun of it.
"""

from tfeffi.train.evaluation import evaluate
from tfeffi.train.experiment import run
from tfeffi.train.loop import Diverged, Trained, fit
from tfeffi.train.settings import Settings

__all__ = ["Diverged", "Settings", "Trained", "evaluate", "fit", "run"]
