"""The variants. To add one, add its files: `<name>.py` ending in `VARIANT = Variant(name="<name>", …)`, and `<name>.cu`.

Nothing else is edited: the catalogue scans this folder, and the contract tests in `tests/engine` cover the newcomer.
"""
