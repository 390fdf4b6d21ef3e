"""The machinery judged: planted faults must each be seen, and the parts must do what they claim.

Run before the scenarios, without the daemon: a judge that sees nothing would pass everything.
"""

import json
import pathlib
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import sites  # noqa: E402
from broker import Broker  # noqa: E402
from controllers import Controllers  # noqa: E402
from judge import Judge, Ledger  # noqa: E402
from relay import Relay  # noqa: E402

EPOCH = "00112233445566aa"
TALLY = {"free": 3, "held": 1, "occupied": 4, "unknown": 1, "closed": 1}
results = []


def check(name, fine, detail=""):
    results.append(bool(fine))
    print(f"    {'ok   ' if fine else 'FAIL '} {name} {'' if fine else detail}", flush=True)


def record(seq, kind="bay", **body):
    stamp = {"seq": seq, "mono_ms": 1_000 + seq, "at": "2026-01-02T03:04:05.678Z", "type": kind}
    if kind == "bay":
        body = {"bay": "g01/B1/A/001", "from": "free", "to": "occupied"} | body
    return stamp | body


def chunk(records, lane="events", **changes):
    seqs = [r["seq"] for r in records]
    body = {"v": 1, "gateway": "test-edge-1", "epoch": EPOCH, "lane": lane, "boot": "boot-1",
            "first": seqs[0], "last": seqs[-1], "records": records}
    return f"parkway/test/{lane}", json.dumps(body | changes).encode()


def lease(seq, name, bay, kind="lease_granted"):
    return record(seq, kind, lease=name, at="p1", promise="bay", destination=None, garage="g01",
                  zone="g01/B1/A", bay=bay, travel_s=9, hold_s=60, **{"class": "car"})


def ended(seq, name, end="fulfilled"):
    return record(seq, "lease_ended", lease=name, end=end, inferred=True, bay=None, held_s=4)


def window(seq, **changes):
    body = {"garage": "g01", "window_s": 60, "cars_in": 1, "cars_out": 1, "counted_by": "loops",
            "bays": 10, **TALLY, "by_class": {"car": dict(TALLY)}, "granted": 2}
    return record(seq, "garage_window", **(body | changes))


def schemas(folder):
    """The least that stands in for the real schemas: the envelope and no unknown keys."""
    keys = ("v", "gateway", "epoch", "lane", "boot", "first", "last", "records")
    shape = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
             "required": list(keys), "additionalProperties": False,
             "properties": {key: {} for key in keys} | {
                 "records": {"type": "array", "minItems": 1, "items": {
                     "type": "object", "required": ["seq", "type"],
                     "properties": {"seq": {"type": "integer"}}}}}}
    for lane in ("alarms", "events", "aggregates"):
        (pathlib.Path(folder) / f"{lane}.schema.json").write_text(json.dumps(shape))
    return folder


def verdict(folder, messages, allowed=0):
    ledger = Ledger(folder)
    for message in messages:
        ledger.take(*message)
    return ledger.verdict(allowed)


