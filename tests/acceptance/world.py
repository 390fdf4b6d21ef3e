"""One test's world: site, controllers, broker behind a relay, judge and the daemon, in a folder.

Leaving the `with` block ends every process, whatever happened inside.
"""

import contextlib
import pathlib
import re
import tempfile
import time

import sites
from broker import Broker
from cars import Cars
from controllers import Controllers
from daemon import Daemon
from judge import Judge
from relay import Relay

LOG_TAIL_CHARS = 2_500
# A sweep, the longest debounce, a commit and the snapshot's quarter second, with room for a busy
# box.
SETTLE_S = (sites.PERIOD_MS + sites.BOOKED_FREE_MS + sites.COMMIT_MS + 250) / 1000 + 1.5

LAST = {"log": ""}  # of the daemon that ended last: its folder is gone by then


def last_log():
    return LAST["log"]


class World:
    def __init__(self, binary, make=sites.small, mqtt_up=True, speed=1, devices=Controllers,
                 **site):
        self.stack = contextlib.ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="parkway-test-"))
        self.folder = pathlib.Path(folder)
        self.folder.chmod(0o755)
        self.site = make(self.folder, **site)
        self.site.write()
        self.committed = {}  # lane -> committed before the last kill
        self.breaks = 0  # connections to the broker that were cut: bounds the repeats
        self.mqtt_up, self.cars, self.relay, self.broker = mqtt_up, None, None, None
        self.daemon = Daemon(binary, self.site, speed)
        self.devices = devices

    def __enter__(self):
        try:
            ports = {name: port for name, port in self.site.ports.items()
                     if name.startswith(("zc-", "panel-"))}
            self.controllers = self.devices(ports)
            self.stack.callback(self.controllers.stop)
            self.broker = Broker(self.folder, self.site.ports["mosquitto"])
            self.stack.callback(self.broker.stop)
            self.broker.start()
            self.judge = Judge(self.broker.port, self.broker.password)
            self.stack.callback(self.judge.stop)
            self.judge.wait_ready()
            self.relay = Relay(self.site.ports["broker"], self.broker.port)
            self.stack.callback(self.relay.stop)
            if self.mqtt_up:
                self.relay.pass_on()
            self.stack.callback(lambda: self.daemon.alive() and self.daemon.kill())
            self.stack.callback(lambda: self.cars and self.cars.stop())
            return self
        except BaseException:
            self.stack.close()
            raise

    def __exit__(self, *why):
        LAST["log"] = self.daemon.log_tail(LOG_TAIL_CHARS)
        self.stack.close()

    # Traffic.

    def drive(self, **how):
        self.cars = Cars(self.daemon, self.controllers, self.site, **how)
        self.cars.start()
        return self.cars

    def settle(self):
        """Stops all cars where they are and waits until every sensor has been believed."""
        if self.cars:
            self.cars.stop()
        time.sleep(SETTLE_S)

    # The broker's troubles. Each leaves the judge subscribed before anything may flow.

    def break_link(self, kind):
        """stop, kill: the broker ends. freeze: it is stopped by a signal. hold: the radio dies.
        cut: the path is refused."""
        self.breaks += 1
        if kind in ("stop", "kill"):
            self.relay.cut()
            time.sleep(0.5)  # what the broker holds reaches the judge
            self.broker.stop(kill=kind == "kill")
        elif kind == "freeze":
            self.broker.freeze()
        elif kind == "hold":
            self.relay.hold()
        else:
            self.relay.cut()

    def mend_link(self, kind):
        if kind in ("stop", "kill"):
            self.judge.ready.clear()
            self.broker.start()
            self.judge.wait_ready()
        elif kind == "freeze":
            self.broker.thaw()
        self.relay.pass_on()

    # The daemon's death, and what it had said was on disk.

    def kill_daemon(self):
        """SIGKILL. What /metrics last called committed has to arrive, whatever comes now."""
        self.committed = self.committed_now()
        self.daemon.kill()
        self.breaks += 1

    def committed_now(self):
        """Lane -> records committed in the store's life."""
        return self.by_lane("parkway_records_committed_total")

    def backlog(self):
        return sum(self.by_lane("parkway_backlog_records").values())

    def by_lane(self, metric):
        found = {}
        for series, value in self.daemon.metrics().items():
            if match := re.fullmatch(metric + r'\{lane="(\w+)"\}', series):
                found[match[1]] = int(value)
        return found

    # Verdicts that several scenarios share.

    def picture_faults(self):
        """Where the daemon's picture differs from the controllers' truth, garage by garage."""
        truth, state, wrong = self.controllers.truth(), self.daemon.garages(), []
        for garage in self.site.garages:
            told = state[garage]
            units = [zone.unit for zone in self.site.zones if zone.garage == garage]
            occupied = sum(len(truth[unit]) for unit in units)
            total = sum(told[part] for part in ("free", "held", "occupied", "unknown", "closed"))
            if total != self.site.bays_of(garage) or told["unknown"]:
                wrong.append(f"{garage}: parts make {total}, {told['unknown']} unknown")
            # A bay out of service counts as closed, whatever stands in it.
            if not occupied - told["closed"] <= told["occupied"] <= occupied:
                wrong.append(f"{garage}: {told['occupied']} occupied, in truth {occupied}")
        return wrong

    def sign_faults(self):
        """Count signs whose register is not what the daemon's own counts call for."""
        state, wrong = self.daemon.garages(), []
        for sign, (index, garage) in self.site.signs().items():
            told = self.controllers.registers("panel-1", index)[0]
            expected = max(0, state[garage]["free"] - sites.KEEP_BACK)
            if told != expected and not (expected == 0 and told == sites.FULL):
                wrong.append(f"{sign} shows {told}, not {expected}")
        return wrong

    def upstream_faults(self, quiet_s=2.0, timeout_s=60):
        """Waits for the backlog, then lets the judge speak."""
        drained = until(lambda: self.backlog() == 0, timeout_s, 0.5)
        # What is committed now has to be with the judge once it is quiet.
        committed = self.committed_now()
        if drained is None or not self.judge.quiet(quiet_s, timeout_s):
            return [f"records still come after {timeout_s} s, {self.backlog()} wait"]
        ledger = self.judge.look()
        wrong = ledger.verdict(sites.WINDOW * self.breaks)
        for lane, count in committed.items():
            count = max(count, self.committed.get(lane, 0))
            got = sum(len(numbers) for (_, of), numbers in ledger.covered.items() if of == lane)
            if got < count:
                wrong.append(f"{lane}: {count} were committed, {got} came")
        if self.cars:
            lost = self.cars.durable - ledger.granted()
            wrong += [f"lease {lease} was durable and never told upstream" for lease in lost]
        return wrong


def until(what, timeout_s, every_s=0.1):
    """Asks until it is true; the seconds it took, or None."""
    began = time.monotonic()
    while True:
        try:
            if what():
                return time.monotonic() - began
        except OSError:
            pass
        if time.monotonic() - began > timeout_s:
            return None
        time.sleep(every_s)
