"""Whether a search would run here, and what to do where it would not: `sqtune doctor`."""

from __future__ import annotations

from sqtune.doctor.examine import Check, Finding, examine

__all__ = ["Check", "Finding", "examine"]
