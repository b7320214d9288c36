"""A store under a URL, and the folder of this machine that mirrors it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqtune.errors import StoreError, WriteError
from sqtune.files import RemoteFiles, files_at, patiently

PATIENCE_SECONDS = 120.0  # with a URL that does not answer
WHOLE = "network.json"  # written last: with it a network's folder is whole


@dataclass(frozen=True, slots=True)
class Mirror:
    """Copies files from the folder to the URL and back, by the same names.

    Attributes:
        root: The folder.
        url: The URL.
    """

    root: Path
    url: str

    def open(self, folder: str = "") -> RemoteFiles:
        """Return the files under the URL, or in a folder there.

        Raises:
            StoreError: Nothing here knows what to do with the URL.
        """
        try:
            files = files_at(f"{self.url}/{folder}" if folder else self.url)
        except (ValueError, ImportError, OSError) as error:
            raise StoreError(
                f"--store {self.url} cannot be opened: {error}. Give a folder, or a URL that "
                "fsspec knows, with the package that it needs (of s3://: pip install "
                "'sqtune[cluster]')."
            ) from error
        assert isinstance(files, RemoteFiles)
        return files

    def check(self) -> None:
        """Write something under the URL and remove it.

        Raises:
            StoreError: That cannot be done.
        """
        files, name = self.open("locks"), f"{uuid.uuid4().hex}.probe"
        try:
            files.write(name, b"")
            files.remove(name)
        except OSError as error:
            raise StoreError(
                f"--store {self.url} cannot be written: {error}. Give a URL that exists, with its "
                "credentials and endpoint in the environment (of S3: AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, or the machine's role)."
            ) from error

    def share(self, path: Path, seconds: float = PATIENCE_SECONDS) -> None:
        """Copy a file or a folder to the URL, with so many seconds' patience for each file.

        Raises:
            WriteError: It cannot be written there.
        """
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        remote = self.open()
        try:
            for file in sorted(files, key=lambda file: file.name == WHOLE):
                upload = partial(remote.upload, file, self._name(file))
                patiently(upload, seconds)
        except OSError as error:
            raise WriteError(
                f"{path.name} cannot be written to {self.url}: {error}. Once it can, give the same "
                "command again."
            ) from error

    def fetch(self, path: Path, seconds: float = PATIENCE_SECONDS) -> bool:
        """Tell whether there is a file or a folder, after it was copied here where need be.

        Of a file here and there the longer one counts; of a network's folder the one there.

        Raises:
            StoreError: The URL does not answer.
        """
        try:
            return patiently(lambda: self._fetched(path), seconds)
        except OSError as error:
            raise StoreError(
                f"{path.name} cannot be read from {self.url}: {error}. Once it can, give the same "
                "command again."
            ) from error

    def size(self, path: Path) -> int:
        """Return the bytes that a file or a folder takes under the URL.

        Raises:
            StoreError: The URL does not answer.
        """
        try:
            return sum(self.open().sizes(self._name(path)).values())
        except OSError as error:
            raise StoreError(
                f"{self.url} cannot be read: {error}. Once it can, give the same command again."
            ) from error

    def _fetched(self, path: Path) -> bool:
        remote, name = self.open(), self._name(path)
        there = remote.sizes(name)  # of the file itself, or of what is in the folder
        if name in there:
            here = path.stat().st_size if path.exists() else -1
            return there[name] <= here or self._download(remote, there)
        if not there:
            return path.exists()
        whole = f"{name}/{WHOLE}"
        if whole in there and (path / WHOLE).exists():
            if remote.read(whole) == (path / WHOLE).read_bytes():
                return True
            shutil.rmtree(path, ignore_errors=True)  # the trial was trained again elsewhere
        return self._download(remote, there)

    def _download(self, remote: RemoteFiles, names: Iterable[str]) -> bool:
        """Copy files here, a folder's last one last; tell whether all were there."""
        in_order = sorted(names, key=lambda name: name.rpartition("/")[2] == WHOLE)
        return all(remote.download(name, self.root / name) for name in in_order)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def cache_folder() -> Path:
    """Return where this machine keeps what can be had again, such as copies of a URL's files.

    Raises:
        StoreError: There is no home folder.
    """
    try:
        named = os.environ.get("XDG_CACHE_HOME")
        return (Path(named) if named else Path.home() / ".cache").absolute() / "sqtune"
    except RuntimeError as error:
        raise StoreError(
            f"there is no home folder ({error}). Give XDG_CACHE_HOME, a folder for copies."
        ) from error
