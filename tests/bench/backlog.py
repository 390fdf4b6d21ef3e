"""The long outage: what it takes, how soon a daemon guides on top of it, and how it drains.

`cargo bench --bench backlog` fills a store as 72 hours without a broker do (then on to a million
records) in memory; the daemon starts on a copy of it on the disk, with the broker out of reach, and
then within reach. While it drains, places are closed as incidents: each makes an alarm and changes
retained state, and both have to overtake what waits. `volume` is what a usual day writes.
"""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import cars
import sites
from common import ROOT, quantile, row
from world import World, until

DRAIN_PER_S = 20_000
START_MAX_S = 2.0
URGENT_MAX_S = 1.0
MEMORY_MAX_MIB = 16.0
VEHICLES_A_DAY = 45_000
VOLUME_MAX_GIB = 2


def fill(folder, hours):
    done = subprocess.run(["cargo", "bench", "-q", "--locked", "--bench", "backlog", "--",
                           str(folder), str(hours)], cwd=ROOT, text=True, capture_output=True,
                          timeout=3_000)
    if done.returncode:
        raise RuntimeError(done.stderr[-400:])
    return json.loads(done.stdout.splitlines()[-1])


def backlog(args):
    """72 hours of outage (6 in the short form), the start on top of it, the drain."""
    hours = (72, 100) if args.full else (6,)
    memory = pathlib.Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        for span in hours:
            path = pathlib.Path(folder) / f"{span}"
            path.mkdir()
            filled = fill(path, span)
            moved = (filled["most_kib"] - filled["first_kib"]) / 1024
            held = not any(filled["dropped"]) and (span > 72 or moved <= MEMORY_MAX_MIB)
            row(f"{span} h without a broker, {filled['records']} records in {filled['commits']} "
                "commits", f"{filled['dropped']} given up (alarms, events, aggregates), file "
                f"{filled['file_mib']} MiB, resident +{moved:.1f} MiB after the first hour",
                bar=f"0 given up, at most +{MEMORY_MAX_MIB:.0f} MiB in 72 h", fine=held)
        one_drain(args, path, filled)


def one_drain(args, filled_store, filled):
    with World(args.binary, mqtt_up=False, replay_per_s=1_000_000) as world:
        shutil.copytree(filled_store, world.site.store)
        began = time.monotonic()
        world.daemon.start(wait=False)
        took_s = until(lambda: world.daemon.allocate("first", at="p1")[0] in (200, 201), 60, 0.01)
        waiting = world.backlog()
        row(f"start with {waiting} records waiting, first answer", f"{took_s or 60:.2f} s",
            bar=f"{START_MAX_S:.0f} s", fine=took_s is not None and took_s <= START_MAX_S
            and waiting >= sum(filled["waiting"]))
        time.sleep(5)
        resident = [world.daemon.rss_mib()]
        world.relay.pass_on()
        until(lambda: world.judge.raw, 30, 0.01)
        began, sent = time.monotonic(), {}
        while world.backlog() > 200 and time.monotonic() - began < 300:
            number = len(sent) + 1
            garage = world.site.garages[number % len(world.site.garages)]
            sent[garage, number] = time.monotonic()
            # It is over before the same garage's turn comes again.
            status, _ = world.daemon.post("/v1/closures", {
                "target": garage, "reason": f"bench {number}", "by": "bench", "expires_s": 1,
                "incident": True})
            assert status < 300, status
            time.sleep(0.8)
            resident.append(world.daemon.rss_mib())
        until(lambda: world.backlog() == 0, 60)
        time.sleep(2)
        arrived = list(world.judge.raw)
    drained(arrived, waiting, filled)
    urgent(arrived, sent)
    row("resident during the drain", f"{min(resident):.1f} to {max(resident):.1f} MiB",
        bar=f"within {MEMORY_MAX_MIB:.0f} MiB", fine=max(resident) - resident[0] <= MEMORY_MAX_MIB)


def volume(args):
    """What a day writes, at the reference site's traffic and the default commit interval."""
    span_s = 600 if args.full else 120
    with World(args.binary, make=sites.reference) as world:
        cars.fill(world.controllers, world.site, 0.6)
        world.daemon.start()
        until(lambda: all(g["unknown"] == 0 for g in world.daemon.garages().values()), 20)
        # As many leave as come: half of the day's changes, and then the other half.
        world.drive(per_s=VEHICLES_A_DAY / 86_400, stay_s=(30, 60))
        time.sleep(60)
        before, began = written_bytes(world), time.monotonic()
        time.sleep(span_s)
        gib = (written_bytes(world) - before) / (time.monotonic() - began) * 86_400 / (1 << 30)
        committed = sum(world.committed_now().values())
    row(f"written at {VEHICLES_A_DAY} vehicles a day, over {span_s} s, {committed} records so far",
        f"{gib:.2f} GiB a day", bar=f"{VOLUME_MAX_GIB} GiB", fine=gib <= VOLUME_MAX_GIB)


def written_bytes(world):
    """What the daemon had written to the disk, by the kernel's count of pages made dirty."""
    text = pathlib.Path(f"/proc/{world.daemon.child.pid}/io").read_text()
    return int(re.search(r"^write_bytes: (\d+)", text, re.M)[1])


def drained(arrived, waiting, filled):
    """Every number once and in order, and how fast."""
    wrong, first_at, last_at, count, messages = [], None, None, 0, 0
    following = {}
    for at, topic, payload, _ in arrived:
        lane = topic.rsplit("/", 1)[-1]
        if lane not in ("alarms", "events", "aggregates"):
            continue
        body = json.loads(payload)
        expected = following.get(lane, 1)
        if body["first"] > expected:
            wrong.append(f"{lane} lacks {expected} to {body['first'] - 1}")
        following[lane] = max(expected, body["last"] + 1)
        count += max(0, body["last"] + 1 - max(expected, body["first"]))
        messages += 1
        first_at = first_at or at
        if count <= waiting:
            last_at = at
    span_s = max(0.001, (last_at or 0) - (first_at or 0))
    missing = max(0, sum(filled["waiting"]) - count)
    row(f"drain of {count} records in {messages} messages",
        f"{count / span_s:.0f} records a second, {missing} missing, {len(wrong)} out of order "
        f"{wrong[:2] or ''}", bar=f"{DRAIN_PER_S} a second, 0, 0",
        fine=not wrong and not missing and count / span_s >= DRAIN_PER_S)


def urgent(arrived, sent):
    """From the order to the alarm, and to the garage's retained state, at the broker's consumer."""
    alarms, states = [], []
    for (garage, number), began in sent.items():
        told = f"bench {number}"
        alarm = (at for at, topic, payload, _ in arrived if topic.endswith("/alarms")
                 and at >= began and told in payload.decode())
        state = (at for at, topic, payload, _ in arrived if f"/state/garages/{garage}" in topic
                 and at >= began and json.loads(payload).get("incident"))
        alarms.append(next(alarm, float("inf")) - began)
        states.append(next(state, float("inf")) - began)
    for what, spans in (("an alarm", alarms), ("retained state", states)):
        most = max(spans, default=float("inf"))
        row(f"{what} during the drain, {len(spans)} orders",
            f"p50 {quantile(spans, 0.5):.2f} s, at most {most:.2f} s",
            bar=f"{URGENT_MAX_S:.0f} s", fine=most <= URGENT_MAX_S)
