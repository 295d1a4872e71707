"""Scores as pure functions on tensors, texts and tables; judges of answers are in `polysense.metrics.judging`."""

from polysense.metrics.captioning import CaptionScore, cider_d
from polysense.metrics.gains import RelativeGains, relative_gain, relative_gains
from polysense.metrics.intervals import UNDECIDED, mean_interval, proportion_interval, verdict
from polysense.metrics.linear_probe import linear_probe
from polysense.metrics.retrieval import composed, match_ranks, recall_at
from polysense.metrics.zero_shot import accuracy, class_embeddings, mean_average_precision

__all__ = [
    "UNDECIDED",
    "CaptionScore",
    "RelativeGains",
    "accuracy",
    "cider_d",
    "class_embeddings",
    "composed",
    "linear_probe",
    "match_ranks",
    "mean_average_precision",
    "mean_interval",
    "proportion_interval",
    "recall_at",
    "relative_gain",
    "relative_gains",
    "verdict",
]
