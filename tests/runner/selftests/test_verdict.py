import unittest

from runner import verdict

# As libtest prints it.
OUTPUT = """
running 4 tests
test fine ... ok
test slow ... FAILED
test leaky ... FAILED
test in_a_thread ... FAILED

failures:

---- slow stdout ----
round 1

thread 'slow' (71) panicked at tests/e2e/attach.rs:20:5:
late: the pod is there, after 60.0s; last seen: nothing
stack backtrace:
   0: rust_begin_unwind

---- leaky stdout ----

thread 'leaky' (72) panicked at tests/e2e/policy.rs:9:5:
arrived: late: is not how this begins
note: run with `RUST_BACKTRACE=1`

thread 'leaky' (72) panicked at tests/src/wait.rs:9:5:
late: what comes of it, after 1.0s; last seen: x

---- in_a_thread stdout ----

thread '<unnamed>' (74) panicked at tests/src/wait.rs:9:5:
late: nic1 settles, after 60.2s; last seen: 3 steps

thread 'in_a_thread' (73) panicked at tests/e2e/attach.rs:30:5:
called `Result::unwrap()` on an `Err` value: Any { .. }


failures:
    slow
    leaky
    in_a_thread

test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 61.00s
"""


class Verdict(unittest.TestCase):
    def test_the_first_panic_says_what_a_failure_was(self):
        self.assertEqual(verdict.failed_tests(OUTPUT), [("slow", True), ("leaky", False), ("in_a_thread", True)])

    def test_it_counts_what_libtest_and_scripts_say(self):
        self.assertEqual(verdict.counted(OUTPUT), (1, 3, 0))
        self.assertEqual(verdict.counted("ok\n12 passed, 1 failed, 2 skipped\n"), (12, 1, 2))
        self.assertIsNone(verdict.counted("nothing to see\n"))

    def test_a_failure_that_says_nothing_is_wrong(self):
        self.assertEqual(verdict.failed_tests("test quiet ... FAILED\n"), [("quiet", False)])
        self.assertEqual(verdict.failed_tests("test broken - should panic ... FAILED\n"), [("broken", False)])

    def test_a_test_that_panicked_without_failing_is_none(self):
        self.assertEqual(verdict.failed_tests("test fine ... ok\nthread 'fine' panicked at x.rs:1:1:\nlate: y\n"), [])

    def test_documentation_has_names_with_blanks(self):
        output = "test src/a.rs - f (line 3) ... FAILED\n\n---- src/a.rs - f (line 3) stdout ----\n" \
                 "thread 'main' panicked at src/a.rs:4:1:\nlate: it\n"
        self.assertEqual(verdict.failed_tests(output), [("src/a.rs - f (line 3)", True)])

    def test_checks_of_scripts(self):
        output = "ok 1 - a\nnot ok 2 - b # seen: 3\nnot ok - late: c\nnot ok 4 - late: d\n"
        self.assertEqual(verdict.failed_tests(output),
                         [("2 - b # seen: 3", False), ("- late: c", True), ("4 - late: d", True)])

    def test_a_script_is_late_by_its_word_or_as_it_was_stopped(self):
        self.assertTrue(verdict.is_late_script("lab  1.0s  up\nlab: late: the VM did not get ready\n", 1))
        self.assertTrue(verdict.is_late_script("control-plane: late: not ready\n", 1))
        self.assertTrue(verdict.is_late_script("", verdict.TIMED_OUT))
        self.assertFalse(verdict.is_late_script("error: it is late: no\n", 101))

    def test_why_has_the_panics_and_else_the_last_words(self):
        self.assertIn("late: the pod is there, after 60.0s; last seen: nothing", verdict.why(OUTPUT))
        self.assertEqual(verdict.why("a\nb"), ["a", "b"])
