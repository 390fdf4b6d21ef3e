"""An installer with `parkway probe` and `parkway check`, before and beside the daemon."""

import json
import subprocess

from world import World, until

UNIT, SICK, PANEL = "zc-01", "zc-02", "panel-1"
PROBE_MAX_S = 60


def probe(bench, *words):
    """Exit code, objects of `--json` and what was said on standard error."""
    done = subprocess.run([bench.binary, "probe", *map(str, words), "--json"], text=True,
                          capture_output=True, timeout=PROBE_MAX_S, stdin=subprocess.DEVNULL)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def probing(bench):
    """A unit is identified, read, scanned, written to and timed; a running gateway is respected."""
    with World(bench.binary) as world:
        bench.fill(world, 0.5)
        truth = set(world.controllers.truth()[UNIT])
        at = ["--tcp", f"127.0.0.1:{world.site.ports[UNIT]}", "--unit", 1]
        reads(bench, world, at)
        code, told, _ = probe(bench, "--config", world.site.config, "--line", UNIT)
        unit = next((o for o in told if o.get("unit") == UNIT), {})
        occupied = {n for n, said in enumerate(unit.get("points", "")) if said == "o"}
        wired = {n for n, said in enumerate(unit.get("points", "")) if said != "-"}
        bench.check("a line's unit is decoded as the daemon would",
                    code == 0 and wired and occupied == truth & wired, told)
        line = next((o for o in told if o.get("line") == UNIT), {})
        bench.check("and its time-out and period are judged", line.get("period_ms", 0) > 0, told)
        writes(bench, world)
        world.controllers.mode(SICK, "silent")
        code, _, _ = probe(bench, "--config", world.site.config, "--line", SICK, "--samples", 2)
        bench.check("a silent unit is exit code 1", code == 1, code)
        world.controllers.mode(SICK, "ok")
        beside(bench, world)


def reads(bench, world, at):
    held = world.controllers.registers(UNIT, 0, 40)
    code, told, _ = probe(bench, *at, "--read", "holding:0..39")
    bench.check("what is read is what the unit holds", code == 0 and told[0]["words"] == held, told)
    code, told, _ = probe(bench, *at, "--scan", "holding:0..150")
    there = [(o["first"], o["last"]) for o in told if o["is"] == "there"]
    bench.check("a scan finds its registers", code == 0 and there == [(0, 109)], told)
    code, told, _ = probe(bench, "--config", world.site.config, "--line", UNIT, "--unit", 1,
                          "--profile", "zone-controller")
    fits = [o for o in told if o.get("profile") == "zone-controller"]
    bench.check("its profile fits", code == 0 and fits and fits[0]["fits"], told)


def writes(bench, world):
    at = ["--tcp", f"127.0.0.1:{world.site.ports[PANEL]}", "--unit", 1]
    change = ["--write", "holding:3=17"]
    world.controllers.forget()
    code, _, said = probe(bench, *at, *change)
    bench.check("nobody there to agree: nothing is written",
                code == 1 and "--yes" in said and not world.controllers.writes(), said)
    code, told, _ = probe(bench, *at, *change, "--yes")
    shown = [values for _, _, _, values in world.controllers.writes()]
    bench.check("it is written once and read back",
                code == 0 and shown == [[17]] and told[-1]["holds"], (told, shown))


def beside(bench, world):
    world.daemon.start()
    until(lambda: world.daemon.garages(), 10)
    line = ["--config", world.site.config, "--line", UNIT, "--samples", 2]
    code, _, said = probe(bench, *line)
    bench.check("a running gateway's line is not taken", code == 64 and "gateway" in said, said)
    code, told, _ = probe(bench, *line, "--beside")
    bench.check("unless it is said that two may ask", code == 0 and told, told)


ALL = [probing]
