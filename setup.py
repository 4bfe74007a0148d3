"""The package's page on an index, which pyproject.toml can't say: the README, as it holds there.

What it links to are files of the sources. An index has none of them, so there the words remain.
"""

import re
from pathlib import Path

from setuptools import setup

_PICTURE = re.compile(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n+", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")

readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
setup(
    long_description=_LINK.sub(r"\1", _PICTURE.sub("", readme)),
    long_description_content_type="text/markdown",
)
