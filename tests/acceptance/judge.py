"""The consumer that judges: an MQTT 5 client (paho) on `parkway/#` that trusts nothing.

`Ledger` is the judgement, without a network, so that `selftest.py` can feed it planted faults:
every message against its JSON Schema; every lane of an epoch in order and without a gap after
dropping repeats; no bay in two open leases; each aggregate conserving its garage's bays.
`Judge` is the client around it. It connects straight to the broker, its own keep-alive is long
(a broker frozen by SIGSTOP must not cost it its session), and it keeps raw payloads: checking is
done when asked, because JSON Schema in Python is slower than the gateway.
"""

import json
import pathlib
import threading
import time
from collections import defaultdict

LANES = ("alarms", "events", "aggregates")
TALLY = ("free", "held", "occupied", "unknown", "closed")
SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "config" / "schema"


def schema_of(topic):
    """Which schema a topic's messages follow; None where there is none to follow."""
    kind, which = kind_of(topic), topic.split("/")[3:4]
    if kind in LANES:
        return kind
    if kind == "state" and which:
        return {"gateway": "state-gateway", "garages": "state-garage",
                "signs": "state-sign"}.get(which[0])
    return "command-reply" if kind == "replies" else None


def kind_of(topic):
    """What stands after `parkway/<site>/`; empty for a topic that is too short."""
    return (topic.split("/") + [""] * 3)[2]


def said(record):
    """A record without its time, where that may be put right between two sendings."""
    rest = {key: value for key, value in record.items() if key not in ("at", "clock")}
    return rest if "clock" in record else rest | {"at": record.get("at")}


def span_of(record):
    """First and last number that a record stands for: its own, or what was merged into it."""
    covers = record.get("covers")
    well_formed = isinstance(covers, list) and len(covers) == 2 and all(
        isinstance(number, int) for number in covers)
    return tuple(covers) if well_formed else (record["seq"], record["seq"])


class Ledger:
    """What was received and what is wrong with it."""

    def __init__(self, schemas=SCHEMAS):
        self.schemas, self.validators = pathlib.Path(schemas), {}
        self.faults = []
        self.records = defaultdict(dict)  # (epoch, lane) -> seq -> record
        self.order = defaultdict(list)    # (epoch, lane) -> seqs, repeats dropped
        self.covered = defaultdict(set)   # (epoch, lane) -> numbers that some record stands for
        self.repeats = defaultdict(int)   # (epoch, lane) -> how many came again
        self.repeat_messages = defaultdict(int)  # the same in messages
        self.retained = {}                # topic -> last payload
        self.messages = 0
        self.stamped = []                 # (received at, lane, record) first copies only

    def take(self, topic, payload, received_at=0.0):
        """Judges one message."""
        self.messages += 1
        try:
            body = json.loads(payload)
        except ValueError as error:
            return self.faults.append(f"{topic}: not JSON: {error}")
        self.validate(topic, body)
        lane = kind_of(topic)
        if lane in LANES:
            return self.take_chunk(topic, lane, body, received_at)
        if lane == "state":
            self.retained[topic] = body
        return None

    def validate(self, topic, body):
        name = schema_of(topic)
        if name is None or not (self.schemas / f"{name}.schema.json").exists():
            return self.faults.append(f"{topic}: no schema covers this topic")
        for error in list(self.validator(name).iter_errors(body))[:3]:
            where = "/".join(str(part) for part in error.absolute_path)
            self.faults.append(f"{topic}: {name} schema: at {where}: {error.message[:300]}")
        return None

    def validator(self, name):
        if name not in self.validators:
            from jsonschema import Draft202012Validator
            schema = json.loads((self.schemas / f"{name}.schema.json").read_text())
            Draft202012Validator.check_schema(schema)
            self.validators[name] = Draft202012Validator(schema)
        return self.validators[name]

    def take_chunk(self, topic, lane, body, received_at):
        key = (body.get("epoch"), lane)
        records = body.get("records", [])
        spans = [span_of(record) for record in records
                 if isinstance(record, dict) and "seq" in record]
        if not spans or (body.get("first"), body.get("last")) != (spans[0][0], spans[-1][1]):
            self.faults.append(f"{topic}: first and last do not frame the records")
        if any(before[1] + 1 != after[0] for before, after in zip(spans, spans[1:])
               if isinstance(before[1], int) and isinstance(after[0], int)):
            self.faults.append(f"{topic}: its records leave numbers out, or tell them twice")
        if body.get("lane") != lane:
            self.faults.append(f"{topic}: a chunk of lane {body.get('lane')}")
        repeats = self.repeats[key]
        for record in records:
            self.take_record(key, record, received_at)
        self.repeat_messages[key] += self.repeats[key] > repeats

    def take_record(self, key, record, received_at):
        seq = record.get("seq") if isinstance(record, dict) else None
        if not isinstance(seq, int):
            return  # the schema has already said so
        known = self.records[key].get(seq)
        if known is not None:
            self.repeats[key] += 1
            if said(known) != said(record):
                self.faults.append(f"{key}: record {seq} came again with another body")
            return
        order = self.order[key]
        if order and seq <= order[-1]:
            self.faults.append(f"{key}: {seq} came first after {order[-1]}: out of order")
        order.append(seq)
        first, last = span_of(record)
        numbers = set(range(first, last + 1))
        if last != seq or not numbers:
            self.faults.append(f"{key}: {seq} covers {first} to {last}, which does not end with it")
        if numbers & self.covered[key]:
            self.faults.append(f"{key}: {seq} covers what another record stands for")
        self.covered[key] |= numbers
        self.records[key][seq] = record
        self.stamped.append((received_at, key[1], record))

    def gaps(self):
        """Numbers that no record stands for, unless a gap record announced them."""
        told = set()
        for (epoch, _), records in self.records.items():
            for record in records.values():
                if record.get("type") == "gap" and record.get("first") is not None:
                    span = range(record["first"], record["last"] + 1)
                    told |= {(epoch, record["of"], seq) for seq in span}
        missing = []
        for (epoch, lane), have in self.covered.items():
            first = min(have)
            if first not in (0, 1):
                missing.append(f"{lane} of {epoch} begins at {first}")
            missing += [f"{lane} of {epoch} lacks {seq}" for seq in range(first, max(have))
                        if seq not in have and (epoch, lane, seq) not in told]
        return missing

    def lane(self, name):
        """Records of a lane over all epochs, in the order they first came."""
        return [record for _, lane, record in self.stamped if lane == name]

    def types(self, lane="events"):
        counts = defaultdict(int)
        for record in self.lane(lane):
            counts[record.get("type")] += 1
        return dict(counts)

    def ends(self):
        counts = defaultdict(int)
        for record in self.lane("events"):
            if record.get("type") == "lease_ended":
                counts[record.get("end")] += 1
        return dict(counts)

    def double_leases(self):
        """Bays that two open leases held at once, by the event lane."""
        holder, bay_of, wrong = {}, {}, []
        for record in self.lane("events"):
            kind, lease = record.get("type"), record.get("lease")
            if kind in ("lease_granted", "lease_moved", "lease_ended"):
                holder.pop(bay_of.pop(lease, None), None)
            if kind in ("lease_granted", "lease_moved") and record.get("bay"):
                bay = record["bay"]
                if bay in holder:
                    wrong.append(f"{bay} given to {lease} while {holder[bay]} holds it")
                holder[bay], bay_of[lease] = lease, bay
        return wrong

    def unbalanced(self):
        """Aggregates whose parts do not add up to the garage's bays."""
        wrong = []
        for record in self.lane("aggregates"):
            if record.get("type") != "garage_window":
                continue
            total = sum(record[part] for part in TALLY)
            classes = sum(tally[part] for tally in record["by_class"].values() for part in TALLY)
            if total != record["bays"] or classes != record["bays"]:
                wrong.append(f"{record['garage']} seq {record['seq']}: {total} and {classes} of "
                             f"{record['bays']} bays")
        return wrong

    def granted(self):
        return {record["lease"] for record in self.lane("events")
                if record.get("type") == "lease_granted"}

    def verdict(self, repeat_messages=0):
        """All that is wrong, in words; empty when nothing is. `repeat_messages` is how many
        messages of a lane may hold repeats: the window, once for each broken connection."""
        wrong = self.faults + self.gaps() + self.double_leases() + self.unbalanced()
        for key, count in self.repeat_messages.items():
            if count > repeat_messages:
                wrong.append(f"{key}: {count} messages with repeats, above {repeat_messages}")
        return wrong


