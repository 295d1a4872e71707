"""A sense that the library does not know, for the chain of six: the README's own walk-through, as a module."""

from polysense import Modality, register_modality
from polysense.processing import GridProcessor

to_celsius = {"scale": 0.01, "offset": -273.15, "mean": [21.0], "std": [6.0]}
thermal = Modality(name="thermal", kind="grid", channels=1, tokenizer={"patch_size": 8}, processor=to_celsius)
register_modality(thermal, GridProcessor)
