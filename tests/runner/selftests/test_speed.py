import tempfile
import unittest
from pathlib import Path
from unittest import mock

from runner import speed
from runner.speed import Speed


class WhatFollows(unittest.TestCase):
    def test_the_reference_machine_has_all_places_and_waits_no_longer(self):
        for slowness in (0.5, 0.9, 1.0, 1.04):
            machine = Speed(2, slowness)
            self.assertEqual((machine.places, machine.builds, machine.jobs, machine.patience), (3, 2, 2, 1.0), machine)

    def test_half_of_its_processors_leave_two_labs_and_double_the_deadlines(self):
        for slowness in (0.9, 1.0, 1.1):
            machine = Speed(1, slowness)
            self.assertEqual((machine.places, machine.builds, machine.jobs, machine.patience), (2, 1, 1, round(2 * slowness, 1)))

    def test_two_slow_processors_have_two_labs_and_one_has_one(self):
        self.assertEqual((Speed(2, 3.0).places, Speed(2, 3.0).patience), (2, 3.0))
        self.assertEqual((Speed(1, 2.0).places, Speed(1, 2.0).patience), (1, 4.0))
        self.assertEqual(Speed(0.5, 1.0).places, 1)

    def test_a_lab_has_one_processor_so_a_slow_machine_with_many_still_has_all_places(self):
        self.assertEqual((Speed(8, 2.0).places, Speed(8, 2.0).patience), (3, 2.0))

    def test_a_slower_machine_never_gets_more_nor_less_time(self):
        processors = [0.25, 0.5, 1, 1.5, 2, 3, 4, 64]
        slowness = [0.3, 0.7, 1, 1.3, 1.6, 2, 3, 5, 20]
        for few, more in zip(processors, processors[1:]):
            for fast, slow in zip(slowness, slowness[1:]):
                for worse, better in ((Speed(few, fast), Speed(more, fast)), (Speed(few, slow), Speed(few, fast))):
                    with self.subTest(worse=worse, better=better):
                        self.assertLessEqual(worse.places, better.places)
                        self.assertLessEqual(worse.jobs, better.jobs)
                        self.assertGreaterEqual(worse.patience, better.patience)
                        self.assertTrue(1 <= worse.places <= 3 and worse.builds >= 1 and 1 <= worse.patience <= 6)

    def test_labs_beside_each_other_keep_their_deadlines(self):
        # Counted another way: what takes a lab a minute on the reference machine is 40 s of work and 20 s of waiting. All labs'
        # work is done by these processors, one lab's by one of them; three labs' minute is one on the reference machine.
        for processors in (1, 1.5, 2, 3):
            for slowness in (1, 1.25, 1.5, 2, 4):
                machine = Speed(processors, slowness)
                alone = 40 * slowness + 20
                beside = max(alone, machine.places * 40 * slowness / processors)
                self.assertLessEqual(beside, 60 * machine.patience * 1.1 + 1e-9, machine)
                self.assertLessEqual(beside, alone * 1.5 + 1e-9, machine)

    def test_the_line_says_all_of_it(self):
        self.assertEqual(str(Speed(1, 1.75)), "1 processors, an emulated second takes 1.75 s: "
                                              "1 place for labs, 1 for builds of 1 jobs, deadlines times 3.5")


class Told(unittest.TestCase):
    def test_what_the_environment_says_is_taken_without_a_measurement(self):
        with mock.patch.dict("os.environ", {"DRAWBRIDGE_SPEED": "1:1.5"}), mock.patch.object(speed, "measure") as measure:
            machine = speed.of_this_machine()
        self.assertEqual((machine.processors, machine.slowness), (1, 1.5))
        measure.assert_not_called()

    def test_nonsense_is_refused(self):
        for text in ("2", "2:", ":1", "0:1", "2:0", "-1:1", "2:nan", "nan:1", "inf:1", "2:1:1", "two:1"):
            with self.subTest(text), self.assertRaisesRegex(ValueError, "PROCESSORS:SECONDS"):
                speed.parse(text)

    def test_without_qemu_it_says_that_it_assumes(self):
        with mock.patch.dict("os.environ"), mock.patch.object(speed, "measure", side_effect=FileNotFoundError("qemu")):
            speed.os.environ.pop("DRAWBRIDGE_SPEED", None)
            self.assertIn("by assumption", str(speed.of_this_machine()))


