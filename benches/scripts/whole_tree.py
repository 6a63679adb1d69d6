#!/usr/bin/env python3
"""Run a command, and end only when everything that it has started has ended, also what has detached itself.

    benches/scripts/whole_tree.py COMMAND [ARGUMENT ...]

Whoever waits for this process gets the CPU time of all of them.
"""
import ctypes
import os
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36


def main():
    # Orphans become children of this process, rather than of the first one of the machine.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    code = subprocess.Popen(sys.argv[1:]).wait()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            sys.exit(code)


if __name__ == "__main__":
    main()
