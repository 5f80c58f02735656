"""Every command of the window, once: the menus, the tool tips, the list of keys and the buttons of strips all read this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Menu = Literal["file", "edit", "view", "run", "help", ""]


@dataclass(frozen=True, slots=True)
class Command:
    """One thing the window can do."""

    id: str
    """The window's method of this name does it."""
    text: str
    """As in the menu, with its mnemonic."""
    menu: Menu
    keys: tuple[str, ...] = ()
    """Portable key sequences, the first is the one shown."""
    icon: str = ""
    hint: str = ""
    """What it does, for the tool tip, when the text does not say it."""
    group: int = 0
    """A separator stands where the group changes."""
    checkable: bool = False

    @property
    def label(self) -> str:
        """The text without mnemonic and dots."""
        return self.text.replace("&", "").rstrip("…")

    @property
    def tip(self) -> str:
        """Tool tip: hint or label, and the key."""
        words = self.hint or self.label
        return f"{words} ({self.keys[0]})" if self.keys else words


COMMANDS: tuple[Command, ...] = (
    Command("new_session", "&New", "file", ("Ctrl+N",), hint="Start over with the sample sentence"),
    Command("open_session", "&Open…", "file", ("Ctrl+O",), "folder", "Open a session, a text, or your own Q K"),
    Command("save_session", "&Save", "file", ("Ctrl+S",), hint="Save this session", group=1),
    Command("save_session_as", "Save &As…", "file", ("Ctrl+Shift+S",), group=1),
    Command("export", "&Export…", "file", ("Ctrl+E",), "export", "Export this page as a figure or a table", group=2),
    Command("quit", "&Quit", "file", ("Ctrl+Q",), group=3),
    Command("undo", "&Undo", "edit", ("Ctrl+Z",), "undo"),
    Command("redo", "&Redo", "edit", ("Ctrl+Shift+Z", "Ctrl+Y"), "redo"),
    Command("copy", "&Copy Picture", "edit", ("Ctrl+C",), "copy", "Copy this page: picture, SVG and table", group=1),
    Command("copy_table", "Copy &Table", "edit", ("Ctrl+Shift+C",), hint="Copy this page's numbers as a table", group=1),
    Command(
        "pin",
        "&Pin as Baseline",
        "edit",
        ("Ctrl+B",),
        "pin",
        "Keep the measured curves as a baseline to compare with",
        group=1,
        checkable=True,
    ),
    Command("edit_text", "Edit Te&xt…", "edit", ("Ctrl+T",), "text", "Type or paste the text whose attention is shown", group=2),
    Command("preferences", "Pre&ferences…", "edit", ("Ctrl+,",), "settings", group=3),
    Command("page_map", "&Map", "view", ("Ctrl+1",)),
    Command("page_scaling", "&Scaling", "view", ("Ctrl+2",)),
    Command("page_memory", "M&emory", "view", ("Ctrl+3",)),
    Command("toggle_left", "&Left Panel", "view", ("Ctrl+\\",), group=1, checkable=True),
    Command("full_screen", "&Full Screen", "view", ("F11",), group=1, checkable=True),
    Command("reset_layout", "&Reset Layout", "view", group=1),
    Command("focus_n", "Go to Sequence Len&gth", "run", ("Ctrl+L",), hint="Put the cursor into the field of n"),
    Command("halve_n", "&Halve n", "run", ("[",)),
    Command("double_n", "&Double n", "run", ("]",)),
    Command("measure_all", "&Measure All", "run", ("F5",), "play", "Measure every checked variant at this n", group=1),
    Command(
        "page_action",
        "&Sweep or Check",
        "run",
        ("F6",),
        hint="The page's own action: a sweep, an allocation, the next NaN",
        group=1,
    ),
    Command("stop", "S&top", "run", ("Esc",), "stop", "Stop measuring; finished points are kept", group=1),
    Command(
        "calibrate",
        "Measure &Ceilings Again",
        "run",
        group=1,
        hint="Measure this device's FLOP/s and bytes/s anew: what predictions are made of",
    ),
    Command("restart_engine", "&Restart Engine", "run", group=2),
    Command("use_cpu", "Use the &CPU", "run", group=2, hint="Restart the engine on the processor"),
    Command("show_keys", "&Keys", "help", ("F1",)),
    Command("tour", "&Tour", "help", hint="Show the first look again"),
    Command("addons", "&Add-ons…", "help", group=1, hint="GPU parts and torch: add or remove them"),
    Command("diagnostics", "&Diagnostics", "help", group=1, hint="Versions, device and engine, ready to paste into a report"),
    Command("show_log", "Show &Log", "help", group=1),
    Command("about", "A&bout Attnscope", "help", group=2),
)

BY_ID: dict[str, Command] = {command.id: command for command in COMMANDS}

PAGE_KEYS: tuple[tuple[str, str], ...] = (
    ("Arrows (Shift: ×10)", "Map: move the cell"),
    ("+  −  0", "Map: zoom in, zoom out, fit"),
    ("H, Shift+H", "Map: next head, the one before"),
    ("L, Shift+L", "Map: next layer, the one before"),
    ("P", "Map: pool by maximum or by mean"),
    ("X", "Map: swap A and B"),
    ("N", "Map: next needle, the largest weight in view"),
    ("Backspace, Alt+←", "Map: the view before"),
    ("← →", "Scaling: point to point"),
    ("↑ ↓", "Scaling: variant to variant"),
    ("Enter", "Scaling: how the point was measured"),
)
"""Keys that act only while a plot has the focus."""
