"""What the reader of a report must know of the scores: where they decided nothing."""

from collections.abc import Sequence

import numpy as np

from tfeffi.compress.prune.scores import Scores
from tfeffi.surgery import Group, Plan


def note(scores: Scores, free: Sequence[Group], kept: np.ndarray, plan: Plan) -> str:
    """A sentence for each of: ties, channels without a score, layers where surgery is inexact.

    Args:
        scores: the importance of the channels.
        free: the groups that may shrink.
        kept: (classes,) bool: what stays.
        plan: what is done.

    Returns:
        The sentences, empty where there is nothing to say.
    """
    tied = [group.writers[0] for group in free if _is_tied(scores, group.classes, kept)]
    without = [
        group.writers[0]
        for group in free
        if 0 < np.isinf(scores.rank[group.classes]).sum() < group.size
    ]
    found = []
    if tied:
        found.append(
            f"Ties: channels of {_named(tied)} went while others that score the same stayed; the "
            "first in order go first."
        )
    if without:
        found.append(f"Some channels of {_named(without)} have no score; they stay.")
    if plan.inexact:
        reasons = "; ".join(dict.fromkeys(reason for _, reason in plan.inexact))
        found.append(f"Not what the model with these channels masked computes: {reasons}.")
    return " ".join(found)


def _is_tied(scores: Scores, classes: np.ndarray, kept: np.ndarray) -> bool:
    """Whether a channel that goes scores the same as one that stays."""
    pairs = np.stack([scores.rank[classes], scores.ties[classes]], 1)
    gone, stays = pairs[~kept[classes]], pairs[kept[classes]]
    return bool(len(gone) and len(stays)) and not set(map(tuple, gone)).isdisjoint(
        map(tuple, stays[np.isfinite(stays[:, 0])])
    )


def _named(layers: Sequence[str]) -> str:
    more = f" and {len(layers) - 3} more layers" if len(layers) > 3 else ""
    return ", ".join(f'"{layer}"' for layer in layers[:3]) + more
