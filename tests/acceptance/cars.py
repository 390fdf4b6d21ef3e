"""Cars: they arrive over HTTP, obey their allocation, or not, stay a while and leave.

Fates are drawn from a seeded generator. What a car does to the world it does through the
controllers: a bay's bit, the door's counter. The bays cars stand in are the truth that the
gateway's picture is compared with.
"""

import heapq
import itertools
import random
import threading
import time

# Shares of what drivers do with a promise of a bay; the rest obey.
OTHER_BAY, NEVER_COMES, CANCELS, SAYS_PARKED = 0.12, 0.08, 0.05, 0.25
# Of the arrivals, where a destination is given at all.
DESTINED = 0.7


class Cars:
    """Runs a population until told to stop: `per_s` arrivals a second on average."""

    def __init__(self, daemon, controllers, site, per_s=4.0, stay_s=(10, 30), seed=7,
                 pace=(0.7, 1.2), destination=None):
        self.daemon, self.controllers, self.site = daemon, controllers, site
        self.per_s, self.stay_s, self.pace = per_s, stay_s, pace
        self.destination = destination  # of most; the others name none
        self.dice = random.Random(seed)
        self.standing = {(unit, point) for unit, points in controllers.truth().items()
                         for point in points}
        self.due, self.tie = [], itertools.count()
        self.answers = []   # (request, status, answer) of each arrival
        self.errors = []    # arrivals nobody answered: only right while the daemon is down
        self.open = {}      # lease -> bay, as the cars know it
        self.shun = set()   # bays that nobody takes unasked
        self.durable = set()
        self.running = False
        self.arriving = True
        self.thread = None
        self.run_tag = f"{random.randrange(16**6):06x}"

    def start(self):
        self.running = self.arriving = True
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def stop_arrivals(self):
        self.arriving = False

    def stop(self):
        self.running = False
        if self.thread:
            self.thread.join(15)

    def loop(self):
        next_arrival = time.monotonic()
        while self.running:
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                _, _, deed, args = heapq.heappop(self.due)
                deed(*args)
            if self.arriving and now >= next_arrival:
                next_arrival = max(next_arrival + self.dice.expovariate(self.per_s), now - 1)
                self.arrive()
            time.sleep(0.005)

    def later(self, span_s, deed, *args):
        at = time.monotonic() + self.dice.uniform(*span_s)
        heapq.heappush(self.due, (at, next(self.tie), deed, args))

    def arrive(self):
        request = f"car-{self.run_tag}-{len(self.answers)}-{len(self.errors)}"
        kind = self.dice.choices(("car", "ev", "disabled"), (90, 7, 3))[0]
        at = self.dice.choice(("n-cordon", "n-cordon", "p1", "p2"))
        more = {"class": kind}
        if self.destination and self.dice.random() < DESTINED:
            more["destination"] = self.destination
        try:
            status, answer = self.daemon.allocate(request, at, **more)
        except OSError as error:
            self.errors.append((time.monotonic(), str(error)))
            return
        self.answers.append((request, status, answer))
        if status == 200 and answer.get("lease"):
            self.open[answer["lease"]] = answer.get("bay")
            if answer.get("durable"):
                self.durable.add(answer["lease"])
            self.choose_fate(answer)

    def choose_fate(self, answer):
        fate, lease = self.dice.random(), answer["lease"]
        # Drivers take about as long as they were told.
        drive_s = [answer["travel_s"] * pace for pace in self.pace]
        if fate < NEVER_COMES:
            self.open.pop(lease, None)
        elif fate < NEVER_COMES + CANCELS:
            self.later(drive_s, self.cancel, lease)
        elif fate < NEVER_COMES + CANCELS + OTHER_BAY:
            self.later(drive_s, self.park_elsewhere, answer)
        else:
            self.later(drive_s, self.park, answer)

    def cancel(self, lease):
        self.open.pop(lease, None)
        self.quietly("DELETE", f"/v1/allocations/{lease}")

    def park(self, answer):
        wire = self.site.wires.get(answer.get("bay"))
        if wire is None or wire in self.standing:
            return self.park_elsewhere(answer)
        self.stand(answer, wire)
        if self.dice.random() < SAYS_PARKED:
            self.quietly("POST", f"/v1/allocations/{answer['lease']}/parked", {})
        return None

    def park_elsewhere(self, answer):
        """Any other free bay of the promised zone, else of the garage."""
        zone = answer.get("zone") or ""
        for prefix in (f"{zone}/", f"{answer.get('garage')}/"):
            choice = [wire for bay, wire in self.site.wires.items()
                      if bay.startswith(prefix) and bay != answer.get("bay")
                      and bay not in self.shun and wire not in self.standing]
            if choice:
                return self.stand(answer, self.dice.choice(choice))
        return self.open.pop(answer["lease"], None)

    def stand(self, answer, wire):
        self.open.pop(answer["lease"], None)
        self.standing.add(wire)
        self.controllers.count(self.site.door_unit(answer["garage"]), 0)
        self.controllers.set([(*wire, 1)])
        self.later(self.stay_s, self.leave, wire, answer["garage"])

    def leave(self, wire, garage):
        self.standing.discard(wire)
        self.controllers.set([(*wire, 0)])
        self.controllers.count(self.site.door_unit(garage), 1)

    def quietly(self, method, path, body=None):
        try:
            self.daemon.ask(method, path, body)
        except OSError as error:
            self.errors.append((time.monotonic(), str(error)))

    def bad_answers(self):
        """Arrivals that were refused though they were well formed."""
        return [(request, status, answer) for request, status, answer in self.answers
                if status != 200]


def fill(controllers, site, share, seed=3):
    """Parks anonymous cars in a share of all bays at once."""
    dice = random.Random(seed)
    changes = [(*wire, 1) for wire in site.wires.values() if dice.random() < share]
    controllers.set(changes)
    return len(changes)
