"""What `sqtune submit` refuses before anything is sent."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from commands import examples, help_of
from ray_cluster import free_port

from sqtune.cli import main
from sqtune.commands import submit

SPACE = "name: small\ntrial: {num_epochs: 4}\nspace: {optimizer.lr: {choice: [0.05, 0.1]}}\n"


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SPACE)
    return path


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "would lie in the job's own folder"),
        (["--store", "relative"], "would lie in the job's own folder"),
        (["--store", "/shared", "--study-storage", "postgresql://a:hidden@c/d"], "PGPASSWORD"),
        (["--store", "s3://bucket/store"], "--study-storage"),
        (["--store", "/shared", "--study-storage", "sqlite:///s.db"], "absolute path"),
        (["--store", "/shared", "--tracking-uri", "./mlruns"], "absolute path"),
        (["--store", "/shared", "--tirals", "3"], "--trials"),
        (["--store", "/shared", "--set", "trial.num_epochs=0"], "greater than or equal to 1"),
        (["--store", "/shared"], "nothing answers there"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(space, more, said):
    address = f"http://127.0.0.1:{free_port()}"
    answer = CliRunner().invoke(
        main, ["submit", "--space", str(space), "--address", address, *more]
    )
    assert answer.exit_code == 2
    assert said in answer.output
    assert "hidden" not in answer.output


def test_the_space_lies_in_the_working_directory(space, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    from sqtune.search import jobs

    monkeypatch.setattr(jobs.Jobs, "__init__", lambda self, address: None)
    arguments = ["submit", "--space", str(space), "--address", "http://h:1", "--store", "/shared"]
    answer = CliRunner().invoke(main, [*arguments, "--working-dir", str(other)])
    assert answer.exit_code == 2
    assert "does not lie in --working-dir" in answer.output


def test_the_examples_are_not_refused_for_their_store():
    typed = examples(help_of(("submit",)))
    assert any("--working-dir" in words for words in typed)
    for words in typed:
        params = main.commands["submit"].make_context("submit", words[1:]).params
        submit._check({"store": params["store"]})
