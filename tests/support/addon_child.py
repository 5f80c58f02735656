"""The child of the add-ons' window, as on a machine with a GPU: `python addon_child.py LOCK list | add … | remove …`."""

from __future__ import annotations

import sys
from pathlib import Path

from attnscope_engine.addons import __main__ as child
from attnscope_engine.addons import changing, lock, rows
from attnscope_engine.addons.fitting import Machine
from wheel_server import TARGET

if __name__ == "__main__":
    lock.LOCK = Path(sys.argv[1])
    for module in (changing, rows):
        module.this_target = lambda: TARGET
    rows.provided = lambda *_: ""
    rows.cupy_package = lambda _: ""
    child.read_machine = lambda: Machine(13000, (9, 0))
    sys.exit(child.main(sys.argv[2:]))
