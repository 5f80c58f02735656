"""Fonts, icons, sample texts and licences that ship with Attnscope."""
