"""The reference of space files is the schema's."""

from __future__ import annotations

import importlib.util

from .blocks import ROOT


def test_the_reference_is_what_the_schema_says():
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs/make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs/space-reference.md").read_text(encoding="utf-8")
    assert page == module.reference(), "make reference writes it anew"
