"""Cards and publishing: what leaves this machine, and how."""

from polysense.hub.card import card_of_folder, render_card
from polysense.hub.public import redacted
from polysense.hub.push import push_run, push_stage
from polysense.hub.records import check_metrics, check_stage, lineage, read_metrics, read_stage

__all__ = [
    "card_of_folder",
    "check_metrics",
    "check_stage",
    "lineage",
    "push_run",
    "push_stage",
    "read_metrics",
    "read_stage",
    "redacted",
    "render_card",
]
