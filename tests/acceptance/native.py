"""The tests' programs in C: a load whose time does not count, a stalling disk, a wrong clock."""

import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
# A load's own start, and its last answers.
LOAD_EXTRA_S = 60


def build(folder, name, *flags, libraries=()):
    """Compiles `name`.c into the folder and returns the file made."""
    made = pathlib.Path(folder) / (name + ".so" if "-shared" in flags else name)
    subprocess.run(["cc", "-O2", *flags, "-o", made, HERE / f"{name}.c", *libraries], check=True)
    return made


class Load:
    """`load.c`: asks at set times; answers are [(seconds, 'd' durable | 'm' memory | 'x' none)]."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.program = build(folder, "load", "-pthread", libraries=["-lm"])

    def start(self, *words):
        return subprocess.Popen([self.program, *map(str, words)], text=True,
                                stdout=subprocess.PIPE)

    def allocations(self, daemon, per_s, span_s, seed, at="n-cordon"):
        """Starts it; what it returns goes to [`Load.answers`]."""
        child = self.start("http", daemon.port, at, per_s, span_s, seed, f"load-{seed}")
        child.span_s = span_s
        return child

    def appends(self, record_bytes, per_s, span_s, seed):
        path = self.folder / "appended"
        child = self.start("append", path, record_bytes, per_s, span_s, seed)
        child.span_s = span_s
        return child

    @staticmethod
    def answers(child):
        try:
            said, _ = child.communicate(timeout=child.span_s + LOAD_EXTRA_S)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
        if child.returncode:
            raise RuntimeError(f"the load ended with {child.returncode}")
        return [(int(us) / 1e6, kind) for us, kind in map(str.split, said.splitlines())]


class Stall:
    """`stall.c`: a disk whose barriers take as long as told, for a daemon that starts after."""

    def __init__(self, folder, daemon):
        self.file = pathlib.Path(folder) / "stall-ms"
        self.takes(0)
        shim = build(folder, "stall", "-shared", "-fPIC", libraries=["-ldl"])
        daemon.environment |= {"LD_PRELOAD": str(shim), "STALL_FILE": str(self.file)}

    def takes(self, milliseconds):
        """Each barrier from now on, and those under way at least until this."""
        new = self.file.with_suffix(".new")
        new.write_text(str(milliseconds))
        new.rename(self.file)


class WallClock:
    """`shift.c`: a wall clock that shows what it is told to, for a daemon that starts after."""

    def __init__(self, folder, daemon):
        self.file, self.good = pathlib.Path(folder) / "shift-s", daemon.site.clock_file
        self.off_by(0)
        shim = build(folder, "shift", "-shared", "-fPIC", libraries=["-ldl"])
        daemon.environment |= {"LD_PRELOAD": str(shim), "SHIFT_FILE": str(self.file)}

    def off_by(self, seconds):
        new = self.file.with_suffix(".new")
        new.write_text(str(int(seconds)))
        new.rename(self.file)

    def synchronise(self):
        """As a time service does: it sets the clock, and then says so."""
        self.off_by(0)
        self.good.touch()
