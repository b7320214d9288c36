"""What must stand in no file of cluster/, whatever its kind; versions; scripts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .test_files import (
    CLUSTER,
    FILES,
    LOCK,
    ROOT,
    documents,
    launcher,
    named,
    nodes_of,
)

# A word after "password=" and the like that is no variable, path or command.
WORD = r"""["']?(?![$<~/{(\[*&]|true\b|false\b|token\b)[\w+/.-]{4,}"""
PSQL = r":'\w+';"  # psql's variables
FORBIDDEN = {
    "a password, or the like": r"(?i)(?:password|passwd|secret|token|api_?key)\s*"
    rf"(?!{PSQL})[:=]\s*{WORD}",
    "a password in a URL": r"\w://[^\s/:@]+:[^\s/@$]+@",
    "a key of AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a private key": r"-----BEGIN",
    "a token": r"\b(?:gh[pousr]_\w{20,}|xox\w-\w+|eyJ[\w-]{10,}|[0-9a-f]{32,})\b",
    "all interfaces": r"\b0\.0\.0\.0\b(?!/0)|\[::\]|--host[= ]::",
    "a public address": r"(?i)accessConfigs:|ONE_TO_ONE_NAT|PublicIpAddress: true|LoadBalancer"
    r"|NodePort\b|hostPort|externalIPs|kind: Ingress\b",
}
# In its pod MLflow listens on loopback and the pod's address; a policy says who reaches that.
ASKED_FOR = {("kubernetes/tracking.yaml", "all interfaces"): 1}
FOUND_IN = {
    "a password, or the like": [
        "POSTGRES_PASSWORD=hunter22",
        "  password: changeme",
        "# password = hunter22",
        "{user: sqtune, password: sesame}",
        'TOKEN="abcd1234"',
        "--set secret=letmein",
    ],
    "a password in a URL": ["postgresql+psycopg://sqtune:sesame@postgres/sqtune"],
    "a key of AWS": ["AKIAIOSFODNN7EXAMPLE"],
    "a private key": ["-----BEGIN OPENSSH PRIVATE KEY-----"],
    "a token": ["ghp_0123456789abcdefghijklmn", "f" * 64],
    "all interfaces": ["--dashboard-host=0.0.0.0", "--host ::"],
    "a public address": ["accessConfigs:", "type: NodePort", "type: LoadBalancer"],
}
ALLOWED = [
    "password=$PASSWORD",
    "--from-file=password=<(openssl rand",
    "authOptions: {mode: token}",
    "RAY_AUTH_MODE=token",
    "cidr: 0.0.0.0/0",
    "~/.ray/auth_token: ~/.ray/auth_token",
    "{secretKeyRef: {name: tracking, key: password}}",
    "automountServiceAccountToken: false",
    "LOGIN PASSWORD :'password';",
    "postgresql+psycopg://sqtune@postgres:5432/sqtune",
]


def shellcheck() -> str | None:
    return shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which(
        "shellcheck"
    )


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_search_for_it_finds_it(what: str) -> None:
    for line in FOUND_IN[what]:
        assert re.search(FORBIDDEN[what], line), line
    for line in ALLOWED:
        assert not re.search(FORBIDDEN[what], line), line


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_has(what: str) -> None:
    assert len(FILES) > 15
    for path in FILES:
        name = path.relative_to(CLUSTER).as_posix()
        found = [
            line
            for line in path.read_text(encoding="utf-8").splitlines()
            if re.search(FORBIDDEN[what], line)
        ]
        assert len(found) == ASKED_FOR.get((name, what), 0), (name, found)


def test_no_file_is_long() -> None:
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 300, path


SCRIPTS = [path for path in FILES if path.suffix == ".sh" or path.read_text()[:2] == "#!"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_passes_shellcheck(path: Path) -> None:
    if (command := shellcheck()) is None:
        pytest.skip("shellcheck is not installed")
    run = subprocess.run([command, "-x", path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert path.name == "lib.sh" or path.stat().st_mode & 0o111


def test_versions_are_those_of_the_lock() -> None:
    assert named("RayCluster", "sqtune")["spec"]["rayVersion"] == LOCK["ray"]
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    assert re.search(r"astral-sh/uv:(\S+) AS uv", dockerfile)[1] == LOCK["uv"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "3.11" in project["requires-python"]
    assert "/python:3.11." in dockerfile
    (image,) = launcher("kubernetes/kustomization.yaml")["images"]
    assert image["newTag"] == project["version"]
    for path in FILES:
        for name, version in re.findall(r"\b([a-z][\w.\[\]-]*)==([\d.]+)", path.read_text()):
            assert LOCK[name.partition("[")[0]] == version, (path, name)


def test_an_image_is_one_image() -> None:
    images = {node["image"] for doc in documents() for node in nodes_of(doc) if "image" in node} - {
        "sqtune"
    }  # kustomization.yaml names its tag
    images |= set(
        re.findall(r"(?:FROM|PYTHON=)\s*([\w./-]+:\S+)", (CLUSTER / "Dockerfile").read_text())
    )
    assert len(images) == 3
    for image in images:
        assert re.search(r":\d+\.\d+[\w.-]*$|@sha256:", image), image


def test_the_image_holds_what_is_named_and_its_user_owns_nothing() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users == ["1000:1000"]
    copied = [line.split()[1:] for line in lines if line.startswith("COPY")]
    assert copied
    assert not any(name in (".", "./", "*") for words in copied for name in words[:-1])
    ignore = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    for words in copied:
        for name in words[:-1]:
            if not name.startswith(("--", "/")):
                assert f"!{name}" in ignore
                assert (ROOT / name).exists()


def test_what_a_cluster_needs_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {
        re.match(r"[\w-]+", entry)[0] for entry in project["optional-dependencies"]["cluster"]
    }
    assert len(needed) > 5
    assert needed <= LOCK.keys()
