"""What the Scaling page shows, over which range it sweeps, and the sweep's button."""

from __future__ import annotations

from attnscope_engine.protocol import MAX_SEQ_LEN, MIN_SEQ_LEN
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLabel

from attnscope.panels.controls import KeyButton, NumberField, Segments
from attnscope.plots.page_toolbar import PageToolbar
from attnscope.state import State
from attnscope.store import Store
from attnscope.theme import Theme, font

QUANTITIES = (("time", "time"), ("tokens", "tokens/s"), ("flops", "FLOP/s"))

FIT_TIP = "Dotted: time = a·n^b by least squares, through the upper half of the measured points"
NO_FIT_TIP = "fit is off: it is of the time, and a rate is shown."


def _octave(n: int, sign: int) -> int:
    """The next power of two."""
    return 1 << (n.bit_length() if sign > 0 else max((n - 1).bit_length() - 1, 0))


class ScalingToolbar(PageToolbar):
    """Changes the state's settings; `action` asks the window to sweep or to stop."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme) -> None:
        super().__init__("Scaling: what is shown")
        self._store = store
        self.caption("show")
        self.quantity = Segments("Quantity of the upper plot", QUANTITIES)
        self.quantity.chosen.connect(lambda value: store.update(time_quantity=value))
        self.add(self.quantity)
        self.memory = self.check("memory", "Show the plot of peak memory below")
        self.gap()
        self.predicted = self.check("predicted", "Lines: what the formula says with this device's ceilings put in")
        self.measured = self.check("measured", "Markers: what was measured on this device, median with p20 to p80")
        self.fit = self.check("fit", FIT_TIP)
        for box, field in (
            (self.memory, "show_memory"),
            (self.predicted, "show_predicted"),
            (self.measured, "show_measured"),
            (self.fit, "show_fit"),
        ):
            box.clicked.connect(lambda on, field=field: store.update(**{field: on}))
        self.stretch()
        self._add_sweep(theme)
        self.refresh(store.state)

    def _add_sweep(self, theme: Theme) -> None:
        self.problem = QLabel(self)
        self.problem.setFont(font("tick"))
        self.problem.setProperty("role", "danger")
        self.problem.hide()
        self.add(self.problem)
        self.low = NumberField("Lowest n of the sweep", MIN_SEQ_LEN, MAX_SEQ_LEN, _octave)
        self.high = NumberField("Highest n of the sweep", MIN_SEQ_LEN, MAX_SEQ_LEN, _octave)
        for field, setting in ((self.low, "sweep_low"), (self.high, "sweep_high")):
            field.setFixedSize(78, 26)
            field.setToolTip(f"{field.name}: the sweep measures at each power of two between the two")
            field.chosen.connect(lambda n, setting=setting: self._choose_range(setting, n))
            field.problem.connect(self._tell_problem)
        self.add(self.low)
        self.caption("to")
        self.add(self.high)
        self.sweep = KeyButton(theme, "Sweep", "F6", "play")
        self.stop = KeyButton(theme, "Stop", "Esc", "stop")
        self.stop.setToolTip("Stop measuring; finished points are kept (Esc)")
        self.sweep.clicked.connect(lambda: self.action.emit("sweep"))
        self.stop.clicked.connect(lambda: self.action.emit("cancel"))
        self.add(self.sweep)
        self.add(self.stop)

    def _choose_range(self, setting: str, n: int) -> None:
        settings = self._store.state.settings
        if setting == "sweep_low":
            self._store.update(sweep_low=n, sweep_high=max(n, settings.sweep_high))
        else:
            self._store.update(sweep_low=min(n, settings.sweep_low), sweep_high=n)

    def _tell_problem(self, text: str) -> None:
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def refresh(self, state: State) -> None:
        """Show the state."""
        settings = state.settings
        self.quantity.set_value(settings.time_quantity)
        self.memory.setChecked(settings.show_memory)
        self.predicted.setChecked(settings.show_predicted)
        self.measured.setChecked(settings.show_measured)
        self.fit.setChecked(settings.show_fit)
        fits = settings.time_quantity == "time"
        self.fit.setEnabled(fits)
        self.fit.setToolTip(FIT_TIP if fits else NO_FIT_TIP)
        self.low.set_number(settings.sweep_low)
        self.high.set_number(settings.sweep_high)
        running = bool(state.live.queue)
        self.sweep.setVisible(not running)
        self.stop.setVisible(running)
        why = why_off(state)
        self.sweep.setEnabled(not why)
        self.sweep.setToolTip(why or "Measure every checked variant at each power of two of the range (F6)")


def why_off(state: State) -> str:
    """Why nothing can be measured now; empty when it can."""
    if not state.settings.checked:
        return "Sweep is off: no variant is checked."
    if state.live.phase == "starting" or state.live.device is None:
        return "Sweep is off: the engine is starting."
    if state.live.phase in ("restarting", "gave_up", "stopped"):
        return "Sweep is off: the engine does not run."
    if state.live.ceilings is None:
        return "Sweep is off: the engine is measuring this machine's ceilings."
    return ""
