"""The stage store: checkpoints of stages, by key, in a folder or under a URL.

Under a URL a thread does the writing; `finish` waits for it.

PLACE/KEY.stage     what an epoch left: it stays until it is the one used longest ago
PLACE/KEY.rolling   likewise, until the same training has stored its next epoch
PLACE/KEY.claim     who trains the stage that ends with this epoch (`sqtune.train.stage_claims`)

Every entry begins with its checksum: a damaged one is removed and counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sqtune.errors import StoreError
from sqtune.files import Files, LaterFiles, files_at, is_url
from sqtune.train.stage_claims import Claims

MAGIC = b"SQSTAGE1"
HEADER = struct.Struct("<8s32sQ")  # magic, sha256 of what follows, its length
STAGE, ROLLING = ".stage", ".rolling"
LOOK_SHARE = 0.01  # of max_size: after so many bytes written, all entries are counted again


class Entry(NamedTuple):
    """A stored checkpoint: its key, its bytes, when it was last used (seconds since 1970)."""

    key: str
    size_bytes: int
    used_at: float
    rolling: bool


class StageStore:
    """Checkpoints by key. What the store itself says is never wrong, only missing.

    Args:
        place: A folder, or a URL that fsspec knows.
        max_size: Bytes that all entries may take; those used longest ago are removed first.

    Raises:
        StoreError: fsspec does not know the URL, or lacks a package for it.
    """

    def __init__(self, place: Path | str, max_size: int) -> None:
        self.place, self.max_size = str(place), max_size
        try:
            files = files_at(place)
        except (ValueError, ImportError, OSError) as error:
            raise StoreError(
                f"stages.url: {place} cannot be opened: {error}. Give a folder, or a URL "
                "that fsspec knows, with the package that it needs."
            ) from error
        self._later = LaterFiles(files) if is_url(place) else None
        self._files: Files = self._later or files
        self._claims = Claims(self._files)
        self._unlooked = float("inf")  # bytes written since all entries were counted

    def has(self, key: str, *, staying: bool = False) -> bool:
        """Tell whether there is an entry; `staying`: one that the next epoch does not replace."""
        names = [f"{key}{STAGE}"] if staying else [f"{key}{STAGE}", f"{key}{ROLLING}"]
        with self._answering():
            return any(self._files.existing([name]) for name in names)

    def wants(self, key: str) -> bool:
        """Tell whether an entry that was just trained is to be put: there is none that stays.

        A URL is not asked, since the training would wait for the answer; the content is the same.
        """
        return self._later is not None or not self.has(key, staying=True)

    def longest(self, keys: Sequence[str], *, without: Collection[str] = ()) -> int:
        """Return the number of epochs of the longest stored beginning; 0 for none.

        Args:
            keys: Of a training's epochs.
            without: Keys to pass over.
        """
        with self._answering():
            stored = self._files.existing(
                f"{key}{suffix}" for key in keys for suffix in (STAGE, ROLLING)
            )
        for epoch in range(len(keys), 0, -1):
            key = keys[epoch - 1]
            if key not in without and not stored.isdisjoint((f"{key}{STAGE}", f"{key}{ROLLING}")):
                return epoch
        return 0

    def get(self, key: str) -> bytes | None:
        """Return an entry's content and note its use; None where there is none that is whole."""
        with self._answering():
            for name in (f"{key}{STAGE}", f"{key}{ROLLING}"):
                data = self._files.read(name)
                if data is None:
                    continue
                content = _checked(data)
                if content is None:
                    self._files.remove(name)
                    continue
                self._files.touch(name)
                return content
        return None

    def put(self, key: str, content: bytes, *, rolling: bool = False) -> None:
        """Store an entry, as a whole or not at all; make room for it if need be.

        Args:
            key: Its key.
            content: Any bytes.
            rolling: Whether the next epoch's replaces it.

        Raises:
            StoreError: It cannot be written, or is larger than the store may be.
        """
        size = HEADER.size + len(content)
        if size > self.max_size:
            raise StoreError(
                f"a stage of {size:,} bytes is larger than stages.max_size ({self.max_size:,} "
                "bytes). Give more."
            )
        header = HEADER.pack(MAGIC, hashlib.sha256(content).digest(), len(content))
        with self._answering():
            self._files.write(f"{key}{ROLLING if rolling else STAGE}", header + content)
        self._unlooked += size
        if self._unlooked > LOOK_SHARE * self.max_size:
            self.prune(protect={key})

    def remove(self, key: str, *, rolling: bool | None = None) -> None:
        """Remove an entry, if there is one; `rolling`: only one of this kind."""
        with self._answering():
            for suffix, kind in ((STAGE, False), (ROLLING, True)):
                if rolling in (None, kind):
                    self._files.remove(f"{key}{suffix}")

    def entries(self) -> list[Entry]:
        """Return all entries, those used longest ago first."""
        with self._answering():
            listed = self._files.listed()
        found = []
        for name, size_bytes, used_at in listed:
            key, dot, kind = name.rpartition(".")
            if f"{dot}{kind}" in (STAGE, ROLLING):
                found.append(Entry(key, size_bytes, used_at, f"{dot}{kind}" == ROLLING))
        return sorted(found, key=lambda entry: (entry.used_at, entry.key))

    def prune(
        self, max_size: int | None = None, *, protect: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Remove the entries used longest ago until the others fit; return their keys.

        Args:
            max_size: Bytes; by default the store's own limit.
            protect: Keys that stay whatever they take.
        """
        limit = self.max_size if max_size is None else max_size
        entries = self.entries()
        total, gone = sum(entry.size_bytes for entry in entries), []
        for entry in entries:
            if total <= limit:
                break
            if entry.key not in protect:
                self.remove(entry.key, rolling=entry.rolling)
                total -= entry.size_bytes
                gone.append(entry.key)
        self._unlooked = 0
        return tuple(gone)

    def claim(self, key: str, owner: str) -> bool:
        """Claim the stage that ends with this epoch; tell whether it is the owner's now."""
        with self._answering():
            return self._claims.claim(key, owner)

    def release(self, key: str, owner: str) -> None:
        """Give a claim back."""
        with self._answering():
            self._claims.release(key, owner)

    def holder(self, key: str) -> str | None:
        """Return the live owner who trains the stage that ends with this epoch, if any."""
        with self._answering():
            return self._claims.holder(key)

    def finish(self, seconds: float) -> None:
        """Wait until all is written.

        Args:
            seconds: No longer than this.

        Raises:
            StoreError: Something was, or will be, lost.
        """
        if self._later is None:
            return
        written = self._later.finish(seconds)
        why = self._later.trouble
        if why is None and not written:
            why = f"it did not take them within {seconds:g} s"
        if why is not None:
            raise StoreError(
                f"stages could not be written to {self.place}: {why}. Make room there, or give "
                "stages.url another place."
            )

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"the stages in {self.place} cannot be used: {error}. Mend that, or give "
                "stages.url another place."
            ) from error

    def __getstate__(self) -> dict[str, object]:
        """Travel to another process as place and limit."""
        return {"place": self.place, "max_size": self.max_size}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _checked(data: bytes) -> bytes | None:
    """Return what follows the header, if it is what was written."""
    if len(data) < HEADER.size:
        return None
    magic, digest, length = HEADER.unpack_from(data)
    content = data[HEADER.size :]
    whole = magic == MAGIC and len(content) == length
    return content if whole and hashlib.sha256(content).digest() == digest else None
