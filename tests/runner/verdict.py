"""What a test's output says of it: what was counted, and of each failure whether it was late or wrong.

Late is what a wait for a condition says that ran out: its message begins with `late: ` (tests/src/patience.rs). What was waited for
may come yet; a machine that is too slow, or too busy, makes tests late. Wrong is everything else: what was seen must not be seen,
on no machine. Both fail the run.
"""

import re

CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.M)
SCRIPT_RESULT = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)
FAILED_TEST = re.compile(r"^test (.+?)(?: - should panic)? \.\.\. FAILED$|^not ok (.*)$", re.M)
# What libtest prints of a failed test, one after the other.
SAID_BY = re.compile(r"^---- (.+) stdout ----$", re.M)
# The message is on the line after.
PANIC = re.compile(r"^.*panicked at .*\n(.*)$", re.M)
LATE = "late: "
# Our scripts put their names before it.
LATE_SCRIPT = re.compile(rf"^(?:lab: |control-plane: )?{LATE}", re.M)

TIMED_OUT = 124


def counted(output):
    """Passed, failed, ignored; None if it reports no result."""
    results = CARGO_RESULT.findall(output) or SCRIPT_RESULT.findall(output)
    return tuple(sum(int(r[i] or 0) for r in results) for i in range(3)) if results else None


def failed_tests(output):
    """By name, whether each was late."""
    said = SAID_BY.split(output)
    # The text before the first; then name, text, name, text. Below the last one the names are listed again, without panics.
    by_test = dict(zip(said[1::2], said[2::2]))
    failed = []
    for test, line in FAILED_TEST.findall(output):
        # Of a script's check all that it says is in its line: `not ok 7 - late: ...`.
        late = is_late(by_test.get(test, "")) if test else bool(re.match(rf"(?:\d+ )?(?:- )?{LATE}", line))
        failed.append((test or line, late))
    return failed


def is_late(said):
    """The first panic is the reason; those that follow come of it, such as that of the one who joins a thread."""
    first = PANIC.search(said)
    return bool(first and first[1].startswith(LATE))


def is_late_script(said, status):
    """Of a program without tests of its own, such as what brings a lab up."""
    return status == TIMED_OUT or bool(LATE_SCRIPT.search(said))


def word(late):
    return "LATE" if late else "WRONG"


def why(output):
    """What a failed step said of it: the panics, else its last words. The log may be out of reach of who reads this."""
    lines = output.splitlines()
    of_panics = {at + more for at, line in enumerate(lines) if "panicked at" in line for more in range(8)}
    chosen = [lines[at] for at in sorted(of_panics) if at < len(lines)] or lines[-20:]
    return [line[:400] for line in chosen[:60]]
