"""Broker and gateway die, together and apart; nothing may be lost, doubled or mixed up."""

import random
import time

from world import World, until

# Long leases, so that those open before a kill must still be open after it.
LONG = {"hold_extra_s": 600}
FAR_S = 300


def broker_trouble(kind):
    def scenario(bench):
        with World(bench.binary) as world:
            world.daemon.start()
            cars = world.drive(per_s=6)
            time.sleep(8)
            world.break_link(kind)
            time.sleep(60 if bench.full else 15)
            world.mend_link(kind)
            time.sleep(5)
            guided_on(bench, cars)
            aftermath(bench, world)
    scenario.__name__ = f"broker_{kind}"
    scenario.__doc__ = f"The broker's trouble is '{kind}' for a while; guidance does not notice."
    return scenario


def guided_on(bench, cars):
    bench.check("guidance goes on", not cars.bad_answers() and not cars.errors,
                (cars.bad_answers()[:2], cars.errors[:2]))


def aftermath(bench, world):
    world.settle()
    faults = world.picture_faults()
    bench.check("the picture equals the truth", not faults, faults[:3])
    faults = world.upstream_faults(timeout_s=90)
    bench.check("nothing lost, doubled or out of order", not faults, faults[:5])
    ledger = world.judge.look()
    bench.note(f"{sum(map(len, ledger.records.values()))} records, "
               f"{sum(ledger.repeats.values())} repeats")


def broker_absent_from_boot(bench):
    """The daemon starts without a broker, guides, and delivers from the first record on."""
    with World(bench.binary, mqtt_up=False) as world:
        world.daemon.start()
        cars = world.drive(per_s=6)
        time.sleep(60 if bench.full else 12)
        bench.check("nothing came yet", world.judge.look().messages == 0)
        world.relay.pass_on()
        world.breaks += 1
        time.sleep(6)
        guided_on(bench, cars)
        aftermath(bench, world)
        firsts = {key[1]: seqs[0] for key, seqs in world.judge.look().order.items()}
        bench.check("lanes begin at their first record", set(firsts.values()) <= {0, 1}, firsts)


def kill_during(kind):
    def scenario(bench):
        with World(bench.binary, guidance=LONG) as world:
            world.daemon.start()
            until(lambda: all(u["fresh"] for u in zone_units(world)), 10)
            kept = Kept(bench, world)
            cars = world.drive(per_s=6)
            cars.shun |= set(kept.leases.values())
            time.sleep(6)
            if kind:
                world.break_link(kind)
                time.sleep(30 if bench.full else 7)
            world.kill_daemon()
            world.daemon.start()
            kept.compare(bench, world)
            time.sleep(30 if bench.full else 7)
            if kind:
                world.mend_link(kind)
            time.sleep(5)
            aftermath(bench, world)
            kept.compare_late(bench, world, cars)
    scenario.__name__ = f"kill_during_{kind}" if kind else "kill_under_load"
    scenario.__doc__ = f"SIGKILL while the broker's trouble is '{kind or 'none'}'."
    return scenario


def zone_units(world):
    return [unit for name, unit in world.daemon.units().items() if name.startswith("zc-")]


class Kept:
    """What must outlive a kill: leases, closures, sign modes; made and answered before it.

    These drivers are minutes away: a car that parks beside its promise must not be taken for one
    of them, which would rightly end that lease.
    """

    def __init__(self, bench, world):
        daemon = world.daemon
        answers = [daemon.allocate(f"kept-{ix}", eta_s=FAR_S) for ix in range(5)]
        self.leases = {answer["lease"]: answer["bay"] for _, answer in answers}
        bench.check("leases are durable when answered",
                    all(answer["durable"] for _, answer in answers), answers[0])
        self.closures = {"g02/B1/A/050", "link:n-cordon>p2"}
        for target in self.closures:
            status, answer = daemon.post("/v1/closures", {"target": target, "reason": "works",
                                                          "by": "staff"})
            bench.check(f"closing {target} is accepted", status in (200, 201, 204), answer)
        status, answer = daemon.ask("PUT", "/v1/signs/s-g03/mode", {"mode": "closed",
                                                                    "by": "staff"})
        bench.check("a sign's mode is accepted", status in (200, 204), answer)

    def compare(self, bench, world):
        daemon = world.daemon
        found = {lease: daemon.lease(lease) for lease in self.leases}
        wrong = [f"{lease}: {answer}" for lease, answer in found.items()
                 if answer[0] != 200 or answer[1]["bay"] != self.leases[lease] or answer[1]["end"]]
        bench.check("leases open before are open after, same bay", not wrong, wrong[:2])
        bench.check("closures survive", self.closures <= daemon.closures(), daemon.closures())
        bench.check("a sign's mode survives", daemon.signs()["s-g03"]["mode"] == "closed",
                    daemon.signs()["s-g03"])
        again = daemon.allocate("kept-0", eta_s=FAR_S)[1].get("lease")
        bench.check("a request repeated after the kill gets its lease", again in self.leases, again)

    def compare_late(self, bench, world, cars):
        bays = [answer["bay"] for _, status, answer in cars.answers
                if status == 200 and answer.get("bay")]
        stolen = [bay for bay in bays if bay in self.leases.values()]
        bench.check("no bay of an open lease was given again", not stolen, stolen[:3])
        bench.check("a closed bay was given to nobody", "g02/B1/A/050" not in bays)
        bench.check("the closed sign still shows it",
                    world.controllers.registers("panel-1", 2)[0] == 10_002)


def killed_often(bench):
    """SIGKILL at random moments, every third time before it is ready, again and again."""
    dice, rounds = random.Random(7), 500 if bench.full else 9
    with World(bench.binary) as world:
        world.daemon.start()
        world.drive(per_s=20)
        for ix in range(rounds):
            time.sleep(dice.uniform(0.05, 0.8 if bench.full else 2))
            world.kill_daemon()
            if ix % 3 == 2:
                world.daemon.start(wait=False)
                time.sleep(dice.uniform(0, 0.2))
                world.daemon.kill()
                world.breaks += 1
            world.daemon.start()
        time.sleep(3)
        bench.note(f"{world.breaks} kills")
        aftermath(bench, world)


ALL = [broker_trouble("stop"), broker_trouble("freeze"), broker_trouble("hold"),
       broker_trouble("kill"), broker_absent_from_boot, kill_during(None), kill_during("stop"),
       kill_during("freeze"), killed_often]
