"""``python -m hwsi`` is ``hwsi``: for environments whose scripts are not on the path."""

import sys

from hwsi.cli.app import main

if __name__ == "__main__":  # a module that is only imported, by a worker or by who lists modules, runs nothing
    sys.exit(main())
