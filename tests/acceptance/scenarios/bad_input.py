"""Wrong files, bodies and commands get a clear answer, and nothing is lost."""

import datetime
import json
import pathlib
import subprocess
import tempfile
import time

import sites
from world import World, until


def command(bench, *args):
    done = subprocess.run([str(bench.binary), *map(str, args)], capture_output=True, text=True,
                          timeout=20)
    return done.returncode, done.stdout + done.stderr


def bad_config(bench):
    """`check` and `run` refuse with exit 64 and say where."""
    with tempfile.TemporaryDirectory(prefix="parkway-test-") as folder:
        site = sites.small(folder)
        (pathlib.Path(folder) / "password").write_text("x")
        good = site.write().read_text()
        code, said = command(bench, "check", site.config)
        bench.check("a good file passes", code == 0 and "2400" in said.replace(",", ""), said)
        cases = {
            "malformed TOML": (good + "\n[[link]\n", "line"),
            "an unknown key": (good.replace("[store]", "[store]\ncolour = 1"), "colour"),
            "an unknown node": (good.replace('from = "p1"', 'from = "p9"'), "p9"),
            "a value out of bounds": (good.replace("commit_ms = 200", "commit_ms = 1"),
                                      "store.commit_ms"),
            "a wrong type": (good.replace("commit_ms = 200", 'commit_ms = "x"'), "commit_ms"),
            "an open HTTP address without a token": (good.replace("127.0.0.1:" + str(
                site.ports["http"]), "0.0.0.0:1"), "http.listen"),
            "a sign that falls back to FULL's number": (good.replace('"blank"', '"0"', 1),
                                                        "fallback"),
        }
        for name, (text, named) in cases.items():
            site.config.write_text(text)
            for verb in (["check"], ["run", "--config"]):
                code, said = command(bench, *verb, site.config)
                bench.check(f"{verb[0]}: {name} is exit 64 and named", code == 64 and named in said,
                            (code, said[-400:]))
        both = good.replace("commit_ms = 200", "commit_ms = 1").replace("stale_ms = 3000",
                                                                        "stale_ms = 1")
        site.config.write_text(both)
        _, said = command(bench, "check", site.config)
        bench.check("all faults are told at once", "commit_ms" in said and "stale_ms" in said, said)
        code, _ = command(bench, "run", "--config", pathlib.Path(folder) / "none.toml")
        bench.check("no file is exit 64", code == 64, code)
        code, _ = command(bench, "juggle")
        bench.check("an unknown command is exit 64", code == 64, code)


BODIES = [
    ("malformed JSON", b'{"request_id": ', 400, None),
    ("not UTF-8", b'\xff\xfe', 400, None),
    ("a list", [], 400, None),
    ("a wrong type", {"request_id": "r", "at": 7}, 400, None),
    ("nothing said", {}, 400, "at"),
    ("an unknown key", {"request_id": "r", "at": "p1", "colour": "red"}, 400, None),
    ("an unknown node", {"request_id": "r", "at": "nowhere"}, 422, "nowhere"),
    ("an unknown class", {"request_id": "r", "at": "p1", "class": "boat"}, 422, "boat"),
    ("an unknown destination", {"request_id": "r", "at": "p1", "destination": "moon"}, 422, "moon"),
    ("a negative eta", {"request_id": "r", "at": "p1", "eta_s": -1}, (400, 422), None),
    ("a huge eta", {"request_id": "r", "at": "p1", "eta_s": 10**9}, 422, None),
    ("a long request id", {"request_id": "r" * 65, "at": "p1"}, 422, None),
    ("an empty request id", {"request_id": "", "at": "p1"}, 422, None),
    ("a class no bay serves", {"request_id": "r", "at": "p1", "class": "coach"}, 409, "coach"),
    ("a body too large", {"request_id": "r" * 20_000, "at": "p1"}, 413, None),
]


def bad_requests(bench):
    """Every malformed request is answered with its own status and a named error."""
    with World(bench.binary) as world:
        world.daemon.start()
        for name, body, expected, named in BODIES:
            status, answer = world.daemon.post("/v1/allocations", body)
            wanted = expected if isinstance(expected, tuple) else (expected,)
            shaped = isinstance(answer, dict) and {"code", "message"} <= set(
                answer.get("error", {}))
            fine = status in wanted and shaped and (named is None or named in json.dumps(answer))
            bench.check(f"{name} is {expected}", fine, (status, answer))
        for method, path, body, expected in PATHS:
            status, answer = world.daemon.ask(method, path, body)
            bench.check(f"{method} {path} is {expected}", status == expected, (status, answer))
        held = sum(g["held"] for g in world.daemon.garages().values())
        bench.check("none of it made a lease", held == 0, held)


PATHS = [
    ("GET", "/v1/allocations/00000000-1", None, 404),
    ("GET", "/v1/allocations/nonsense", None, 404),
    ("DELETE", "/v1/allocations/00000000-1", None, 404),
    ("GET", "/v1/nothing", None, 404),
    ("GET", "/v1/signs/none", None, 404),
    ("PUT", "/v1/signs/none/mode", {"mode": "auto", "by": "me"}, 404),
    ("PUT", "/v1/signs/s-g01/mode", {"mode": "disco", "by": "me"}, 422),
    ("POST", "/v1/closures", {"target": "g99", "reason": "r", "by": "me"}, 422),
    ("POST", "/v1/openings", {"target": "g01", "by": "me"}, 409),
    ("POST", "/v1/allocations/00000000-1/parked", {}, 404),
    ("DELETE", "/v1/state", None, 405),
]


