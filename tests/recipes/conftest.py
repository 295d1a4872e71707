"""Shared runs; see `fixtures.py`."""

from __future__ import annotations

from tests.recipes.fixtures import incremental, joint, parts

__all__ = ["incremental", "joint", "parts"]
