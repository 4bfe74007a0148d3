"""The package's imports: they run downwards, nobody imports each other, and the first costs little.

The floors are those of FLOORS; CONTRIBUTING.md tells what they are for.
"""

import ast
from collections.abc import Callable
from fnmatch import fnmatch
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers.program import run_program

pytestmark = pytest.mark.needs("outside")  # it asks no kernel

ROOT = Path(__file__).parent.parent

FLOORS = (
    # The kernel's interface, and what needs no object.
    ("dmabuf._*", "dmabuf.errors"),
    # The objects: what a program holds.
    ("dmabuf._mapping", "dmabuf.access", "dmabuf.fence", "dmabuf.sw_sync"),
    ("dmabuf.buffer", "dmabuf.waiting", "dmabuf.heap", "dmabuf.udmabuf"),
    ("dmabuf.exporters",),
    # What is made of buffers.
    ("dmabuf.image", "dmabuf.image.*", "dmabuf._slots", "dmabuf.pool"),
    # The devices.
    ("dmabuf.devices.drm", "dmabuf.devices.drm.*"),
    (
        "dmabuf.devices.kms",
        "dmabuf.devices.kms.*",
        "dmabuf.devices.v4l2",
        "dmabuf.devices.v4l2.*",
    ),
    ("dmabuf.devices", "dmabuf.devices.*"),
    # What passes buffers on, shows them, and connects them to other people's objects.
    ("dmabuf.share", "dmabuf.share.*"),
    ("dmabuf.usage", "dmabuf.usage.*"),
    ("dmabuf.interop", "dmabuf.interop.*"),
    # The package's face.
    ("dmabuf",),
    # What uses the package as any program does.
    ("dmabuf.testing", "dmabuf.testing.*"),
    ("dmabuf.testing.vm", "dmabuf.testing.vm.*"),
    ("dmabuf.cli.console", "dmabuf.cli.console.*"),
    ("dmabuf.cli.checks", "dmabuf.cli.checks.*"),
    ("dmabuf.cli.views", "dmabuf.cli.views.*"),
    ("dmabuf.cli", "dmabuf.cli.*"),
    ("dmabuf.__main__",),
)
"""From the ground up. A module's floor is the one that names it most exactly; it imports from its
own floor and from those below."""

HEAVY = {"numpy", "pyudev", "rich", "logging", "asyncio", "dataclasses", "inspect"}
"""What `import dmabuf` must not import, beside the packages that come when they are first used."""


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {_name(path): path for path in sorted((ROOT / "dmabuf").rglob("*.py"))}
FACES = {name for name, path in PATHS.items() if path.stem == "__init__"}


@cache
def imports(module: str) -> list[tuple[int, str, str]]:
    """Return a module's imports of the package: line, module and name.

    All of them: those for types too, and those in functions. The name is empty where the module
    itself is imported.
    """
    found = []
    for node in ast.walk(ast.parse(PATHS[module].read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{PATHS[module]}:{node.lineno} imports by a relative name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                one = (inner, "") if inner in PATHS else (node.module, alias.name)
                found.append((node.lineno, *one))
    return [one for one in found if one[1] in PATHS]


def floor(module: str) -> int:
    """Return the number of a module's floor."""
    found = [
        (len(pattern), number)
        for number, patterns in enumerate(FLOORS)
        for pattern in patterns
        if fnmatch(module, pattern)
    ]
    assert found, f"{module} has no place in FLOORS"
    return max(found)[1]


def list_imports(module: str, forbidden: Callable[[str, str], bool]) -> str:
    """Return where a module has imports that are forbidden, by module and name; a line each."""
    path = PATHS[module].relative_to(ROOT)
    return "\n".join(
        f"{path}:{line} imports {name or 'all'} of {imported}"
        for line, imported, name in imports(module)
        if forbidden(imported, name)
    )


@pytest.mark.parametrize("module", PATHS)
def test_no_import_runs_upwards(module):
    assert not list_imports(module, lambda imported, _: floor(imported) > floor(module))


@pytest.mark.parametrize("module", PATHS)
def test_what_a_face_shows_does_not_import_that_face(module):
    def is_its_face(imported: str, _: str) -> bool:
        inside = imported in FACES and module.startswith(f"{imported}.")
        return inside and floor(module) <= floor(imported)

    assert not list_imports(module, is_its_face)


@pytest.mark.parametrize("module", PATHS)
def test_no_private_name_is_imported(module):
    def is_private(_: str, name: str) -> bool:
        return name.startswith("_") and name != "__version__"

    assert not list_imports(module, is_private)


def test_no_modules_import_each_other():
    left = {module: {imported for _, imported, _ in imports(module)} for module in PATHS}
    circles = []
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            first, second = error.args[1][1], error.args[1][0]
            circles.append(" -> ".join(reversed(error.args[1])))
            left[first].discard(second)
            left[second].discard(first)
        else:
            break
    assert not circles, "\n".join(circles)


LOADERS = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
"""What makes objects of bytes, and so runs what the bytes say: never what comes from a peer."""


@pytest.mark.parametrize("module", PATHS)
def test_no_module_can_load_a_pickle(module):
    found = set()
    for node in ast.walk(ast.parse(PATHS[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    assert not found & LOADERS


def test_no_module_has_a_re_entrant_lock_but_of_the_one_that_signal_handlers_leave_to_others():
    assert [module for module, path in PATHS.items() if "RLock" in path.read_text()] == [
        "dmabuf._locks"
    ]


def run(program: str) -> str:
    """Run a program in an interpreter of its own, and return what it prints."""
    outcome = run_program(program)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def test_the_first_import_brings_nothing_heavy():
    before = set(run("import sys; print(*sys.modules)").split())
    brought = set(run("import sys, dmabuf; print(*sys.modules)").split()) - before
    assert "dmabuf.buffer" in brought
    rooms = {"devices", "image", "pool", "share", "usage", "interop", "testing", "cli"}
    assert not brought & (HEAVY | {f"dmabuf.{room}" for room in rooms})


def test_what_comes_late_is_there_without_an_import_of_its_own():
    late = [
        "Image",
        "image.formats",
        "image.Image",
        "devices.find",
        "devices.drm.Device",
        "devices.kms.Display",
        "devices.v4l2.Capture",
    ]
    late += [name for name in ("pool", "share", "usage", "interop") if f"dmabuf.{name}" in PATHS]
    for name in late:
        run(f"import dmabuf; dmabuf.{name}")


def test_every_public_name_is_there():
    run("import dmabuf\nfor name in dmabuf.__all__: getattr(dmabuf, name)")
