"""`python -m gpuplan`."""

import sys

from gpuplan.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
