"""Heads on frozen code sequences: what is learned from one sense and then used on another."""

from polysense.nn.heads.event_classifier import EventClassifier
from polysense.nn.heads.event_localiser import EventLocaliser

__all__ = ["EventClassifier", "EventLocaliser"]
