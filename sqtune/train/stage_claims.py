"""Claims: who trains a stage now, so that nobody trains it twice at the same time.

A claim is a small file beside the stages. It is void at once when its process has died on this
host, and after 60 seconds without a heartbeat when it lives elsewhere. Two that train a stage at
the same time do no harm: their results are bit-identical and are written as a whole.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time

from sqtune.files import Files
from sqtune.processes import has_died, this_process

HEARTBEAT_SECONDS = 10.0
VOID_SECONDS = 60.0  # the clocks of hosts that share a store differ by less
CLAIM = ".claim"


class Claims:
    """The claims of this process and what is known of others'.

    Args:
        files: Where they lie.
        heartbeat_seconds: Between two signs of life of a claim.
        void_seconds: Without one, a claim from elsewhere is void.
    """

    def __init__(
        self,
        files: Files,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        void_seconds: float = VOID_SECONDS,
    ) -> None:
        self._files = files
        self._heartbeat_seconds, self._void_seconds = heartbeat_seconds, void_seconds
        self._held: dict[str, str] = {}
        self._lock = threading.Lock()
        self._ended: threading.Event | None = None  # ends the thread that beats, if there is one

    def claim(self, key: str, owner: str) -> bool:
        """Claim a stage for an owner; tell whether it is now theirs.

        An owner who holds it already, from another process perhaps, takes it over.

        Raises:
            OSError: The store does not answer.
        """
        content = json.dumps({"owner": owner, **this_process()}).encode()
        name = f"{key}{CLAIM}"
        while not self._files.create(name, content):
            holder = self._read(name)
            if holder is None:  # it was released just now
                continue
            if holder.get("owner") == owner:
                self._files.write(name, content)
                break
            if self._is_alive(name, holder):
                return False
            if self._read(name) == holder:  # nobody else has replaced it meanwhile
                self._files.remove(name)
        with self._lock:
            self._held[key] = owner
            if self._ended is None:
                self._ended = threading.Event()
                threading.Thread(target=self._beat, args=(self._ended,), daemon=True).start()
        return True

    def release(self, key: str, owner: str) -> None:
        """Give a claim back, if it is the owner's and this process's.

        Raises:
            OSError: The store does not answer.
        """
        with self._lock:
            self._held.pop(key, None)
            if not self._held and self._ended is not None:
                self._ended.set()
                self._ended = None
        if self._read(f"{key}{CLAIM}") == {"owner": owner, **this_process()}:
            self._files.remove(f"{key}{CLAIM}")

    def holder(self, key: str) -> str | None:
        """Return who trains a stage now; None where nobody does.

        Raises:
            OSError: The store does not answer.
        """
        holder = self._read(f"{key}{CLAIM}")
        if holder is None or not self._is_alive(f"{key}{CLAIM}", holder):
            return None
        return str(holder.get("owner"))

    def _read(self, name: str) -> dict[str, object] | None:
        content = self._files.read(name)
        if content is None:
            return None
        try:
            found = json.loads(content)
        except ValueError:  # its writer has not come further, or died there
            found = None
        return found if isinstance(found, dict) else {}

    def _is_alive(self, name: str, holder: dict[str, object]) -> bool:
        died = has_died(holder)
        if died is not None:
            return not died
        beat_at = self._files.modified_at(name)
        return beat_at is not None and time.time() - beat_at < self._void_seconds

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(self._heartbeat_seconds):
            with self._lock:
                held = list(self._held)
            for key in held:
                with contextlib.suppress(OSError):  # the next one may come through
                    self._files.touch(f"{key}{CLAIM}")
