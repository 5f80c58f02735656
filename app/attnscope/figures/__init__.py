"""Figures for export, drawn by matplotlib from result rows. No Qt."""
