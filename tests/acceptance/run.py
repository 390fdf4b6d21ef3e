"""Runs the acceptance scenarios against a built binary: `run.py [--full] [--only NAME]...`.

Prints a line a check and a scenario, the daemon's last words where something failed, and ends
with `N passed, N failed`. Exit 0 only if nothing failed and something passed.
"""

import argparse
import pathlib
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import cars  # noqa: E402
import scenarios  # noqa: E402
import world as worlds  # noqa: E402

ROOT = HERE.parents[1]


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
    return parser.parse_args()


def main():
    args = arguments()
    chosen = [s for s in scenarios.ALL
              if not args.only or any(part in s.__name__ for part in args.only)]
    if args.list:
        for scenario in chosen:
            print(f"{scenario.__name__}: {scenario.__doc__}")
        return 0
    bench = Bench(args.binary.resolve(), args.full, args.promtool)
    for scenario in chosen:
        bench.run(scenario)
    for failure in bench.failures:
        print(f"failed: {failure}")
    print(f"{bench.passed} passed, {bench.failed} failed")
    return 0 if bench.passed and not bench.failed else 1


if __name__ == "__main__":
    sys.exit(main())
