"""How fast this machine is, and what follows from it: how much goes on at a time, and how long tests wait.

Two things make a machine slow, and each is found out by itself. Processors: those that this process may run on, or less where
its cgroup has a quota of processor time. Their speed: how long an emulated second takes, a fixed work of second.S under QEMU,
which takes about a second on the reference machine and is called one there. It is done on all processors at once, as they may share more than they show, and
others may keep them busy: a neighbour, or a quota that cannot be seen from within.
"""

import math
import os
import re
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

# What tests' deadlines were tuned on: two processors, on each of which second.S takes so long (the start of QEMU included). The
# figure is from an AMD EPYC of 2.6 GHz, by the processor time that it took beside other work: 1.1 s.
REFERENCE_PROCESSORS = 2
REFERENCE_SECONDS = 1.1
# Most at a time. More labs than that were never tried, and there are no more lanes.
MOST_PLACES = 3
# Of a lab's minute on the reference machine its processor works so much. The rest is waiting, and takes as long on any machine.
BUSY = 2 / 3
# Labs may ask for so many times what processors there are, and then each takes so many times longer than alone. Less than one
# leaves processors idle, and the run is longer for it.
MOST_CONTENTION = 1.5
# What tests take may be so much more than what deadlines are longer: the measurement is no better than that.
TOLERANCE = 1.1
# A factor this large says that something else is wrong. Who waits longer finds out later.
MOST_PATIENCE = 6.0
LONGEST = 30 * REFERENCE_SECONDS


@dataclass(frozen=True)
class Speed:
    """`slowness`: how long an emulated second takes."""

    processors: float
    slowness: float
    how: str = ""

    @property
    def places(self):
        """How many labs, or lanes of tests, may be at work at a time. On the reference machine three ask for just what there is."""
        return max(number for number in range(1, MOST_PLACES + 1) if number == 1 or self.is_room_for(number))

    def is_room_for(self, labs):
        busy = BUSY * self.slowness / (BUSY * self.slowness + 1 - BUSY)
        contention = labs * busy / self.processors
        return contention <= MOST_CONTENTION and self.slowness * max(1, contention) <= self.longer * TOLERANCE

    @property
    def jobs(self):
        """How many compilers at a time keep the processors busy."""
        return max(1, round(self.processors))

    @property
    def builds(self):
        """How many things are built at a time. Each has minutes in which it keeps one processor only."""
        return min(2, self.jobs)

    @property
    def patience(self):
        return round(min(MOST_PATIENCE, self.longer), 1)

    @property
    def longer(self):
        """How many times longer something may take than on the reference machine: a control plane runs beside a lab, and what is
        built beside both. A faster machine is not held to less."""
        return max(1.0, self.slowness * REFERENCE_PROCESSORS / min(REFERENCE_PROCESSORS, self.processors))

    def __str__(self):
        some = "1 place" if self.places == 1 else f"{self.places} places"
        return (f"{self.processors:.3g} processors, an emulated second takes {self.slowness:.2f} s{self.how}: "
                f"{some} for labs, {self.builds} for builds of {self.jobs} jobs, deadlines times {self.patience:g}")


def of_this_machine():
    """DRAWBRIDGE_SPEED=PROCESSORS:SECONDS says it instead: what a machine with so many processors would do on which an emulated
    second takes so long."""
    if said := os.environ.get("DRAWBRIDGE_SPEED"):
        return parse(said)
    processors = available()
    try:
        return Speed(processors, measure(processors))
    except (OSError, subprocess.SubprocessError) as error:
        # Without QEMU there is no lab, which needs it, and the tests on this machine need it not.
        return Speed(processors, 1.0, f" (by assumption, as it could not be measured: {error})")


def parse(text):
    processors, colon, slowness = text.partition(":")
    try:
        speed = Speed(float(processors), float(slowness), " (as DRAWBRIDGE_SPEED says)")
        if colon and 0 < speed.processors < math.inf and 0 < speed.slowness < math.inf:
            return speed
    except ValueError:
        pass
    raise ValueError(f"DRAWBRIDGE_SPEED is PROCESSORS:SECONDS, such as 1:1.5, and not {text!r}")


# --- Processors ---


def available(affinity=None, root=Path("/")):
    """How many processors' time this process may have."""
    affinity = affinity or len(os.sched_getaffinity(0))
    return min([float(affinity), *quotas(root)])


