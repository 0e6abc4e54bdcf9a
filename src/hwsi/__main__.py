"""``python -m hwsi`` is ``hwsi``: for environments whose scripts are not on the path."""

import sys

from hwsi.cli.app import main

sys.exit(main())
