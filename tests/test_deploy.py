"""The ways in which a class can run it: what can be known of each without the service that it is for."""

import json
import os
import re
import sys

import pytest
import yaml
from packaging.specifiers import SpecifierSet

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="repo2docker runs on Linux")


@pytest.fixture(scope="module")
def dockerfile(repository):
    return (repository / ".devcontainer" / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "deploy.md").read_text(encoding="utf-8")


@pytest.fixture
def buildpack(repository, monkeypatch):
    """What repo2docker, which is what Binder runs, makes of this repository."""
    from repo2docker.app import Repo2Docker
    monkeypatch.chdir(repository)
    packs = (pack(base_image="an image") for pack in Repo2Docker().buildpacks)
    return next(pack for pack in packs if pack.detect())


@LINUX
def test_binder_takes_the_conda_environment_and_its_python(buildpack, repository):
    environment = yaml.safe_load((repository / "environment.yml").read_text(encoding="utf-8"))
    (python,) = [line for line in environment["dependencies"] if line.startswith("python=")]
    assert type(buildpack).__name__ == "CondaBuildPack"
    assert buildpack.python_version == python.removeprefix("python=")


@LINUX
def test_binder_runs_post_build_which_it_can_start(buildpack, repository):
    assert list(buildpack.get_post_build_scripts()) == ["postBuild"]
    assert os.access(repository / "postBuild", os.X_OK)
    assert (repository / "postBuild").read_bytes().startswith(b"#!/bin/bash\n")


def test_the_image_has_a_python_that_the_project_supports_and_the_tested_pins(dockerfile, repository):
    python = re.search(r"^FROM python:(3\.\d+)-", dockerfile, re.M)[1]
    project = (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert python in SpecifierSet(re.search(r'requires-python = "(.*)"', project)[1])
    assert all("-c constraints.txt" in line for line in dockerfile.splitlines() if "torch" in line and "pip install" in line)
    assert '-c constraints.txt -e ".[notebook]"' in dockerfile


def test_nobody_is_root_in_the_image_and_what_is_copied_is_the_project_alone(dockerfile, repository):
    assert "\nUSER learner\n" in dockerfile
    ignored = (repository / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".venv", ".git", "book", "bundle", "student"} <= set(ignored)
    assert not {"minigpt", "data", "notebooks", "constraints.txt", "pyproject.toml"} & set(ignored)


def test_codespaces_builds_that_image(repository):
    settings = json.loads((repository / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    folder = repository / ".devcontainer"
    assert (folder / settings["build"]["dockerfile"]).exists()
    assert (folder / settings["build"]["context"]).resolve() == repository


def test_the_book_is_published_by_the_command_that_people_run(repository):
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["publish"]["steps"]
    assert "python run.py book" in [step.get("run") for step in steps]
    (upload,) = [step for step in steps if "upload-pages-artifact" in step.get("uses", "")]
    assert upload["with"]["path"] == "book"


def test_each_way_has_a_section_and_says_whether_it_was_tried(page):
    rows = re.findall(r"^\| \[([^\]]+)\]\(#([\w-]+)\) \|.*\| ([^|]+) \|$", page, re.M)
    titles = re.findall(r"^## (.+)$", page, re.M)
    assert len(rows) == 10
    for words, anchor, tried in rows:
        title = next(title for title in titles if title.lower().replace(",", "").replace(" ", "-") == anchor)
        assert title.lower().startswith(words.lower()[:4])
        assert re.search(r"untried|tests|tried|cut off|examined|possible|Chromium|cell", tried), words


def test_the_page_names_the_wheel_that_is_built(page):
    import minigpt
    assert f"minigpt-{minigpt.__version__}-py3-none-any.whl" in page
