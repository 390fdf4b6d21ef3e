"""Runs the acceptance scenarios against a built binary: `run.py [--full] [--only NAME]...`.

Prints a line a check and a scenario, the daemon's last words where something failed, and ends
with `N passed, N failed`. Exit 0 only if nothing failed and something passed.

`--jobs 2` runs two scenarios at a time, each in a process of its own: most of them wait most of
the time. Those that measure a machine under full load (`ALONE`) come last, one by one.
"""

import argparse
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import cars  # noqa: E402
import scenarios  # noqa: E402
import world as worlds  # noqa: E402

ROOT = HERE.parents[1]
# No scenario takes longer, in either form; the longest one's guided minutes are 5.
SCENARIO_MAX_S = 900

class Bench:
    """What a scenario is given: the binary, the form, and where to put its findings."""

    def __init__(self, binary, full, promtool):
        self.binary, self.full, self.promtool = binary, full, promtool
        self.passed = self.failed = 0
        self.failures = []

    def check(self, name, fine, detail=""):
        if fine:
            self.passed += 1
            print(f"    ok    {name}", flush=True)
        else:
            self.failed += 1
            text = str(detail)[:1_200]
            self.failures.append(f"{self.scenario}: {name}: {text}")
            print(f"    FAIL  {name}: {text}", flush=True)

    def note(self, text):
        print(f"    note  {text}", flush=True)

    def fill(self, world, share):
        return cars.fill(world.controllers, world.site, share)

    def run(self, scenario):
        self.scenario, failed, began = scenario.__name__, self.failed, time.monotonic()
        print(f"  {self.scenario}: {scenario.__doc__}", flush=True)
        try:
            scenario(self)
        except Exception as error:  # a scenario that breaks is a scenario that failed
            self.check("the scenario runs to its end", False, repr(error))
            traceback.print_exc(limit=4)
        if self.failed > failed and worlds.last_log():
            print("    the daemon's last words:\n" + worlds.last_log(), flush=True)
        print(f"    {time.monotonic() - began:.1f} s", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=ROOT / "target" / "ship" / "parkway",
                        type=pathlib.Path)
    parser.add_argument("--promtool")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", action="append", default=[], help="scenarios whose name has it")
    parser.add_argument("--exactly", help="the one scenario of this name")
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at a time")
    return parser.parse_args()


def main():
    args = arguments()
    chosen = [s for s in scenarios.ALL
              if (args.exactly or s.__name__) == s.__name__
              and (not args.only or any(part in s.__name__ for part in args.only))]
    if args.list:
        for scenario in chosen:
            print(f"{scenario.__name__}: {scenario.__doc__}")
        return 0
    bench = Bench(args.binary.resolve(), args.full, args.promtool)
    if args.jobs > 1:
        side_by_side(bench, args.jobs, chosen)
    else:
        for scenario in chosen:
            bench.run(scenario)
    for failure in bench.failures:
        print(f"failed: {failure}")
    print(f"{bench.passed} passed, {bench.failed} failed")
    return 0 if bench.passed and not bench.failed else 1


def side_by_side(bench, jobs, chosen):
    """Each scenario in a process; what it printed is told in one piece when it ends."""
    alone = [s for s in chosen if s in scenarios.ALONE]
    # The longest first, so that none is left over at the end.
    others = sorted((s for s in chosen if s not in alone), key=lambda s: s not in scenarios.LONG)
    for workers, some in ((jobs, others), (1, alone)):
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            runs = [pool.submit(own_process, bench, s.__name__) for s in some]
            for run in concurrent.futures.as_completed(runs):
                take_over(bench, *run.result())


def own_process(bench, name):
    command = [sys.executable, "-u", __file__, "--binary", bench.binary, "--exactly", name]
    command += ["--full"] * bench.full
    command += ["--promtool", bench.promtool] if bench.promtool else []
    try:
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=SCENARIO_MAX_S)
        return name, done.stdout
    except subprocess.TimeoutExpired as late:
        return name, f"{late.stdout}\nno end after {SCENARIO_MAX_S} s\n"


def take_over(bench, name, said):
    """Adds a child's counts to ours; a child that counted nothing has failed."""
    counts = re.search(r"^(\d+) passed, (\d+) failed$", said, re.M)
    lines = [line for line in said.splitlines() if not counts or line != counts[0]]
    failures = [line[len("failed: "):] for line in lines if line.startswith("failed: ")]
    print("\n".join(line for line in lines if not line.startswith("failed: ")), flush=True)
    bench.passed += int(counts[1]) if counts else 0
    bench.failed += int(counts[2]) if counts else 1
    bench.failures += failures if counts else [f"{name}: ended without a count: {said[-600:]}"]


if __name__ == "__main__":
    sys.exit(main())
