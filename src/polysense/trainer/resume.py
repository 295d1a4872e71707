"""Whether a checkpoint belongs to the run that wants to go on from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from polysense.errors import CheckpointError
from polysense.modality import JsonValue
from polysense.trainer.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

# Settings that may differ between two starts of a run without changing what is trained.
HARMLESS = {
    "activation_checkpointing",
    "save_every",
    "keep_checkpoints",
    "strict_resume",
    "log_every",
    "eval_every",
    "loader_workers",
    "prefetch",
}

_KINDS = {"skipped_steps": int, "nonfinite_in_row": int, "seconds": int | float, "config": dict, "data": dict}


def check_origin(checkpoint: Checkpoint, now: Mapping[str, JsonValue]) -> None:
    """Refuse a checkpoint of another model; warn of each setting that makes this another run.

    Args:
        checkpoint: the one to go on from.
        now: `frozen_sha256`, `world`, `config` and `data` of the run that starts.

    Raises:
        CheckpointError: its state is not what a training writes, the frozen parameters are not those that the
            checkpoint was trained with, or the run has fewer steps than the checkpoint.
    """
    then = checkpoint.state
    whole = {"seconds": 0.0, **then}  # which early checkpoints lack
    if wrong := [key for key, kind in _KINDS.items() if not isinstance(whole.get(key), kind)]:
        raise CheckpointError(f"its state has no {', '.join(wrong)} that could be used", where=checkpoint.path,
                              fix="Use another checkpoint, or choose another run folder.")  # fmt: skip
    if then.get("frozen_sha256") != now["frozen_sha256"]:
        raise CheckpointError(
            "the frozen parameters of the model are not those that this checkpoint was trained with",
            where=checkpoint.path,
            fix="Start from the same base model and freezing table, or choose another run folder.",
        )
    if checkpoint.step > now["config"]["steps"]:
        fix = "Give more steps or choose another run folder."
        if then.get("world") != now["world"]:  # more of them have fewer steps in an epoch
            fix = f"Start as many processes as before ({then.get('world')}), give more steps or choose another folder."
        raise CheckpointError(
            f"the run has {now['config']['steps']} steps, the checkpoint {checkpoint.step}",
            where=checkpoint.path,
            fix=fix,
        )
    before, after = _flat(then), _flat(now)
    for key in sorted(set(before) | set(after)):
        if before.get(key) != after.get(key):
            logger.warning("resuming with %s = %r, which was %r", key, after.get(key), before.get(key))


def _flat(origin: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    config = {f"loop.{key}": value for key, value in origin.get("config", {}).items() if key not in HARMLESS}
    data = {f"data.{key}": value for key, value in origin.get("data", {}).items()}
    return {"world": origin.get("world"), **config, **data}
