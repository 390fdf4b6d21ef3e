"""Starting, stopping, reloading, being measured; a port in use, a store that cannot be written."""

import http.client
import os
import shutil
import socket
import subprocess
import time

import sites
from broker import find
from world import World, until


def clean_stop(bench):
    """SIGTERM: exit 0 within 5 s, every sign at its fallback."""
    with World(bench.binary) as world:
        world.daemon.start()
        shows = lambda: world.controllers.registers("panel-1", 0)[0] == 600 - sites.KEEP_BACK
        bench.check("signs show their counts", until(shows, 8) is not None,
                    world.controllers.registers("panel-1", 0))
        world.drive(per_s=5)
        time.sleep(3)
        code, took = world.daemon.stop()
        bench.check("exit 0 within 5 s", code == 0 and took <= 5, (code, took))
        faces = world.controllers.registers("panel-1", 0, len(world.site.garages))
        bench.check("count signs are at their fallback", set(faces) == {sites.BLANK}, faces)
        words = world.controllers.registers("panel-1", 1000, 12)
        text = b"".join(word.to_bytes(2, "big") for word in words).decode().rstrip()
        bench.check("the call-out is at its fallback", text == "FOLLOW THE SIGNS", text)
        offline = lambda: world.judge.look().retained.get(
            "parkway/test/state/gateway", {}).get("online") is False
        bench.check("upstream is told", until(offline, 3) is not None)


def reload(bench):
    """SIGHUP takes weights, thresholds and the log level, and refuses the rest by name."""
    with World(bench.binary) as world:
        world.daemon.start()
        time.sleep(2.5)
        before = world.daemon.allocate("before")[1]["expires_in_s"]
        quiet = "DEBUG" not in world.daemon.log_text()
        world.site.guidance = {"hold_extra_s": 900}
        world.site.log = "debug"
        world.site.http = "127.0.0.1:1"
        world.site.write()
        world.daemon.hang_up()
        more = lambda: world.daemon.allocate(f"t{time.time()}")[1]["expires_in_s"] > before + 600
        bench.check("a new hold is used", until(more, 5, 0.5) is not None)
        log = world.daemon.log_text()
        named = [line for line in log.splitlines() if "[http]" in line or "http.listen" in line]
        bench.check("the listen address is refused by name", named, log[-600:])
        bench.check("the log level changes", quiet and until(
            lambda: "DEBUG" in world.daemon.log_text(), 5) is not None)
        world.site.config.write_text("nonsense [")
        world.daemon.hang_up()
        time.sleep(1)
        bench.check("a broken file leaves it running",
                    world.daemon.alive() and world.daemon.get("/readyz")[0] == 200)


def metrics(bench):
    """promtool finds nothing to complain about, and no series is per bay."""
    with World(bench.binary) as world:
        world.daemon.start()
        world.drive(per_s=10)
        time.sleep(4)
        text = world.daemon.metrics_text()
        done = subprocess.run([bench.promtool or find("promtool"), "check", "metrics"], input=text,
                              text=True, capture_output=True)
        bench.check("promtool is content", done.returncode == 0, done.stderr[-600:])
        series = [line for line in text.splitlines() if line and not line.startswith("#")]
        bench.check("all series are parkway's", all(
            line.startswith(("parkway_", "process_")) for line in series))
        bench.check("no series per bay", len(series) < 600, len(series))
        for path in ("/healthz", "/readyz", "/v1/openapi.json", "/", "/signs/s-g01", "/v1/site"):
            status, answer = world.daemon.get(path)
            bench.check(f"{path} answers", status == 200 and answer != "", (status, answer))


def streams(bench):
    """State and signs can be followed as server-sent events, and tell a change when it comes."""
    with World(bench.binary) as world:
        world.daemon.start()
        time.sleep(3)
        for path, name in (("/v1/state/stream", "state"), ("/v1/signs/stream", "sign")):
            events = follow(world, path, name)
            bench.check(f"{path} begins with what is", len(events) > 0, events)
        shown = f'"number":{600 - sites.KEEP_BACK - 1}'
        change = lambda: world.controllers.set([("zc-01", 100, 1)])
        events = follow(world, "/v1/signs/stream", "sign", change, shown)
        bench.check("a changed sign is told", any(shown in event for event in events), events[-2:])


