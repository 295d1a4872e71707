"""Segmentation of what codes refer to, frame by frame."""

from polysense.models.referring.configuration_referring import ReferringSegmenterConfig
from polysense.models.referring.modeling_referring import ReferringSegmenter

__all__ = ["ReferringSegmenter", "ReferringSegmenterConfig"]
