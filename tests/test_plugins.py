"""What is asked for by name: what the project lists is there, and an older installation says what to do."""

import tomllib

import pytest

from minigpt import GPT, plugins
from minigpt.plugins import plugin
from minigpt.progress import History


def test_all_that_is_listed_is_found(repository):
    listed = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    for group, names in listed.items():
        if group.startswith("minigpt."):
            assert names and all(callable(plugin(group.removeprefix("minigpt."), name)) for name in names)


@pytest.mark.parametrize("ask", [lambda: History([1], [2.0]).plot(), lambda: GPT.pretrained("smollm2")])
def test_an_installation_that_does_not_know_it_says_what_to_do(ask, monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda **asked: ())
    with pytest.raises(ImportError, match="is older than its files, and knows no .*: install it again, by python3 run.py setup"):
        ask()
