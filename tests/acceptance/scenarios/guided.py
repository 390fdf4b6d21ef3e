"""Guided minutes: everything is up, cars come and go, and the books must balance."""

import time

import sites
from world import World, until


def guided(bench):
    """Cars for minutes; then the picture, the signs, the leases and the history are compared."""
    with World(bench.binary) as world:
        world.daemon.start()
        cars = world.drive(per_s=5)
        time.sleep(300 if bench.full else 90)
        cars.stop_arrivals()
        traffic(bench, world, cars)
        at_rest(bench, world)
        history(bench, world)


def traffic(bench, world, cars):
    bays = sum(1 for _, status, answer in cars.answers if answer.get("promise") == "bay")
    bench.check("every arrival is answered 200", not cars.bad_answers() and not cars.errors,
                (cars.bad_answers()[:2], cars.errors[:2]))
    bench.check("nearly all get a bay", bays > 0.95 * len(cars.answers) > 0,
                f"{bays} of {len(cars.answers)}")
    durable = sum(1 for _, _, answer in cars.answers if answer.get("durable"))
    bench.check("most answers are durable", durable > 0.9 * len(cars.answers),
                f"{durable} of {len(cars.answers)}")
    given = [answer["bay"] for _, _, answer in cars.answers if answer.get("bay")]
    bench.check("promised bays exist", all(bay in world.site.wires for bay in given))


def at_rest(bench, world):
    world.settle()
    # Leases that nobody will come for have to end before signs are at rest.
    until(lambda: all(g["held"] == 0 for g in world.daemon.garages().values()), 60)
    time.sleep(1.5)
    faults = world.picture_faults()
    bench.check("the picture equals the controllers' truth", not faults, faults[:3])
    faults = world.sign_faults()
    bench.check("each sign's register equals free less keep-back", not faults, faults[:3])


def history(bench, world):
    # A window of aggregates closes within a minute.
    until(lambda: "garage_window" in world.judge.look().types("aggregates"), 70, 1)
    faults = world.upstream_faults()
    ledger = world.judge.look()
    bench.check("the judge finds nothing wrong", not faults, faults[:5])
    ends = ledger.ends()
    for end in ("fulfilled", "took_other", "expired", "cancelled"):
        bench.check(f"some leases end {end}", ends.get(end, 0) > 0, ends)
    garages = {r["garage"] for r in ledger.lane("aggregates") if r["type"] == "garage_window"}
    bench.check("every garage has a window", garages == set(world.site.garages), garages)
    wanted = {f"parkway/test/state/garages/{g}" for g in world.site.garages}
    wanted |= {f"parkway/test/state/signs/{s}" for s in world.site.signs()}
    wanted.add("parkway/test/state/gateway")
    missing = wanted - set(ledger.retained)
    bench.check("garages, signs and gateway are retained state", not missing, sorted(missing)[:3])
    stale = stale_state(world, ledger)
    bench.check("retained counts are the daemon's", not stale, stale[:3])


def stale_state(world, ledger):
    wrong = []
    for garage, told in world.daemon.garages().items():
        kept = ledger.retained.get(f"parkway/test/state/garages/{garage}", {})
        if kept.get("free") != told["free"] or kept.get("occupied") != told["occupied"]:
            wrong.append(f"{garage}: retained {kept.get('free')} free, not {told['free']}")
    return wrong


def reference_site(bench):
    """The real size for a moment: all 34 lines swept each second, all bays known, cars guided."""
    with World(bench.binary, make=sites.reference) as world:
        filled = bench.fill(world, 0.7)
        world.daemon.start()
        took = until(lambda: all(g["unknown"] == 0 for g in world.daemon.garages().values()), 15)
        bench.check("21,000 bays are known", took is not None, f"{took} s, {filled} cars")
        world.controllers.forget()
        world.drive(per_s=5)
        time.sleep(30 if bench.full else 12)
        slow = [f"{unit}: {late:.2f} s" for unit in world.site.units
                if (late := worst_interval(world, unit)) > 1.5]
        bench.check("no sweep is missed", not slow, slow)
        world.settle()
        faults = world.picture_faults()
        bench.check("the picture equals the truth", not faults, faults[:3])
        faults = world.upstream_faults()
        bench.check("the judge finds nothing wrong", not faults, faults[:5])
        bench.note(f"{world.daemon.rss_mib(peak=True):.1f} MiB resident at most")


def worst_interval(world, unit):
    times = world.controllers.stats()[unit]["sweeps"]
    gaps = [b - a for a, b in zip(times, times[1:])]
    return max(gaps, default=99.0)


ALL = [guided, reference_site]
