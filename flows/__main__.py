"""`python -m flows` is `cloze`."""

import sys

from flows.cli import main

sys.exit(main())
