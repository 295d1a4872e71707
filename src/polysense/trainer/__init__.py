"""The one training loop, its checkpoints, and what objectives need to run in several processes."""

from polysense.storage import FileSystem, atomic_folder, verify_folder, write_manifest
from polysense.trainer.config import LoopConfig
from polysense.trainer.distributed import any_rank, gather_with_grad, rank, world_size
from polysense.trainer.hooks import Hooks, LoopState, TrainingResult
from polysense.trainer.lock import FolderLock
from polysense.trainer.loop import train
from polysense.trainer.objective import Feed, Objective, StatefulObjective, TrainingBatch, zero_touch

__all__ = [
    "Feed",
    "FileSystem",
    "FolderLock",
    "Hooks",
    "LoopConfig",
    "LoopState",
    "Objective",
    "StatefulObjective",
    "TrainingBatch",
    "TrainingResult",
    "any_rank",
    "atomic_folder",
    "gather_with_grad",
    "rank",
    "train",
    "verify_folder",
    "world_size",
    "write_manifest",
    "zero_touch",
]
