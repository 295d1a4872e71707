"""What is installed is what is tested: the wheel runs outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    run("-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(ROOT), cwd=folder)
    (built,) = folder.glob("polysense-*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked into a folder of its own, dependencies coming from the environment."""
    folder = tmp_path_factory.mktemp("site")
    options = ("--no-deps", "--disable-pip-version-check", "--quiet")
    run("-m", "pip", "install", *options, "--target", str(folder), str(wheel), cwd=folder)
    return folder


def test_the_wheel_holds_code_types_templates_and_configs_but_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "polysense/py.typed" in names
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*") if path.is_file()}
    assert {name for name in sources if "__pycache__" not in name} <= set(names)
    configs = {path.name for path in (ROOT / "training").rglob("*.yaml")}
    assert configs <= {Path(name).name for name in names}
    assert not any(name.startswith(("tests/", "eval/")) for name in names)


def test_the_package_imports_from_the_wheel(site: Path, tmp_path: Path) -> None:
    code = "import polysense; print(polysense.__file__); print(*polysense.__all__)"
    location, names = run("-c", code, cwd=tmp_path, PYTHONPATH=str(site)).splitlines()
    assert Path(location).is_relative_to(site)
    assert "UniAlignModel" in names


def test_the_command_line_teaches_outside_the_checkout(site: Path, tmp_path: Path) -> None:
    shown = run("-m", "polysense.cli", "--help", cwd=tmp_path, PYTHONPATH=str(site))
    assert "polysense" in shown


def test_a_shipped_recipe_is_found_outside_the_checkout(site: Path, tmp_path: Path) -> None:
    code = (
        "from polysense.recipes.config import read_config, recipe_folder\n"
        "from polysense.recipes.unialign import UniAlignRecipe\n"
        "print(recipe_folder(), read_config(UniAlignRecipe, 'unialign', 'world').anchor)"
    )
    folder, anchor = run("-c", code, cwd=tmp_path, PYTHONPATH=str(site)).split()
    assert Path(folder).is_relative_to(site) and anchor == "clip"
