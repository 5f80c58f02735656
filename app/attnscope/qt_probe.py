"""Opens Qt and says on which platform: a process of its own, because a missing library makes Qt abort."""

from PySide6.QtWidgets import QApplication

if __name__ == "__main__":
    print(QApplication([]).platformName())  # noqa: T201 the answer
