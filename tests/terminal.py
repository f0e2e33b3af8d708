"""Types into a program on a pseudo-terminal and waits for its output.

Arguments: the program and its arguments. Standard input: lines that alternate between keys to type and a text to wait for; a line `@N` waits
N seconds and is followed by keys. In keys `⇥` is Tab, `^X` is Ctrl-X and `↵` is Enter. The screen is printed without cursor movements.
"""

import os
import pty
import re
import select
import sys
import time

LIMIT = 60.0

steps = sys.stdin.read().splitlines()
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])

screen = b""
seen = 0


def read(seconds):
    """Reads for at most `seconds`; returns False at the end of the output."""
    global screen
    if not select.select([terminal], [], [], seconds)[0]:
        return True
    try:
        part = os.read(terminal, 65536)
    except OSError:
        return False
    # Answers a query for the cursor's position: first line, first column.
    if b"\x1b[6n" in part:
        os.write(terminal, b"\x1b[1;1R")
    screen += part
    return bool(part)


def plain():
    text = screen.decode("utf-8", "replace")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def wait(text):
    global seen
    end = time.monotonic() + LIMIT
    while text not in plain()[seen:]:
        if not read(0.2) or time.monotonic() > end:
            sys.stdout.write(plain())
            sys.exit(f"\n`{text}` did not come")
    seen = plain().index(text, seen) + len(text)


def keys(text):
    text = text.replace("⇥", "\t").replace("↵", "\r")
    return re.sub(r"\^([A-Z])", lambda match: chr(ord(match[1]) - 64), text)


wait("> ")
typing = True
for step in steps:
    if step.startswith("@"):
        end = time.monotonic() + float(step[1:])
        while time.monotonic() < end:
            read(0.1)
        typing = True
    elif typing:
        for key in keys(step):
            os.write(terminal, key.encode())
            read(0.01)
        typing = False
    else:
        wait(step)
        typing = True

end = time.monotonic() + LIMIT
while read(0.2) and time.monotonic() < end:
    if os.waitpid(child, os.WNOHANG)[0]:
        break
sys.stdout.write(plain())