def bare_requests(bench):
    """A camera that knows next to nothing still gets a car parked, and no whole plate is kept."""
    with World(bench.binary) as world:
        world.daemon.start()
        status, answer = world.daemon.post("/v1/allocations", {"at": "p1"})
        bench.check("a place alone is enough, and the gateway names the request",
                    status == 200 and answer["request_id"].startswith("own-"), (status, answer))
        whole = {"request_id": "r", "at": "p1", "plate_tail": "ABC12345"}
        status, answer = world.daemon.post("/v1/allocations", whole)
        bench.check("a whole plate is answered", status == 200, (status, answer))
        bench.check("and left out", "ABC12345" not in json.dumps(answer), answer)


def no_way(bench):
    """With every link out closed, an arrival is told 409 and why; opening helps at once."""
    with World(bench.binary) as world:
        world.daemon.start()
        time.sleep(3)
        for target in ("link:n-cordon>p1", "link:n-cordon>p2"):
            world.daemon.post("/v1/closures", {"target": target, "reason": "fire", "by": "staff"})
        status, answer = world.daemon.allocate("no-way")
        bench.check("no way is 409", status == 409 and answer["error"]["code"] == "no_way", answer)
        world.daemon.post("/v1/openings", {"target": "link:n-cordon>p1", "by": "staff"})
        status, answer = world.daemon.allocate("a-way")
        bench.check("opening helps at once", status == 200 and answer["portal"] == "p1", answer)


def full_site(bench):
    """Every bay taken: an answer, not an error, and it says what to do."""
    with World(bench.binary, controllers=4, bays=30) as world:
        bench.fill(world, 1.1)
        world.daemon.start()
        full = lambda: all(g["free"] == 0 == g["unknown"] for g in world.daemon.garages().values())
        bench.check("all bays read occupied", until(full, 10) is not None)
        status, answer = world.daemon.allocate("late")
        fine = status == 200 and answer["promise"] == "signs" and answer["lease"] is None
        bench.check("a full site is 200, signs, no lease", fine, answer)
        bench.check("and says what to do", len(answer.get("reason", "")) > 10, answer)
        shown = until(lambda: world.controllers.registers("panel-1", 0)[0] == sites.FULL, 5)
        bench.check("the sign shows FULL", shown is not None,
                    world.controllers.registers("panel-1", 0))


def stamp(offset_s):
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=offset_s)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bad_commands(bench):
    """MQTT commands: garbage changes nothing, the expired and the unknown are refused in words."""
    with World(bench.binary) as world:
        world.daemon.start()
        world.judge.quiet(1, 5)
        good = {"id": "c-1", "expires_at": stamp(60), "action": "close", "target": "g01/B1/A/020",
                "reason": "works", "by": "city"}
        for garbage in (b"", b"\x00\xff", b"{", b"[]", b"null", b"{}", b"x" * 300_000,
                        b"[" * 10_000):
            world.judge.command(garbage)
        world.judge.command(good | {"id": "c-0"}, target="unheard-of")
        for change in ({"id": "c-2", "expires_at": stamp(-60)}, {"id": "c-3", "target": "g99"},
                       {"id": "c-4", "action": "explode"}, {"id": "c-5", "expires_at": "soon"}):
            world.judge.command(good | change)
        world.judge.command(good)
        answered = until(lambda: {"c-1", "c-2", "c-3"} <= set(replies(world)), 8)
        bench.check("a good command is carried out and answered",
                    answered is not None and replies(world)["c-1"]["ok"], replies(world))
        bench.check("the bay is closed", "g01/B1/A/020" in world.daemon.closures())
        for name, what in (("c-2", "an expired one"), ("c-3", "an unknown target")):
            reply = replies(world).get(name)
            bench.check(f"{what} is refused in words",
                        bool(reply) and not reply["ok"] and reply["error"]["message"], reply)
        bench.check("nothing else was closed", len(world.daemon.closures()) == 1)
        world.judge.command(good | {"id": "c-6", "action": "open"},
                            response="parkway/test/replies/elsewhere")
        elsewhere = lambda: any(t.endswith("/elsewhere") for _, t, *_ in list(world.judge.raw))
        bench.check("a reply goes to its response topic", until(elsewhere, 8) is not None)
        counted = sum(v for k, v in world.daemon.metrics().items() if "command" in k)
        bench.check("commands are counted", counted >= 5, counted)
        bench.check("it lives", world.daemon.alive() and world.daemon.get("/healthz")[0] == 200)
        faults = world.upstream_faults()
        bench.check("the judge finds nothing wrong", not faults, faults[:5])


def replies(world):
    return {reply.get("id"): reply for reply in list(world.judge.replies)}


ALL = [bad_config, bad_requests, bare_requests, no_way, full_site, bad_commands]
