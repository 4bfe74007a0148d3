"""The pytest plugin: leak checks in a real pytest, and what a machine must have."""

import gc
import re
import textwrap
from pathlib import Path

import pytest
from helpers.program import run_program

import dmabuf

pytest_plugins = ["pytester"]

LEAK = """
    kept = []

    def test_leaks():
        kept.append(dmabuf.testing.fences.allocate_here(8192, name="lost"))
"""


@pytest.fixture(autouse=True)
def a_folder_without_settings(pytester, monkeypatch):
    """Let no setting of ours reach the pytest that runs inside."""
    monkeypatch.delenv("DMABUF_TRACE", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # Hypothesis' plugin imports all of it at the end of each run, and would do so anew each time.
    options = "-p no:cacheprovider -p no:hypothesispytest --strict-markers"
    pytester.makeini(f"[pytest]\naddopts = {options}")


@pytest.fixture
def run(pytester):
    """Return a function that runs pytest on a file, in this process, and gives its result."""

    def run(source, *options):
        imports = "import dmabuf, dmabuf.testing.fences, gc, pytest, unittest\n"
        pytester.makepyfile(test_inner=imports + textwrap.dedent(source))
        return pytester.runpytest_inprocess(*options)

    return run


@pytest.fixture
def _cleared():
    """Close what the tests inside leave open on purpose."""
    yield
    for thing in gc.get_objects():
        if isinstance(thing, dmabuf.Buffer) and not thing.closed and thing.name == "lost":
            thing.close()


cleared = pytest.mark.usefixtures("_cleared")
exporter = pytest.mark.needs("exporter")


@exporter
@cleared
def test_a_leak_is_an_error_in_the_words_of_leak_check(run):
    result = run(LEAK, "--dmabuf-leak-check")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*LeakError: 1 thing was opened*", "*'lost', 8,192 bytes*"])
    result.stdout.fnmatch_lines(["*DMABUF_TRACE=1*"])


@exporter
@cleared
def test_nothing_is_checked_unless_asked(run):
    run(LEAK).assert_outcomes(passed=1)


@exporter
@cleared
def test_the_mark_asks_for_one_test(run):
    marked = LEAK.replace("def test", "@pytest.mark.dmabuf_leak_check\n    def test")
    run(marked).assert_outcomes(passed=1, errors=1)


@exporter
@cleared
def test_the_mark_excepts_one_test(run):
    marked = LEAK.replace("def test", "@pytest.mark.dmabuf_leak_check(False)\n    def test")
    run(marked, "--dmabuf-leak-check").assert_outcomes(passed=1)


def test_a_mark_that_says_something_else_is_told(run):
    result = run("@pytest.mark.dmabuf_leak_check(tracing=1)\ndef test(): pass")
    result.stdout.fnmatch_lines(["*test_inner.py::test: the mark is dmabuf_leak_check(enabled=*"])
    assert result.ret != 0


@exporter
@cleared
def test_the_place_is_told_from_the_test_on(run):
    marked = LEAK.replace("def test", "@pytest.mark.dmabuf_leak_check(trace=True)\n    def test")
    result = run(marked)
    result.stdout.fnmatch_lines(["*allocated here:", "*test_inner.py*, in test_leaks"])
    assert "_pytest" not in result.stdout.str().split("allocated here:")[1].split("- buffer")[0]


@exporter
@cleared
def test_DMABUF_TRACE_tells_the_place_too(run, monkeypatch):
    monkeypatch.setenv("DMABUF_TRACE", "1")
    run(LEAK, "--dmabuf-leak-check").stdout.fnmatch_lines(["*allocated here:"])


@exporter
@cleared
def test_a_test_that_fails_is_told_no_leak(run):
    source = LEAK + "        assert 0, 'broken'\n"
    run(source, "--dmabuf-leak-check").assert_outcomes(failed=1)


@exporter
@cleared
@pytest.mark.parametrize("scope", ["class", "module", "package", "session"])
def test_what_a_fixture_of_wider_scope_holds_is_none(run, scope):
    source = f"""
        @pytest.fixture(scope="{scope}")
        def wide():
            with dmabuf.testing.fences.allocate_here(4096) as buffer:
                yield buffer

        @pytest.fixture(scope="{scope}")
        def wider(wide):
            with wide.dup() as twin:
                yield twin

        def test_by_name(wide):
            assert wide.memory

        def test_late(request):
            assert request.getfixturevalue("wider").memory

        def test_again(wide):
            with wide.dup():
                pass
    """
    run(source, "--dmabuf-leak-check").assert_outcomes(passed=3)


@exporter
@cleared
def test_a_leak_beside_a_late_fixture_of_wider_scope_is_found(run):
    source = """
        kept = []

        @pytest.fixture(scope="session")
        def wide():
            with dmabuf.testing.fences.allocate_here(4096) as buffer:
                yield buffer

        def test(request):
            kept.append(dmabuf.testing.fences.allocate_here(4096, name="lost"))
            request.getfixturevalue("wide")
    """
    result = run(source, "--dmabuf-leak-check")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*1 thing was opened*"])


@exporter
@cleared
def test_a_fixture_of_the_tests_own_scope_may_leak(run):
    source = """
        @pytest.fixture
        def leaky():
            return dmabuf.testing.fences.allocate_here(4096, name="lost")

        def test(leaky):
            pass
    """
    run(source, "--dmabuf-leak-check", "-Wignore").assert_outcomes(passed=1, errors=1)


@exporter
def test_the_first_mapping_and_garbage_are_none(run):
    source = """
        @pytest.fixture(scope="module")
        def wide():
            with dmabuf.testing.fences.allocate_here(4096) as buffer:
                yield buffer

        def test_mapping(wide):
            assert wide.memory

        @pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:Exception ignored")
        def test_garbage():
            circle = [dmabuf.testing.fences.allocate_here(4096)]
            circle.append(circle)
    """
    run(source, "--dmabuf-leak-check").assert_outcomes(passed=2)


@exporter
@cleared
def test_unittest_and_async_tests_are_checked(run):
    source = """
        class Case(unittest.TestCase):
            def setUp(self):
                self.buffer = dmabuf.testing.fences.allocate_here(4096, name="lost")

            def test_closed(self):
                self.buffer.close()

            def test_left(self):
                pass

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        kept = []

        @pytest.mark.anyio
        async def test_async():
            kept.append(dmabuf.testing.fences.allocate_here(4096, name="lost"))
    """
    run(source, "--dmabuf-leak-check", "-Wignore").assert_outcomes(passed=3, errors=2)


@exporter
@cleared
def test_leaks_are_found_under_xdist(run, pytester):
    run("def test(): pass")
    source = "import dmabuf.testing.fences\n" + LEAK.replace("\n    ", "\n")
    pytester.makepyfile(test_inner=source, test_other="def test(): pass")
    result = pytester.runpytest_subprocess("-n1", "--dmabuf-leak-check")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*'lost', 8,192 bytes*"])


@exporter
def test_a_buffer_of_the_factory_has_size_and_name_and_is_closed_at_the_end(run):
    source = """
        kept = []

        def test(dmabuf_buffer):
            kept.extend([dmabuf_buffer(), dmabuf_buffer(8192), dmabuf_buffer(size=1, name="x")])
            assert [one.size for one in kept] == [4096, 8192, 4096]
            assert [one.name for one in kept] == [None, None, "x"]

        def test_after():
            assert all(one.closed for one in kept)
    """
    run(source, "--dmabuf-leak-check").assert_outcomes(passed=2)


@pytest.mark.needs("heap")
def test_a_heap_is_given(run):
    source = "def test(dmabuf_heap): dmabuf_heap.allocate(4096).close()"
    run(source, "--dmabuf-leak-check", "--dmabuf-require=heap").assert_outcomes(passed=1)


FENCE = """
    def test(dmabuf_fence):
        assert not dmabuf_fence.fence.signaled
        dmabuf_fence.signal()
        assert dmabuf_fence.fence.wait(timeout=5)

    def test_pending(dmabuf_fence):
        assert not dmabuf_fence.fence.wait(timeout=0)
"""


@pytest.mark.needs("vgem", "export")
def test_a_fence_is_signalled_by_the_test(run):
    run(FENCE, "--dmabuf-leak-check", "--dmabuf-require=vgem").assert_outcomes(passed=2)


@pytest.mark.needs("vgem", "no export", "no sw_sync")
def test_a_kernel_that_exports_no_fences_is_a_skip_that_names_the_version(run):
    result = run(FENCE, "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*Linux 6.0*sw_sync*"])


