"""What the site has beside docs/: a page for each public module, and files of the root.

A hook of MkDocs: see mkdocs.yml. It fails the build if a public name is missing in the reference,
as one without a docstring is.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import dmabuf
import dmabuf.testing

ROOT = Path(__file__).parent.parent
FILES = {"contributing.md": "Contributing", "security.md": "Security", "changelog.md": "Changelog"}
"""The files of the root that are pages, too, and their names in the navigation."""
QUIET = "__enter__", "__exit__", "__aenter__", "__aexit__", "__reduce__", "leave_to_parent"
BARE_NAME = re.compile(
    r'<div class="doc-signature highlight"><pre><span></span><code>'
    r'<span class="n">\w+</span>\n</code></pre></div>'
)
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
SCHEMA = "dmabuf/usage/snapshot.schema.json"


class Quiet(griffe.Extension):
    """Leaves out what `with`, fork and pickle call: the words of a class tell of that."""

    def on_function(self, *, func: griffe.Function, **_: object) -> None:
        """Take a method's docstring, without which none is shown."""
        if func.name in QUIET:
            func.docstring = None


def public_modules(module: ModuleType = dmabuf) -> Iterator[ModuleType]:
    """Give a module, and those that it and they name in `__all__`."""
    yield module
    for name in getattr(module, "__all__", ()):
        inner = getattr(module, name)
        if isinstance(inner, ModuleType):
            yield from public_modules(inner)


MODULES = [*public_modules(), dmabuf.testing]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Bring the pages into the navigation."""
    sections = {name: pages for entry in config.nav or [] for name, pages in entry.items()}
    for module in MODULES:
        sections["Reference"].append({module.__name__: _page(module)})
    for path, title in FILES.items():
        sections["About"].append({title: path})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the pages."""
    for module in MODULES:
        text = f"# {module.__name__}\n\n::: {module.__name__}\n"
        files.append(File.generated(config, _page(module), content=text))
    files.append(File.generated(config, "notebook.md", content="".join(_notebook())))
    for path in FILES:
        source = ROOT / f"{path.removesuffix('.md').upper()}.md"
        files.append(File.generated(config, path, abs_src_path=str(source)))
    schema = Path(SCHEMA)
    files.append(File.generated(config, schema.name, abs_src_path=str(ROOT / schema)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links of the source tree to the site's pages."""
    markdown = markdown.replace(f"](../{SCHEMA})", f"]({Path(SCHEMA).name})")
    return re.sub(
        r"\]\((?:\.\./|docs/)(\w[\w-]*\.md)", lambda link: f"]({link[1].lower()}", markdown
    )


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave out signatures that only repeat a name, and lead to the pages of files that are named.

    Docstrings and the changelog name pages as files of the source tree.
    """

    def link(name: re.Match[str]) -> str:
        file = files.get_file_from_path(name[1])
        return f'<a href="{file.url_relative_to(page.file)}">{name[0]}</a>' if file else name[0]

    return re.sub(r"\bdocs/([\w-]+\.md)(?![^<]*</(?:a|code)>)", link, BARE_NAME.sub("", html))


def on_post_build(config: MkDocsConfig) -> None:
    """Hold the inventory of the reference against each module's `__all__`."""
    inventory = Path(config.site_dir, "objects.inv").read_bytes()
    lines = zlib.decompress(inventory.split(b"\n", 4)[4]).decode().splitlines()
    documented = {line.split(" ", 1)[0] for line in lines}
    public = {
        f"{module.__name__}.{name}"
        for module in MODULES
        for name in getattr(module, "__all__", ())
        if not isinstance(getattr(module, name), ModuleType)
    }
    if missing := sorted(public - documented):
        raise PluginError(f"no docstring, or not in the reference: {', '.join(missing)}")


def _notebook() -> Iterator[str]:
    """Give the notebook's cells as a page: what is written, what is run, and what that showed."""
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield f"{source}\n\n"
            continue
        yield f"```python\n{source}\n```\n\n"
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                yield f"![what the cell shows](data:image/png;base64,{data['image/png']})\n\n"
            else:
                yield f"```text\n{''.join(output.get('text') or data['text/plain'])}\n```\n\n"


def _page(module: ModuleType) -> str:
    return f"reference/{module.__name__}.md"
