"""Add-ons: what a person may add to the program after it is installed, kept in the data folder and never in the program.

An add-on is a list of pinned wheels (`lock.json`), fetched when asked for, checked, and unpacked into one folder that the
engine puts on its path. No Qt, and nothing outside of the standard library but msgspec and platformdirs: the window and the
command line use the same.
"""

from __future__ import annotations


class AddonError(Exception):
    """It could not be done. The text is a sentence with the way out."""


class AddonCancelled(Exception):
    """Stopped by the person; what is fetched is kept."""