def judge_sees(folder):
    good = [chunk([record(1), record(2)]), chunk([record(3)]),
            chunk([lease(4, "a-1", "x"), ended(5, "a-1"), lease(6, "a-2", "x")]),
            chunk([window(1)], "aggregates"),
            chunk([window(16, covers=[2, 16]), window(17)], "aggregates", first=2)]
    wrong = verdict(folder, good)
    check("the judge accepts what is right", not wrong, wrong)
    planted = {
        "a lost record": ([chunk([record(1)]), chunk([record(3)])], "lacks 2"),
        "numbers that no merged window covers": ([chunk([window(1)], "aggregates"), chunk(
            [window(16, covers=[3, 16])], "aggregates", first=3)], "lacks 2"),
        "a hole between merged windows": ([chunk(
            [window(5, covers=[1, 5]), window(9, covers=[7, 9])], "aggregates", first=1)],
            "leave numbers out"),
        "a window merged and sent": ([chunk([window(1), window(2)], "aggregates"), chunk(
            [window(9, covers=[2, 9])], "aggregates", first=2)], "another record stands for"),
        "a merged window that covers other numbers": ([chunk(
            [window(9, covers=[1, 8])], "aggregates", first=1, last=8)], "does not end with it"),
        "a lost beginning": ([chunk([record(5)])], "begins at 5"),
        "records out of order": ([chunk([record(1)]), chunk([record(3)]), chunk([record(2)])],
                                 "out of order"),
        "more repeats than allowed": ([chunk([record(1)]), chunk([record(1)])], "repeats"),
        "a repeat that differs": ([chunk([record(1)]), chunk([record(1, to="free")])],
                                  "another body"),
        "a schema error in a record": ([chunk([{"seq": "1", "type": "bay"}])], "schema"),
        "an unknown key": ([chunk([record(1)], colour=1)], "schema"),
        "what is not JSON": ([("parkway/test/events", b"{")], "not JSON"),
        "a frame that lies": ([chunk([record(1), record(2)], last=3)], "frame"),
        "a foreign lane": ([("parkway/test/alarms", chunk([record(1)])[1])], "chunk of lane"),
        "a topic nobody described": ([("parkway/test/gossip", b"{}")], "no schema"),
        "a bay given twice": ([chunk([lease(1, "a-1", "x"), lease(2, "a-2", "x")])],
                              "while a-1 holds"),
        "a moved lease on a held bay": ([chunk([
            lease(1, "a-1", "x"), lease(2, "a-2", "y"), lease(3, "a-2", "x", "lease_moved")])],
            "while a-1 holds"),
        "an aggregate that loses a bay": ([chunk([window(1, free=2)], "aggregates")], "of 10"),
        "a class that loses a bay": ([chunk([window(1, by_class={"car": TALLY | {"free": 0}})],
                                            "aggregates")], "of 10"),
    }
    for name, (messages, said) in planted.items():
        wrong = verdict(folder, messages)
        check(f"the judge sees {name}", any(said in fault for fault in wrong), wrong)
    wrong = verdict(folder, [chunk([record(1)]), chunk([record(1)])], allowed=1)
    check("repeats within the window are allowed", not wrong, wrong)
    gap = record(1, "gap", of="events", count=1, first=2, last=2, why="backlog full")
    told = [chunk([gap], "alarms"), chunk([record(1)]), chunk([record(3)])]
    check("an announced gap is no loss", not verdict(folder, told), verdict(folder, told))


def controllers_work():
    from pymodbus.client import ModbusTcpClient

    ports = dict(zip(("zc-01", "zc-02", "panel-1"), sites.free_ports(3)))
    units = Controllers(ports)
    try:
        client = ModbusTcpClient("127.0.0.1", port=ports["zc-01"], timeout=0.5, retries=0)
        client.connect()
        units.set([["zc-01", 0, 1], ["zc-01", 17, 1], ["zc-01", 629, 1]])
        units.count("zc-01", 1, 65_537)
        words = client.read_holding_registers(0, count=40, device_id=1).registers
        check("bits stand where the profile says",
              (words[0], words[1], words[39]) == (1, 2, 1 << (629 - 39 * 16)), words)
        doors = client.read_holding_registers(100, count=4, device_id=1).registers
        check("counters are high word first", doors == [0, 0, 1, 1], doors)
        check("truth is what was set", units.truth()["zc-01"] == {0, 17, 629})
        units.set([["zc-01", 17, 0]])
        check("a bay empties", units.truth()["zc-01"] == {0, 629})
        panel = ModbusTcpClient("127.0.0.1", port=ports["panel-1"], timeout=0.5)
        panel.connect()
        panel.write_register(3, 598, device_id=1)
        panel.write_registers(1000, [0x4142] * 12, device_id=1)
        check("a sign's register is kept", units.registers("panel-1", 3) == [598])
        check("writes are remembered", [w[2:] for w in units.writes()] == [
            [3, [598]], [1000, [0x4142] * 12]], units.writes())
        check("sweeps are counted", len(units.stats()["zc-01"]["sweeps"]) == 1)
        modes_work(units, client, ports)
    finally:
        units.stop()
    check("the controllers end", units.child.poll() is not None)


def modes_work(units, client, ports):
    from pymodbus.client import ModbusTcpClient

    def read():
        one = ModbusTcpClient("127.0.0.1", port=ports["zc-01"], timeout=0.5, retries=0)
        try:
            one.connect()
            began = time.monotonic()
            answer = one.read_holding_registers(0, count=1, device_id=1)
            return not answer.isError(), time.monotonic() - began
        except Exception:
            return False, 0
        finally:
            one.close()

    client.close()
    for mode, ms, fine in (("silent", 0, False), ("slow", 200, True), ("babble", 0, False),
                           ("off", 0, False), ("ok", 0, True)):
        units.mode("zc-01", mode, ms)
        good, took = read()
        slow_enough = mode != "slow" or took >= 0.2
        check(f"mode {mode} does it", good == fine and slow_enough, (good, took))


