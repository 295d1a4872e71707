"""What adding one modality after another needs beyond training one model."""

from polysense.continual.codebook_stage import EWC_SCOPES, CodebookStage, begin_stage, ewc_pattern
from polysense.continual.ewc import OnlineEwc
from polysense.continual.fisher import batch_fisher, normalised, sample_fisher
from polysense.continual.freeze import apply_freezing
from polysense.continual.pseudo_modality import PseudoModality
from polysense.continual.replay import check_replay, draw_replay, join_replay
from polysense.continual.runner import TrainStage, run_stages, stage_details, stage_folders
from polysense.continual.stage import Phase, Stage, stage_keys

__all__ = [
    "EWC_SCOPES",
    "CodebookStage",
    "OnlineEwc",
    "Phase",
    "PseudoModality",
    "Stage",
    "TrainStage",
    "apply_freezing",
    "batch_fisher",
    "begin_stage",
    "check_replay",
    "draw_replay",
    "ewc_pattern",
    "join_replay",
    "normalised",
    "run_stages",
    "sample_fisher",
    "stage_details",
    "stage_folders",
    "stage_keys",
]
