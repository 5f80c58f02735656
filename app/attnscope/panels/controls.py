"""The controls that panels are built of: numbers and choices in and out, no state.

Each shows what comes from the state by `set_…`, which tells nobody, and says by `chosen` what the person did.
"""

from __future__ import annotations

from attnscope.panels.int_slider import IntSlider
from attnscope.panels.key_button import KeyButton
from attnscope.panels.log_slider import LogSlider, Wall
from attnscope.panels.number_field import NumberField
from attnscope.panels.segments import Segments
from attnscope.panels.slider_scale import SEQ_LENS, Scale
from attnscope.panels.value_slider import ValueSlider

__all__ = ["SEQ_LENS", "IntSlider", "KeyButton", "LogSlider", "NumberField", "Scale", "Segments", "ValueSlider", "Wall"]
