"""What `help()` says: every public name has its words, and every public class an example."""

import ast
import inspect
import itertools
import textwrap
from enum import Enum
from types import FunctionType

import pytest
from helpers.docstrings import examples, public_modules, public_objects

import dmabuf

pytestmark = pytest.mark.needs("outside")  # it asks no kernel


OBJECTS = public_objects()
CLASSES = {name: thing for name, thing in OBJECTS.items() if isinstance(thing, type)}
RECORDS = {name: kind for name, kind in CLASSES.items() if hasattr(kind, "_fields")}
ENUMS = {name: kind for name, kind in CLASSES.items() if issubclass(kind, Enum)}


def methods(kind: type) -> dict[str, object]:
    """Return the public methods and properties that a class has from this package."""
    found: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] == "dmabuf":
            found |= vars(base)
    fields = getattr(kind, "_fields", ())
    plain = (FunctionType, property, classmethod, staticmethod)
    return {
        name: thing
        for name, thing in found.items()
        if not name.startswith("_") and name not in fields and isinstance(thing, plain)
    }


def words_below(kind: type) -> set[str]:
    """Return the names in a class's source that have a string of words below them."""
    (body,) = (
        node.body
        for node in ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        if isinstance(node, ast.ClassDef)
    )
    return {
        ast.unparse(line.targets[0])
        for line, below in itertools.pairwise(body)
        if isinstance(line, ast.Assign)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def test_the_package_is_seen():
    assert {dmabuf.Buffer, dmabuf.devices.drm.Device, dmabuf.udmabuf.Limits} <= set(
        CLASSES.values()
    )
    assert {dmabuf.FencePoint, dmabuf.devices.v4l2.FormatInfo} <= set(RECORDS.values())
    assert {dmabuf.FenceStatus, dmabuf.devices.kms.PlaneKind} <= set(ENUMS.values())


@pytest.mark.parametrize("module", list(public_modules()), ids=lambda module: module.__name__)
def test_every_module_says_what_it_is(module):
    assert (module.__doc__ or "").strip()


@pytest.mark.parametrize("name", OBJECTS)
def test_every_class_and_function_has_its_words(name):
    words = OBJECTS[name].__doc__ or ""
    assert words.strip()
    assert not words.startswith(f"{name.rpartition('.')[2]}("), "these are Python's own"


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_and_property_has_its_words(name):
    kind = CLASSES[name]
    silent = [method for method in methods(kind) if not inspect.getdoc(getattr(kind, method))]
    assert not silent


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_a_record_has_its_words_in_help(name):
    kind = RECORDS[name]
    texts = {field: getattr(kind, field).__doc__ or "" for field in kind._fields}
    assert not [field for field, text in texts.items() if not text or text.startswith("Alias for")]


@pytest.mark.parametrize("name", ENUMS)
def test_every_member_of_an_enumeration_has_its_words(name):
    kind = ENUMS[name]
    assert not set(kind.__members__) - words_below(kind)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_an_example(name):
    assert examples(CLASSES[name].__doc__ or ""), "an indented block, after an empty line"