def quotas(root):
    """In processors, of each cgroup that this process is in, up to what can be seen of the hierarchy."""
    found = []
    for directory in cgroups(root):
        for read in (quota_v2, quota_v1):
            try:
                quota = read(directory)
            except (OSError, ValueError):
                continue
            if quota is not None:
                found.append(quota)
    return found


def quota_v2(directory):
    return parse_cpu_max((directory / "cpu.max").read_text())


def quota_v1(directory):
    quota, period = (int((directory / f"cpu.cfs_{it}_us").read_text()) for it in ("quota", "period"))
    return quota / period if quota > 0 and period > 0 else None


def parse_cpu_max(text):
    """`QUOTA PERIOD`, in microseconds, or `max PERIOD`: none."""
    quota, period = text.split()
    if quota == "max":
        return None
    if int(quota) <= 0 or int(period) <= 0:
        raise ValueError(f"cpu.max: {text!r}")
    return int(quota) / int(period)


def cgroups(root):
    """The directories of this process' cgroups with a controller for processor time, and of those above."""
    mounts = [mount for line in text_of(root / "proc/self/mountinfo").splitlines() if (mount := parse_mount(line))]
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        # Version 2 names no controllers.
        version = 1 if "cpu" in controllers.split(",") else None if controllers else 2
        for of_mount, top, point in mounts:
            if of_mount != version:
                continue
            # A container may see its own cgroup as the mount's root, or be named by a path from outside.
            inside = os.path.relpath(path, top) if path == top or path.startswith(top.rstrip("/") + "/") else "."
            top_directory = root / point.lstrip("/")
            directory = top_directory / inside
            while True:
                yield directory
                if directory == top_directory or top_directory not in directory.parents:
                    break
                directory = directory.parent


def parse_mount(line):
    """Of a line of mountinfo (proc_pid_mountinfo(5)): the version of cgroups, which of their directories is mounted, and where.
    None if it is of something else, or has nothing to say of processors."""
    left, dash, right = line.partition(" - ")
    fields, of_the_kind = left.split(), right.split()
    if not dash or len(fields) < 5 or len(of_the_kind) < 3:
        return None
    top, point = (re.sub(r"\\([0-7]{3})", lambda it: chr(int(it[1], 8)), fields[at]) for at in (3, 4))
    if of_the_kind[0] == "cgroup2":
        return 2, top, point
    return (1, top, point) if of_the_kind[0] == "cgroup" and "cpu" in of_the_kind[2].split(",") else None


def text_of(path):
    try:
        return path.read_text()
    except OSError:
        return ""


# --- Their speed ---


def measure(processors, rounds=3):
    """How long an emulated second takes. The middle of three: something may come between one of them."""
    # Who may have half a processor works half the time: that is no slowness of what is there.
    at_once, share = max(1, math.floor(processors)), min(1.0, processors)
    with tempfile.TemporaryDirectory(prefix="drawbridge-speed.") as directory:
        image = f"{directory}/second"
        # About a second on the reference machine, two thirds of it for code as it stands and one for code that is new.
        subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-DROUNDS=80000", "-DSTEPS=440", "-o", image, HERE / "second.S",
                        "-Wl,-m,elf_i386,--build-id=none,--oformat=binary,-Ttext=0,--entry=0"],
                       stdin=subprocess.DEVNULL, capture_output=True, check=True)
        took = [emulate(image, at_once) for _ in range(rounds)]
    return statistics.median(took) * share / REFERENCE_SECONDS


def emulate(image, at_once):
    """So many at once; the time until all are through."""
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,-erms", "-m", "16", "-nodefaults", "-display", "none",
               "-no-reboot", "-bios", image, "-device", "isa-debug-exit,iobase=0xf4"]
    began = time.monotonic()
    running = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
               for _ in range(at_once)]
    try:
        for process in running:
            _, said = process.communicate(timeout=LONGEST)
            # The program's own sign that it came to its end.
            if process.returncode != 3:
                raise subprocess.SubprocessError(f"QEMU: status {process.returncode}: {said.decode(errors='replace').strip()}")
    except subprocess.TimeoutExpired:
        pass  # slower than any factor that would be believed
    finally:
        for process in running:
            process.kill()
            process.communicate()
    return time.monotonic() - began
