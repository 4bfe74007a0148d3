"""What `import dmabuf` adds to the start of Python, the best of interleaved runs."""

import os
import subprocess
import sys
import time

REPEATS = 20
COMPILED = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # as it is where it is installed


def start(code: str) -> float:
    """Return milliseconds from start to end."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=COMPILED)
    return (time.perf_counter() - begin) * 1000


def main() -> None:
    """Print the best times and their difference."""
    start("import dmabuf")  # compiles
    pairs = [(start("pass"), start("import dmabuf")) for _ in range(REPEATS)]
    bare, ours = (min(column) for column in zip(*pairs, strict=True))
    print(f"python {bare:.1f} ms, with dmabuf {ours:.1f} ms: {ours - bare:.1f} ms more")


if __name__ == "__main__":
    main()
