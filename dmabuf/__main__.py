"""`python -m dmabuf` is `dmabuf-alloc`."""

import sys

from dmabuf.cli import main

sys.exit(main())
