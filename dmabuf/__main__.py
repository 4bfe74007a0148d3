"""`python -m dmabuf` is `dmabuf-alloc`."""

import sys

from dmabuf.cli import main

if __name__ == "__main__":
    sys.exit(main())