class Judge:
    """The client: collects with the time of arrival, judges on demand."""

    def __init__(self, port, password, user="judge"):
        import paho.mqtt.client as mqtt
        from paho.mqtt.properties import Properties
        from paho.mqtt.packettypes import PacketTypes

        self.ledger, self.raw, self.taken = Ledger(), [], 0
        self.ready = threading.Event()
        self.lock = threading.Lock()
        self.replies = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "judge",
                                  protocol=mqtt.MQTTv5)
        self.client.username_pw_set(user, password)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self.on_connect
        self.client.on_disconnect = lambda *_: self.ready.clear()
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = self.on_message
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 86_400
        self.client.connect_async("127.0.0.1", port, 600, properties=session,
                                  clean_start=False)
        self.client.loop_start()

    def on_connect(self, client, _data, _flags, reason, _properties):
        if not reason.is_failure:
            client.subscribe("parkway/#", qos=1)

    def on_message(self, _client, _data, message):
        with self.lock:
            self.raw.append((time.monotonic(), message.topic, message.payload, message.retain))
        if "/replies/" in message.topic:
            self.replies.append(json.loads(message.payload))

    def wait_ready(self, timeout_s=15):
        if not self.ready.wait(timeout_s):
            raise RuntimeError("the judge has no subscription")

    def look(self):
        """Judges what has arrived since the last look and returns the ledger."""
        with self.lock:
            fresh, self.taken = self.raw[self.taken:], len(self.raw)
        for received_at, topic, payload, _retain in fresh:
            # Commands are what the tests themselves say, good and bad.
            if kind_of(topic) != "commands":
                self.ledger.take(topic, payload, received_at)
        return self.ledger

    def quiet(self, for_s=2.0, timeout_s=60):
        """Waits until nothing but repeated state has come for a while."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with self.lock:
                lanes = [at for at, topic, *_ in self.raw[-300:] if kind_of(topic) in LANES]
            if not lanes or time.monotonic() - lanes[-1] > for_s:
                return True
            time.sleep(0.1)
        return False

    def command(self, payload, target="closures", response=None):
        """Publishes a command; bytes go as they are."""
        from paho.mqtt.properties import Properties
        from paho.mqtt.packettypes import PacketTypes

        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        properties = None
        if response:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = response
            properties.CorrelationData = b"c-1"
        topic = f"parkway/test/commands/{target}"
        self.client.publish(topic, body, qos=1, properties=properties).wait_for_publish(5)

    def stop(self):
        self.client.loop_stop()
        self.client.disconnect()
