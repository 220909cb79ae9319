"""A stand-in for a power failure: what a disk is sure to hold, if only what was synced is sure.

The disk keeps the content that a file had at its last fsync, and the names that a folder had at its last fsync. All
later changes may be on it or not, each for itself: a new name without its content is possible.
"""

import os
from collections.abc import Callable
from pathlib import Path

LOST = b"<never written to the disk>"
real_fsync, real_replace = os.fsync, os.replace


class Power:
    """Follows what is below `root`. After each fsync and before and after each rename `check` is called."""

    def __init__(self, root: Path, monkeypatch, check: Callable[[], None]):
        self.root, self.check = root, check
        self.contents: dict[int, bytes] = {}  # inode of a file -> its content at the last fsync
        self.names: dict[int, dict[str, int]] = {}  # inode of a folder -> its names and their inodes, likewise
        self.kept: list[int] = []  # files stay open, or their inodes would be used again
        for path in (root, *root.rglob("*")):
            self.remember(path)
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)

    def remember(self, path: Path) -> None:
        """This file or folder is now on the disk."""
        self.kept.append(os.open(path, os.O_RDONLY))
        if path.is_dir():
            self.names[path.stat().st_ino] = {entry.name: entry.stat().st_ino for entry in path.iterdir()}
        else:
            self.contents[path.stat().st_ino] = path.read_bytes()

    def fsync(self, descriptor: int) -> None:
        self.remember(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        self.check()

    def replace(self, source, destination) -> None:
        self.kept.append(os.open(source, os.O_RDONLY))
        self.check()
        real_replace(source, destination)
        self.check()

    def outcomes(self, path: Path) -> set[bytes | None]:
        """All contents that the path can have after a power failure now. None: it does not exist."""
        inodes: set[int | None] = {self.root.stat().st_ino}
        place = self.root
        for name in path.relative_to(self.root).parts:
            here = place.stat().st_ino if place.exists() else None
            following: set[int | None] = set()
            for inode in inodes:
                following.add(self.names.get(inode, {}).get(name))
                if inode == here is not None:
                    following.add((place / name).stat().st_ino if (place / name).exists() else None)
            inodes, place = following, place / name
        return {None if inode is None else self.contents.get(inode, LOST) for inode in inodes}
