"""The door for primaries of version 0.1.0, which start a worker as ``python -m txsticky.boot``."""

import sys

from .worker.process import main

if __name__ == "__main__":
    main(sys.argv)