@pytest.mark.needs("vivid")
def test_a_camera_gives_frames(run):
    source = """
        def test(dmabuf_camera):
            with dmabuf_camera.stream() as stream, stream.frame(timeout=10) as frame:
                assert frame.image.width == dmabuf_camera.format().width
    """
    run(source, "--dmabuf-leak-check", "--dmabuf-require=camera").assert_outcomes(passed=1)


@pytest.mark.needs("display")
def test_a_display_is_given(run):
    source = "def test(dmabuf_display): assert dmabuf_display.connector.modes"
    run(source, "--dmabuf-leak-check", "--dmabuf-require=display").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("fixture", "word", "cause"),
    [
        pytest.param(
            "dmabuf_heap", "heap", "CONFIG_DMABUF_HEAPS", marks=pytest.mark.needs("no heap")
        ),
        pytest.param(
            "dmabuf_buffer", "udmabuf", "CONFIG_UDMABUF", marks=pytest.mark.needs("no udmabuf")
        ),
    ],
)
def test_what_is_required_and_missing_is_a_failure(run, fixture, word, cause):
    result = run(f"def test({fixture}): pass", f"--dmabuf-require={word}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"--dmabuf-require {word}: *{cause}*"])


@pytest.mark.needs("no heap")
def test_what_is_missing_is_a_skip_with_the_cause_in_the_packages_words(run):
    result = run("def test(dmabuf_heap): pass", "-rs", "--dmabuf-require=camera")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*CONFIG_DMABUF_HEAPS*"])


def test_an_unknown_word_is_a_usage_error(run):
    result = run("def test(): pass", "--dmabuf-require=disk")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--dmabuf-require: invalid choice: 'disk'*udmabuf*"])


def test_help_tells_options_mark_and_fixtures(run):
    result = run("", "--help")
    result.stdout.fnmatch_lines(["Linux dma-buf:", "*--dmabuf-leak-check*", "*--dmabuf-require*"])
    run("", "--markers").stdout.fnmatch_lines(["@pytest.mark.dmabuf_leak_check(*): fail the test*"])
    shown = run("def test(): pass", "--fixtures").stdout.str()
    for name in ("heap", "buffer", "fence", "camera", "display"):
        assert f"dmabuf_{name} -- " in shown


def test_it_can_be_left_out(run):
    result = run("def test(): pass", "-p", "no:dmabuf", "--dmabuf-leak-check")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    run("def test(): pass", "-p", "no:dmabuf").assert_outcomes(passed=1)


@pytest.mark.needs("vivid", "vgem", "export")
def test_the_example_of_the_documentation_runs(pytester):
    page = (Path(__file__).parent.parent / "docs/testing.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    pytester.makepyfile(test_driver=example[1])
    result = pytester.runpytest_inprocess("--dmabuf-require=camera", "--dmabuf-require=vgem")
    result.assert_outcomes(passed=2)


def test_every_run_of_pytest_imports_nothing_heavy():
    program = "import sys, pytest; before = set(sys.modules); import dmabuf.testing.plugin"
    outcome = run_program(f"{program}; print(*set(sys.modules) - before)")
    brought = set(outcome.stdout.split())
    assert "dmabuf.testing.plugin" in brought
    heavy = {"numpy", "pyudev", "rich", "dmabuf.devices", "dmabuf.usage", "dmabuf.testing.fences"}
    assert not brought & heavy
