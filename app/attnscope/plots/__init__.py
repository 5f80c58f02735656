"""Pages with plots; the only importers of pyqtgraph."""
