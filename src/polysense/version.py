"""The version of the library, stated here alone."""

__version__ = "0.1.0"
