"""What a team sets once, and what comes before it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sqtune.errors import ConfigError
from sqtune.settings import settings, without_password


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "team.toml"
    monkeypatch.setenv("SQTUNE_CONFIG", str(path))
    return path


def test_a_named_file_in_nobodys_home_is_told(monkeypatch):
    monkeypatch.setenv("SQTUNE_CONFIG", "~no.such.user/team.toml")
    with pytest.raises(ConfigError, match=r"SQTUNE_CONFIG: ~no\.such\.user/team\.toml: .*unset"):
        settings()


def test_all_settings_are_read(file):
    file.write_text('store = "/shared"\nstudy_storage = "postgresql://db/s"\naddress = "auto"\n')
    assert settings() == {
        "store": "/shared",
        "study_storage": "postgresql://db/s",
        "address": "auto",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('stor = "/shared"', 'Did you mean "store"?'),
        ("store = 3", "text in quotes"),
        ('store = ""', "text in quotes"),
        ("store", "no TOML"),
        ('study_storage = "postgresql://me:hidden@db/s"', "holds a password"),
    ],
)
def test_a_mistake_is_named_with_its_file(file, text, said):
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        settings()
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://me:hid/den@host/db", "postgresql://me:hid#den@host/db"),
        *("postgresql://me:hid?den@host/db", "postgresql://me:hid[den@host/db"),
        *("postgresql://me:hid@den@host/db", "http://host/x?api_token=hidden&user=me"),
        *(
            "postgresql://host/db?user=me&password=hidden",
            "postgresql://host/db?sslpassword=hidden",
        ),
    ],
)
def test_a_password_is_hidden_whatever_stands_in_it(url):
    assert "den" not in without_password(url)
    assert "host" in without_password(url)


def test_no_home_is_no_settings(monkeypatch):
    monkeypatch.delenv("SQTUNE_CONFIG", raising=False)
    monkeypatch.setattr(Path, "is_file", lambda self: (_ for _ in ()).throw(PermissionError()))
    assert settings() == {}


def test_a_named_file_that_is_not_there_is_an_error_and_the_usual_one_may_be_missing(
    file, monkeypatch, tmp_path
):
    with pytest.raises(ConfigError, match="SQTUNE_CONFIG"):
        settings()
    monkeypatch.delenv("SQTUNE_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings() == {}
    usual = tmp_path / ".config" / "sqtune" / "config.toml"
    usual.parent.mkdir(parents=True)
    usual.write_text('store = "/usual"')
    assert settings() == {"store": "/usual"}


def show(*arguments: str, **environ: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-m", "sqtune", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
        timeout=60,
    )
    assert answer.returncode == 2
    return answer.stderr


def test_an_option_comes_before_a_variable_and_both_before_the_file(file):
    file.write_text('store = "/none/file"')
    assert "/none/file" in show("show")
    assert "/none/variable" in show("show", SQTUNE_STORE="/none/variable")
    assert "/none/option" in show("show", "--store", "/none/option", SQTUNE_STORE="/none/variable")
    assert "/none/file" in show("store")
    assert "/none/option" in show("store", "--store", "/none/option")


@pytest.mark.parametrize(
    "url", ["/folder/a:b@c", "sqlite:////x.db", "http://user@host", "http://["]
)
def test_what_has_no_password_stays_as_it_is(url):
    assert without_password(url) == url
