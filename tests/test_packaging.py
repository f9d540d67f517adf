"""What the project says of itself in its several lists of packages agrees, and importing it stays light."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler import MatchSpec

# The few packages that conda-forge calls otherwise: matplotlib-base is matplotlib without a desktop's windows.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}

# What is imported under another name than its package has, and what matplotlib always brings along.
PACKAGES = {"yaml": "pyyaml", "rattler": "py-rattler", "PIL": "matplotlib", "cycler": "matplotlib",
            "repo2docker": "jupyter-repo2docker", "axe_playwright_python": "axe-playwright-python", "bs4": "nbconvert"}


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def environment(repository):
    return yaml.safe_load((repository / "environment.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins(repository):
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in wanted}


def requirements(project, *extras):
    """The core's requirements, and those of the `extras`."""
    lists = [project["dependencies"]] + [project["optional-dependencies"][extra] for extra in extras]
    return [Requirement(line) for lines in lists for line in lines]


def match_specs(environment):
    """environment.yml's packages by name, each read as strictly as conda's own tools can."""
    specs = [MatchSpec(line, strict=True) for line in environment["dependencies"]]
    return {spec.name.normalized: spec for spec in specs}


def lowest(requirement):
    """The version of `torch>=2.13`, which is how every requirement is written here."""
    (specifier,) = requirement.specifier
    assert specifier.operator == ">=", f"{requirement} should give the lowest version that works, and that alone"
    return specifier.version


def test_conda_gets_the_packages_that_the_notebooks_need_and_no_others(project, environment):
    ours = {CONDA_NAMES.get(requirement.name, requirement.name) for requirement in requirements(project, "notebook")}
    assert set(match_specs(environment)) == ours | {"python", "pip"}


def test_conda_gets_the_same_versions_as_pip(project, environment, pins):
    specs = match_specs(environment)
    for requirement in requirements(project, "notebook"):
        spec = specs[CONDA_NAMES.get(requirement.name, requirement.name)]
        assert str(spec.version) == f">={lowest(requirement)}", f"{requirement} in pyproject.toml, {spec} for conda"


def test_conda_takes_a_python_that_the_project_supports_and_that_binder_can_read(project, environment):
    (line,) = [line for line in environment["dependencies"] if line.startswith("python")]
    match = re.fullmatch(r"python=(3\.\d+)", line)      # Binder reads an exact minor version and nothing else
    assert match and match[1] in SpecifierSet(project["requires-python"])


def test_everything_in_the_conda_environment_comes_from_conda_forge(environment):
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert all(isinstance(line, str) for line in environment["dependencies"]), "a list for pip may bring a second torch"


def test_binder_installs_the_project_without_a_second_torch(repository):
    script = (repository / "postBuild").read_text(encoding="utf-8")
    assert "pip install --no-deps -e ." in script


@pytest.mark.parametrize("extra", ["notebook", "test", "bench", "book", "course"])
def test_every_requirement_has_a_tested_pin_within_its_range(project, pins, extra):
    for requirement in requirements(project, extra):
        pin = pins[canonicalize_name(requirement.name)]
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"{pin} should be one release"
        assert requirement.specifier.contains(Version(specifier.version)), f"{pin} is outside {requirement}"


def test_a_pin_names_a_release_and_no_build_of_it(pins):
    assert all("+" not in str(pin.specifier) for pin in pins.values()), "torch==2.13.0+cpu exists in one index only"


def test_pins_hold_on_every_system(pins):
    assert all(pin.marker is None and pin.url is None for pin in pins.values())


@pytest.mark.parametrize("files, extras", [
    ("minigpt/*.py", ["real"]),
    ("minigpt/classroom/**/*.py", ["notebook"]),
    ("minigpt/marking/**/*.py", ["notebook", "course"]),
    ("tests/**/*.py", ["notebook", "real", "test", "book"]),
    ("benchmarks/*.py", ["notebook", "bench"]),
    ("tools/*.py", ["notebook", "book", "test"]),
])
def test_whatever_is_imported_is_asked_for(project, repository, files, extras):
    asked = {canonicalize_name(requirement.name) for requirement in requirements(project, *extras)}
    ours = {path.stem for path in repository.glob("*")} | {path.stem for path in repository.glob("tests/**/*")}
    for path in repository.glob(files):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - ours:
                package = canonicalize_name(PACKAGES.get(name, name))
                known = package in asked or name.startswith("minigpt")
                assert known, f"{path} imports {name}, which pyproject.toml does not ask for"


def imports(package, path):
    """The modules of the package that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package.name:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if (package.parent / (name.replace(".", "/") + ".py")).exists()
                        or (package.parent / name.replace(".", "/")).is_dir() else node.module for name in inner)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == package.name)


def test_arrows_point_one_way(repository):
    """No file of the core imports, over however many others, itself; and none of it a room that is built upon it."""
    package = repository / "minigpt"
    arrows = {path.stem: set(imports(package, path)) for path in package.glob("*.py") if path.stem != "__main__"}
    upper = {name: [to for to in found if to.split(".")[1:2] in (["classroom"], ["marking"])] for name, found in arrows.items()}
    assert not any(upper.values()), upper
    order = TopologicalSorter({f"minigpt.{name}" if name != "__init__" else "minigpt": found for name, found in arrows.items()})
    order.prepare()             # raises CycleError, naming the cycle


def test_importing_the_core_leaves_the_notebook_front_end_alone(repository):
    code = ("import sys, minigpt; "
            "print([name for name in ('matplotlib', 'ipywidgets', 'IPython', 'jupyterlab') if name in sys.modules])")
    run = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_continuous_integration_runs_the_command_that_people_run(repository):
    assert "\npython3 run.py test\n" in (repository / ".ci" / "run").read_text(encoding="utf-8")
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    everything = workflow["jobs"]["everything"]
    assert everything["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert "python run.py test" in [step.get("run") for step in everything["steps"]]


def test_the_code_passes_its_linter(repository):
    run = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=repository,
                         capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert run.returncode == 0, run.stdout


def test_styles_scripts_and_pages_of_the_package_have_lines_as_short_as_its_python(repository):
    """The linter reads Python alone."""
    limit = tomllib.loads((repository / "minigpt" / "ruff.toml").read_text(encoding="utf-8"))["line-length"]
    files = [file for file in (repository / "minigpt").rglob("*") if file.suffix in (".css", ".js", ".html")]
    long = [f"{file.name}:{number}" for file in files
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1) if len(line) > limit]
    assert len(files) > 10 and long == []


def test_every_file_of_the_core_has_its_tests_where_the_readme_says(repository):
    """And whatever file the README of the tests, or the list of `mutation.py`, names is there."""
    readme = (repository / "tests" / "README.md").read_text(encoding="utf-8")
    with_others = set(re.findall(r"`(\w+)` with `\w+`", readme)) | {"__init__", "__main__", "version"}
    tests = {path.stem.removeprefix("test_") for path in (repository / "tests").glob("test_*.py")}
    assert {path.stem for path in (repository / "minigpt").glob("*.py")} - tests == with_others
    for name in re.findall(r"`((?:\w+/)*\w+\.py)`", readme):
        assert any((repository / folder / name).exists() for folder in ("tests", "minigpt", ".")), name
    mutation = ast.parse((repository / "tests" / "mutation.py").read_text(encoding="utf-8"))
    (table,) = (node.value for node in mutation.body if isinstance(node, ast.Assign) and node.targets[0].id == "TESTS")
    for module, files in ast.literal_eval(table).items():
        assert (repository / "minigpt" / f"{module}.py").exists(), module
        assert all((repository / "tests" / name).exists() for name in files), files
