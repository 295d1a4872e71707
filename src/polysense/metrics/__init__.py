"""Scores as pure functions on tensors, texts and tables; judges of answers are in `polysense.metrics.judging`."""

from polysense.metrics.captioning import CaptionScore, cider_d
from polysense.metrics.codebook_usage import CodeActivation, code_activation, code_counts, perplexity
from polysense.metrics.forgetting import Memory, memories, plasticity
from polysense.metrics.gains import RelativeGains, relative_gain, relative_gains
from polysense.metrics.intervals import UNDECIDED, mean_interval, proportion_interval, verdict
from polysense.metrics.linear_probe import linear_probe
from polysense.metrics.localisation import EventScore, constant_f1, event_score, f1_interval
from polysense.metrics.retrieval import best_match_ranks, composed, match_ranks, recall_at
from polysense.metrics.segmentation import contour_accuracy, region_similarity
from polysense.metrics.zero_shot import accuracy, class_embeddings, mean_average_precision

__all__ = [
    "UNDECIDED",
    "CaptionScore",
    "CodeActivation",
    "EventScore",
    "Memory",
    "RelativeGains",
    "accuracy",
    "best_match_ranks",
    "cider_d",
    "class_embeddings",
    "code_activation",
    "code_counts",
    "composed",
    "constant_f1",
    "contour_accuracy",
    "event_score",
    "f1_interval",
    "linear_probe",
    "match_ranks",
    "mean_average_precision",
    "mean_interval",
    "memories",
    "perplexity",
    "plasticity",
    "proportion_interval",
    "recall_at",
    "region_similarity",
    "relative_gain",
    "relative_gains",
    "verdict",
]
