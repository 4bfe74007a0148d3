"""`python -m dmabuf.testing.vm`: the command `dmabuf-vm`."""

import sys

from dmabuf.testing.vm.command import main

if __name__ == "__main__":
    sys.exit(main())