class Quotas(unittest.TestCase):
    """Against a root directory of our own, with what proc(5) and cgroups(7) say is in it."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)

    def put(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def processors(self, affinity=8):
        return speed.available(affinity, self.root)

    def test_cpu_max(self):
        self.assertIsNone(speed.parse_cpu_max("max 100000\n"))
        self.assertEqual(speed.parse_cpu_max("100000 100000\n"), 1.0)
        self.assertEqual(speed.parse_cpu_max("150000 100000"), 1.5)
        self.assertEqual(speed.parse_cpu_max("25000 50000"), 0.5)
        for text in ("", "100000", "0 100000", "1 0", "x y", "1 2 3"):
            with self.subTest(text), self.assertRaises(ValueError):
                speed.parse_cpu_max(text)

    def test_version_2_the_least_of_its_own_and_those_above(self):
        self.put("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n")
        self.put("proc/self/cgroup", "0::/ci.slice/job.scope\n")
        self.put("sys/fs/cgroup/ci.slice/job.scope/cpu.max", "max 100000\n")
        self.assertEqual(self.processors(), 8)
        self.put("sys/fs/cgroup/ci.slice/cpu.max", "150000 100000\n")
        self.assertEqual(self.processors(), 1.5)
        self.put("sys/fs/cgroup/ci.slice/job.scope/cpu.max", "100000 100000\n")
        self.assertEqual(self.processors(), 1)
        # A sibling's is nobody's business.
        self.put("sys/fs/cgroup/other.slice/cpu.max", "1000 100000\n")
        self.assertEqual(self.processors(), 1)

    def test_in_a_container_its_own_cgroup_is_the_root(self):
        self.put("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n")
        self.put("proc/self/cgroup", "0::/\n")
        self.put("sys/fs/cgroup/cpu.max", "100000 100000\n")
        self.assertEqual(self.processors(), 1)

    def test_version_1_with_a_mount_that_shows_a_part_of_the_hierarchy(self):
        self.put("proc/self/mountinfo",
                 "40 23 0:30 /docker/4711 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
                 "41 23 0:31 /docker/4711 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n")
        self.put("proc/self/cgroup", "5:memory:/docker/4711\n4:cpu,cpuacct:/docker/4711\n1:name=systemd:/docker/4711\n")
        self.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
        self.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
        self.assertEqual(self.processors(), 8)
        self.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n")
        self.assertEqual(self.processors(), 0.5)

    def test_version_1_below_the_root_and_both_versions_mounted(self):
        self.put("proc/self/mountinfo", "40 23 0:30 / /cg/cpu rw - cgroup cgroup rw,cpu\n42 23 0:32 / /cg/uni\\040fied rw - cgroup2 cgroup2 rw\n")
        self.put("proc/self/cgroup", "1:cpu:/job\n0::/x\n")
        self.put("cg/cpu/job/cpu.cfs_quota_us", "200000\n")
        self.put("cg/cpu/job/cpu.cfs_period_us", "100000\n")
        self.assertEqual(self.processors(), 2)
        self.put("cg/uni fied/x/cpu.max", "120000 100000\n")
        self.assertEqual(self.processors(), 1.2)

    def test_affinity_counts_where_it_is_less_and_where_nothing_can_be_read(self):
        self.assertEqual(self.processors(affinity=3), 3)
        self.put("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\nnonsense\n")
        self.put("proc/self/cgroup", "0::/\n")
        self.put("sys/fs/cgroup/cpu.max", "400000 100000\n")
        self.assertEqual(self.processors(affinity=3), 3)


class Measured(unittest.TestCase):
    def measured(self, processors, took):
        with mock.patch.object(speed, "emulate", side_effect=took) as emulate, mock.patch.object(speed.subprocess, "run"):
            return speed.measure(processors), [call.args[1] for call in emulate.call_args_list]

    def test_as_many_at_once_as_there_are_processors_and_the_middle_one_counts(self):
        a_second = speed.REFERENCE_SECONDS
        self.assertEqual(self.measured(2.0, [9.0, 1.5 * a_second, a_second]), (1.5, [2, 2, 2]))
        self.assertEqual(self.measured(1.5, [a_second] * 3), (1.0, [1, 1, 1]))

    def test_half_a_processor_is_not_counted_twice(self):
        self.assertEqual(self.measured(0.5, [2 * speed.REFERENCE_SECONDS] * 3), (1.0, [1, 1, 1]))

    def test_an_emulator_that_does_not_come_to_the_programs_end_is_no_measurement(self):
        class Broken:
            returncode = 1

            def communicate(self, timeout=None):
                return b"", b"no such device"

            def kill(self):
                pass

        with mock.patch.object(speed.subprocess, "Popen", return_value=Broken()):
            with self.assertRaisesRegex(speed.subprocess.SubprocessError, "no such device"):
                speed.emulate("image", 1)
