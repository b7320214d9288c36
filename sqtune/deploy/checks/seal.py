"""The manifest's text, with a checksum of itself: no byte of it changes unseen.

The seal is the last line but one: the sha256 of the text with 64 zeros in its place.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from sqtune.errors import ExportError

MANIFEST = "manifest.json"
_NONE = b"0" * 64
_SEAL = re.compile(rb'\n "seal": "([0-9a-f]{64})"\n\}\n\Z')


def sealed(content: Mapping[str, Any]) -> str:
    """Return a manifest's text: UTF-8 JSON, one space deep, its seal at the end.

    Raises:
        ExportError: It is no JSON: a number that is not finite, a text that is no Unicode.
    """
    whole = {**content, "seal": _NONE.decode()}
    try:
        text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        seal = hashlib.sha256(text.encode()).hexdigest()
    except ValueError as error:  # class names may come from folders whose names are no Unicode
        raise ExportError(f"{MANIFEST} cannot be written: {error}. Rename or mend that.") from error
    begin, zeros, end = text.rpartition(_NONE.decode())
    assert zeros
    return begin + seal + end


def check_seal(text: bytes) -> None:
    """Raise ExportError unless a manifest's text is as it was written, byte for byte."""
    found = _SEAL.search(text)
    if found is not None:
        begin, end = found.span(1)
        whole = hashlib.sha256(text[:begin] + _NONE + text[end:]).hexdigest()
    if found is None or whole != found[1].decode():
        raise ExportError(
            f"{MANIFEST} was changed after the export, or is damaged: its seal is not the checksum "
            "of its text. Take a whole copy of the folder, or export it anew."
        )
