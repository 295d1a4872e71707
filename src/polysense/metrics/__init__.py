"""Scores as pure functions on tensors and tables."""

from polysense.metrics.intervals import mean_interval, proportion_interval, verdict
from polysense.metrics.retrieval import composed, match_ranks, recall_at
from polysense.metrics.zero_shot import accuracy, class_embeddings, mean_average_precision

__all__ = [
    "accuracy",
    "class_embeddings",
    "composed",
    "match_ranks",
    "mean_average_precision",
    "mean_interval",
    "proportion_interval",
    "recall_at",
    "verdict",
]
