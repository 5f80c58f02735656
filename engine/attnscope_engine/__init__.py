"""Attention variants on this machine's own hardware: run them, measure them, look at their maps."""

__version__ = "0.1.0"
