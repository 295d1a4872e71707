"""Data sets of samples with undecoded media, and the mixtures that a training run takes its batches from."""

from polysense.data.columns import ColumnDataset, ColumnMapping
from polysense.data.event_tables import BACKGROUND, EventLayout, EventTable
from polysense.data.manifest import Manifest, resolve_inside
from polysense.data.mixture import Batch, FeatureProcessor, Mixture, SkippedSample, Source
from polysense.data.paraphrases import Paraphrases
from polysense.data.prefetch import Prefetcher
from polysense.data.rng import keyed_rng, sample_rng, step_seed
from polysense.data.samples import MediaRef, Sample, SampleDataset, Subset

__all__ = [
    "BACKGROUND",
    "Batch",
    "ColumnDataset",
    "ColumnMapping",
    "EventLayout",
    "EventTable",
    "FeatureProcessor",
    "Manifest",
    "MediaRef",
    "Mixture",
    "Paraphrases",
    "Prefetcher",
    "Sample",
    "SampleDataset",
    "SkippedSample",
    "Source",
    "Subset",
    "keyed_rng",
    "resolve_inside",
    "sample_rng",
    "step_seed",
]
