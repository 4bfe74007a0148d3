"""What describes the packages elsewhere says what pyproject.toml says."""

import re
from pathlib import Path

import pytest

import dmabuf

pytestmark = pytest.mark.needs("outside")  # it asks no kernel

ROOT = Path(__file__).parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text()
RECIPE = (ROOT / "conda" / "meta.yaml").read_text()
CHANGES = (ROOT / "debian" / "changelog").read_text()


def test_all_packages_have_the_same_version():
    (project,) = re.findall(r'^version = "(.*)"$', PROJECT, re.MULTILINE)
    (recipe,) = re.findall(r'set version = "(.*)"', RECIPE)
    debian = re.search(r"\((.*?)\)", CHANGES)[1]
    assert {project, recipe, debian} == {dmabuf.__version__}


def test_the_recipe_of_conda_has_the_dependencies_and_commands():
    dependencies = re.search(r"^dependencies = \[(.*)\]$", PROJECT, re.MULTILINE)[1]
    for dependency in re.findall(r'"(.*?)"', dependencies):
        assert f"    - {dependency.replace('>=', ' >=')}\n" in RECIPE
    scripts = PROJECT.partition("[project.scripts]\n")[2].partition("\n\n")[0]
    assert scripts
    for line in scripts.splitlines():
        assert line.replace('"', "") in RECIPE


def test_the_rule_for_udev_is_the_one_of_the_pages():
    rules = (ROOT / "debian" / "dmabuf-alloc.udev").read_text().splitlines()[1:]
    assert "\n".join(rules) in (ROOT / "docs" / "kernels.md").read_text()
