"""Connectors between a frozen encoder and a language model; importing this registers the built-in kinds."""

from polysense.nn.connectors.base import (
    Connector,
    build_connector,
    connector_kinds,
    connector_options,
    register_connector,
)
from polysense.nn.connectors.mlp import MLPConnector
from polysense.nn.connectors.qformer import QFormerConnector

__all__ = [
    "Connector",
    "MLPConnector",
    "QFormerConnector",
    "build_connector",
    "connector_kinds",
    "connector_options",
    "register_connector",
]
