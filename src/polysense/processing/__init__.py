"""Raw files to features, one module per modality; importing it registers the built-in modalities.

Depends on NumPy, SciPy, torch, Pillow, soundfile, PyAV, fpsample, plyfile, pypcd4 and the tokenizers of transformers.
"""

from __future__ import annotations

from polysense.modality import Modality, register_modality
from polysense.processing.base import Facts, ModalityProcessor, processor_for
from polysense.processing.depth import DepthProcessor
from polysense.processing.image import GridProcessor, ImageProcessor
from polysense.processing.text import TextProcessor

__all__ = [
    "DepthProcessor",
    "Facts",
    "GridProcessor",
    "ImageProcessor",
    "ModalityProcessor",
    "TextProcessor",
    "processor_for",
]

register_modality(Modality(name="image", kind="grid", channels=3), ImageProcessor)
register_modality(Modality(name="text", kind="text", channels=1), TextProcessor)
register_modality(Modality(name="depth", kind="grid", channels=1), DepthProcessor)
