"""Attnscope: an oscilloscope for attention."""

__version__ = "0.1.0"
