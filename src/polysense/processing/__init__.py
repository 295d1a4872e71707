"""Raw files to features, one module per sense; importing it registers the built-in modalities.

Depends on NumPy, SciPy, torch, torch-quickfps, Pillow, soundfile, PyAV, plyfile, pypcd4 and transformers' tokenizers.
"""

from __future__ import annotations

from polysense.modality import Modality, register_modality, registered_modalities
from polysense.processing.audio import AudioProcessor
from polysense.processing.base import Facts, ModalityProcessor, processor_for
from polysense.processing.cached import CachedFeatures, Memory
from polysense.processing.depth import DepthProcessor
from polysense.processing.image import GridProcessor, ImageProcessor
from polysense.processing.point_cloud import PointCloudProcessor
from polysense.processing.sequence import Fit, SequenceProcessor, fit_steps
from polysense.processing.speech import SpeechProcessor
from polysense.processing.text import TextProcessor, read_text
from polysense.processing.video import VideoProcessor

__all__ = [
    "BUILT_IN",
    "AudioProcessor",
    "CachedFeatures",
    "DepthProcessor",
    "Facts",
    "Fit",
    "GridProcessor",
    "ImageProcessor",
    "Memory",
    "ModalityProcessor",
    "PointCloudProcessor",
    "SequenceProcessor",
    "SpeechProcessor",
    "TextProcessor",
    "VideoProcessor",
    "fit_steps",
    "processor_for",
    "read_text",
]

register_modality(Modality(name="image", kind="grid", channels=3), ImageProcessor)
register_modality(Modality(name="text", kind="text", channels=1), TextProcessor)
register_modality(Modality(name="video", kind="frames", channels=3), VideoProcessor)
register_modality(Modality(name="audio", kind="spectrogram", channels=1), AudioProcessor)
register_modality(Modality(name="speech", kind="spectrogram", channels=1), SpeechProcessor)
register_modality(Modality(name="depth", kind="grid", channels=1), DepthProcessor)
register_modality(Modality(name="point_cloud", kind="points", channels=3), PointCloudProcessor)

BUILT_IN = registered_modalities()
"""The senses that every process knows, whatever its user registers."""
