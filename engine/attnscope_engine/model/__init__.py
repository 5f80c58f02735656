"""A small real language model, read from one file, whose attention the maps show."""
