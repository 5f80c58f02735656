"""Widgets that show and change the state; none of them knows the engine or pyqtgraph."""