def broker_and_relay(folder):
    import paho.mqtt.client as mqtt

    port, relay_port = sites.free_ports(2)
    broker = Broker(folder, port)
    broker.start()
    relay = Relay(relay_port, port)
    judge = Judge(port, broker.password)
    judge.ledger = Ledger(schemas(folder))
    sender = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "sender", protocol=mqtt.MQTTv5)
    sender.username_pw_set("parkway", broker.password)
    sender.reconnect_delay_set(1, 1)
    try:
        judge.wait_ready()
        relay.pass_on()
        sender.connect("127.0.0.1", relay_port, 5)
        sender.loop_start()
        send(sender, 1)
        wait_for(judge, 1)
        check("a message passes relay and broker", judge.look().messages == 1)
        for how in ("stop", "kill", "freeze", "hold"):
            trouble(broker, relay, judge, sender, how)
        wrong = judge.look().verdict(8)
        check("stopping the broker loses nothing that the judge can blame", not wrong, wrong)
        try:
            Judge(port, "wrong").wait_ready(1)
            check("a wrong password is refused", False)
        except RuntimeError:
            check("a wrong password is refused", True)
    finally:
        sender.loop_stop()
        judge.stop()
        relay.stop()
        broker.stop()


def send(client, seq):
    client.publish(*chunk([record(seq)]), qos=1)


def wait_for(judge, messages, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and judge.look().messages < messages:
        time.sleep(0.05)


def trouble(broker, relay, judge, sender, how):
    """A record sent during the trouble must not come before it is mended, and come after."""
    before = judge.look().messages
    seq = max(judge.look().order[(EPOCH, "events")]) + 1
    if how in ("stop", "kill"):
        relay.cut()
        time.sleep(0.3)
        broker.stop(kill=how == "kill")
    elif how == "freeze":
        broker.freeze()
    else:
        relay.hold()
    send(sender, seq)
    time.sleep(1)
    during = judge.look().messages
    if how in ("stop", "kill"):
        judge.ready.clear()
        broker.start()
        judge.wait_ready()
    elif how == "freeze":
        broker.thaw()
    relay.pass_on()
    wait_for(judge, before + 1)
    check(f"'{how}' stops the flow and it resumes", (during, judge.look().messages >= before + 1)
          == (before, True), (before, during, judge.look().messages))


def site_is_whole():
    with tempfile.TemporaryDirectory(prefix="parkway-test-") as folder:
        big = sites.reference(folder)
        check("the reference site has 21,000 bays on 34 units in 26 garages",
              (len(big.wires), len(big.zones), len(big.garages)) == (21_000, 34, 26))
        import tomllib
        main = tomllib.loads(big.write().read_text())
        parts = [tomllib.loads((big.folder / name).read_text())
                 for name in main["site"]["include"]]
        check("its files are TOML", len(parts) == 26 and len(main["sign"]) == 27)


def cars_keep_apart(folder):
    """Cars never park two in a bay, whatever they are promised."""
    from cars import Cars

    class Nobody:
        changes = []

        def truth(self):
            return {}

        def set(self, changes):
            self.changes += changes

        def count(self, *_):
            pass

    site = sites.small(folder, controllers=2, garages=1, bays=20)
    cars = Cars(None, Nobody(), site)
    promise = {"lease": "a-1", "bay": "g01/B1/A/001", "zone": "g01/B1/A", "garage": "g01"}
    cars.stand(promise, site.wires[promise["bay"]])
    cars.park_elsewhere(promise)
    parked = [tuple(change[:2]) for change in Nobody.changes]
    check("two cars stand in two bays", len(parked) == len(set(parked)) == 2, parked)


def main():
    with tempfile.TemporaryDirectory(prefix="parkway-test-") as folder:
        schemas(folder)
        judge_sees(folder)
        site_is_whole()
        cars_keep_apart(folder)
        controllers_work()
        broker_and_relay(folder)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
