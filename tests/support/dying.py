"""`python -m tests.support.dying POINT N serve ...`: the gateway, which kills itself at a crash point."""

from __future__ import annotations

import sys

from gateway.__main__ import main
from outbox import crashpoints

if __name__ == "__main__":
    crashpoints.arm(sys.argv[1], int(sys.argv[2]))
    del sys.argv[1:3]
    main()