def follow(world, path, name, change=None, wanted=None, seconds=6):
    """The data of a stream's events of one name: the first, or all until one has `wanted`."""
    conn = http.client.HTTPConnection("127.0.0.1", world.daemon.port, timeout=seconds)
    conn.request("GET", path, headers={"Accept": "text/event-stream"})
    reply, events, event = conn.getresponse(), [], ""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            line = reply.readline().decode().strip()
            if line.startswith("event:"):
                event = line[6:].strip()
            elif line.startswith("data:") and event == name:
                events.append(line[5:].strip())
                if not wanted or wanted in events[-1].replace(" ", ""):
                    break
                if change:
                    change, _ = None, change()
    except TimeoutError:
        pass  # a silent stream is told by what did not come
    conn.close()
    return events


def token(bench):
    """With a token, orders and pages need it; health does not."""
    with World(bench.binary, token="t0p-secret-token-for-tests") as world:
        world.daemon.start()
        bare = world.daemon.allocate("no-token")[0]
        bench.check("without the token it is 401", bare == 401, bare)
        wrong = {"Authorization": "Bearer wrong"}
        status, _ = world.daemon.ask("GET", "/v1/state", headers=wrong)
        bench.check("with a wrong one it is 401", status == 401, status)
        right = {"Authorization": f"Bearer {world.site.token}"}
        status, _ = world.daemon.ask("GET", "/v1/state", headers=right)
        bench.check("with the token it is 200", status == 200, status)
        bench.check("the log does not tell it", world.site.token not in world.daemon.log_text())


def port_in_use(bench):
    """A port that is taken: exit 1, and the log says which."""
    with World(bench.binary) as world, socket.socket() as taken:
        # Connections of an earlier scenario may still linger on it.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", world.site.ports["http"]))
        taken.listen()
        world.daemon.start(wait=False)
        try:
            code = world.daemon.child.wait(10)
        except subprocess.TimeoutExpired:
            code = "still running"
        bench.check("exit 1", code == 1, code)
        log = world.daemon.log_text()
        bench.check("it says which", str(world.site.ports["http"]) in log, log[-400:])


def store_under_a_file(bench):
    """The store's path cannot be: degraded, alarmed, guiding."""
    with World(bench.binary) as world:
        (world.folder / "file").write_text("in the way")
        world.site.store = world.folder / "file" / "store"
        world.site.write()
        degraded(bench, world, user=None)


def store_without_permission(bench):
    """The store's folder belongs to someone else: degraded, alarmed, guiding."""
    if os.geteuid() != 0:
        return bench.note("skipped: only root can become someone else")
    with World(bench.binary) as world:
        (world.folder / "locked").mkdir(mode=0o700)
        world.site.store = world.folder / "locked" / "store"
        world.site.write()
        (world.folder / "password").chmod(0o644)
        # The build folder may be closed to others, so the binary comes along.
        world.daemon.binary = shutil.copy(bench.binary, world.folder / "parkway")
        degraded(bench, world, user="nobody")
    return None


def degraded(bench, world, user):
    world.daemon.start(wait=False, user=user)
    try:
        world.daemon.wait_ready()
    except RuntimeError as error:
        return bench.check("it starts", False, error)
    time.sleep(3)
    status, answer = world.daemon.allocate("no-store")
    fine = status == 200 and answer["promise"] == "bay" and answer["durable"] is False
    bench.check("it guides, and says that nothing is durable", fine, answer)
    store = world.daemon.state()["store"]
    bench.check("the state says degraded", "degraded" in str(store), store)
    told = lambda: "degraded" in str(world.judge.look().retained.get(
        "parkway/test/state/gateway", {}).get("store"))
    bench.check("retained state says degraded", until(told, 8) is not None)
    bench.check("the log says so", "degraded" in world.daemon.log_text().lower())
    faces = world.controllers.registers("panel-1", 0, len(world.site.garages))
    return bench.check("signs are driven", sites.BLANK not in faces and 0 not in faces, faces)


ALL = [clean_stop, reload, metrics, streams, token, port_in_use, store_under_a_file,
       store_without_permission]
