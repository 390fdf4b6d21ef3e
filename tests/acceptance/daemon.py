"""The daemon under test: started as a process, spoken to over HTTP, measured from /proc.

Everything that depends on the shape of the daemon's answers stands here, in one place.
"""

import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Daemon:
    def __init__(self, binary, site, speed=1):
        self.binary, self.site, self.speed = binary, site, speed
        self.log = site.folder / "parkway.log"
        self.port = site.ports["http"]
        self.child = None
        self.local = threading.local()
        self.environment = {}

    def start(self, wait=True, user=None):
        args = [str(self.binary), "run", "--config", str(self.site.config)]
        if self.speed != 1:
            args += ["--clock-speed", str(self.speed)]
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(args, stdout=log, stderr=log, user=user,
                                          env={**os.environ, **self.environment})
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout_s=20):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise RuntimeError(f"parkway ended with {self.child.returncode}: "
                                   f"{self.log_tail()}")
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"parkway is not ready: {self.log_tail()}")

    def alive(self):
        return self.child is not None and self.child.poll() is None

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self, timeout_s=10):
        """SIGTERM; returns (exit code, seconds it took)."""
        began = time.monotonic()
        if self.alive():
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
                return None, time.monotonic() - began
        return self.child.returncode if self.child else None, time.monotonic() - began

    def hang_up(self):
        self.child.send_signal(signal.SIGHUP)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self, chars=1_500):
        return self.log_text()[-chars:]

    # HTTP: a connection kept per thread, made anew after any error.

    def ask(self, method, path, body=None, timeout_s=10, headers=()):
        """(status, decoded body); bytes and str go as they are, all else as JSON."""
        raw = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
        for attempt in (0, 1):
            conn = getattr(self.local, "conn", None)
            if conn is None:
                conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
                self.local.conn = conn
            try:
                conn.request(method, path, raw, {"Content-Type": "application/json",
                                                 **dict(headers)})
                response = conn.getresponse()
                return response.status, decode(response.read())
            except (OSError, http.client.HTTPException) as error:
                conn.close()
                self.local.conn = None
                # A kept connection may have died with an earlier daemon: one fresh try.
                if attempt or isinstance(error, TimeoutError):
                    raise OSError(f"{method} {path}: {error!r}") from error
        return None

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, body):
        return self.ask("POST", path, body)

    def allocate(self, request_id, at="n-cordon", **more):
        return self.post("/v1/allocations", {"request_id": request_id, "at": at, **more})

    # What its answers say.

    def state(self):
        return self.get("/v1/state")[1]

    def garages(self):
        return {garage["id"]: garage for garage in self.state()["garages"]}

    def units(self):
        return {unit["id"]: unit for unit in self.state()["units"]}

    def signs(self):
        signs = self.get("/v1/signs")[1]
        signs = signs["signs"] if isinstance(signs, dict) else signs
        return {sign["id"]: sign for sign in signs}

    def closures(self):
        answer = self.get("/v1/closures")[1]
        answer = answer["closures"] if isinstance(answer, dict) else answer
        return {closure["target"] for closure in answer}

    def lease(self, lease):
        return self.get(f"/v1/allocations/{lease}")

    def metrics_text(self):
        return self.get("/metrics")[1]

    def metrics(self):
        """Series with its labels -> value."""
        found = {}
        for line in self.metrics_text().splitlines():
            if match := re.fullmatch(r"(\w+(?:\{.*\})?) ([-+.\deEinfNa]+)", line):
                found[match[1]] = float(match[2])
        return found

    def cpu_s(self):
        """User and system seconds of the whole process."""
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def rss_mib(self, peak=False):
        key = "VmHWM" if peak else "VmRSS"
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(rf"{key}:\s+(\d+)", status)[1]) / 1024


def decode(raw):
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")
