"""An MQTT client by paho-mqtt that a test drives by JSON lines on standard input; it reports by JSON lines.

Commands (`do`), each with its keys and their defaults:

    connect     port, host, version "5" | "3.1.1", client_id, clean (true), keep_alive (60), username, password,
                will {topic, payload, qos, retain, properties}, properties, manual_ack (false),
                transport "tcp" | "websockets" | "unix" (host is its path), path ("/mqtt") and origin of a WebSocket,
                tls {ca, cert, key}: files
    reconnect   clean (false): the same client with what it has in flight
    subscribe   filter, qos, no_local, retain_as_published, retain_handling, properties
    unsubscribe filter
    publish     topic, payload | payload_base64, qos, retain, properties, tag, count: with a count, so many
                messages, in whose payload and tag `{n}` becomes 0, 1, 2 …
    ack         id, qos: with manual_ack
    pause, resume   stops and goes on reading, with the next message
    disconnect  reason (0), properties
    kill        closes the connection without DISCONNECT

Events (`event`): ready, connected {session_present, reason, properties}, refused {error}, subscribed {reasons},
unsubscribed {reasons}, published {tag, reason}, message {topic, payload, payload_base64, qos, retain, dup, id,
properties}, disconnected {reason}, error {error}. `payload` is absent where it is no UTF-8. Properties have
names like `message_expiry_interval`; bytes are in base64, user properties are pairs.
"""

import base64
import json
import socket
import sys
import threading
import traceback

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5, MQTTv311
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

BYTES = ("CorrelationData", "AuthenticationData")
output = threading.Lock()


def say(event, **rest):
    with output:
        print(json.dumps({"event": event, **rest}), flush=True)


def properties(packet, described):
    if not described:
        return None
    made = Properties(packet)
    for name, value in described.items():
        name = "".join(word.capitalize() for word in name.split("_"))
        if name in BYTES:
            value = base64.b64decode(value)
        elif name == "UserProperty":
            value = [tuple(pair) for pair in value]
        setattr(made, name, value)
    return made


def described(made):
    told = {}
    for name in getattr(made, "names", {}):
        compressed = name.replace(" ", "")
        if hasattr(made, compressed):
            value = getattr(made, compressed)
            if isinstance(value, bytes):
                value = base64.b64encode(value).decode()
            told[name.lower().replace(" ", "_")] = value
    return told


def payload(command):
    if "payload_base64" in command:
        return base64.b64decode(command["payload_base64"])
    return command.get("payload", "").encode()


class Peer:
    def __init__(self):
        self.client = None
        self.tags = {}
        self.early = {}
        # Guards `tags` and `early`: paho may settle a message before publish() has told its id.
        self.publishing = threading.Lock()
        self.reading = threading.Event()
        self.reading.set()

    def connect(self, command):
        self.v5 = command.get("version", "5") == "5"
        clean = command.get("clean", True)
        self.client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=command.get("client_id", ""),
            clean_session=None if self.v5 else clean,
            protocol=MQTTv5 if self.v5 else MQTTv311,
            reconnect_on_failure=False,
            manual_ack=command.get("manual_ack", False),
            transport=command.get("transport", "tcp"),
        )
        headers = {"Origin": command["origin"]} if "origin" in command else None
        client.ws_set_options(command.get("path", "/mqtt"), headers)
        if tls := command.get("tls"):
            client.tls_set(tls["ca"], tls.get("cert"), tls.get("key"))
        client.on_connect = self.on_connect
        client.on_disconnect = lambda client, data, flags, reason, made: say("disconnected", reason=reason.value)
        client.on_subscribe = lambda client, data, mid, reasons, made: say("subscribed", reasons=[r.value for r in reasons])
        client.on_unsubscribe = lambda client, data, mid, reasons, made: say("unsubscribed", reasons=[r.value for r in reasons])
        client.on_publish = self.on_publish
        client.on_message = self.on_message
        if "username" in command:
            client.username_pw_set(command["username"], command.get("password"))
        if will := command.get("will"):
            client.will_set(
                will["topic"], payload(will), will.get("qos", 0), will.get("retain", False),
                properties(PacketTypes.WILLMESSAGE, will.get("properties")),
            )
        self.where = (command.get("host", "127.0.0.1"), command["port"], command.get("keep_alive", 60))
        self.properties = properties(PacketTypes.CONNECT, command.get("properties"))
        self.dial(clean)

    def reconnect(self, command):
        self.dial(command.get("clean", False))

    def dial(self, clean):
        # A client whose connection was lost ends its thread by itself; two threads must not read one socket.
        thread = self.client._thread
        if thread is not None:
            thread.join()
        host, port, keep_alive = self.where
        try:
            if self.v5:
                self.client.connect(host, port, keep_alive, clean_start=clean, properties=self.properties)
            else:
                self.client.connect(host, port, keep_alive)
        except OSError as error:
            say("refused", error=str(error))
            return
        self.client.loop_start()

    def subscribe(self, command):
        if self.v5:
            options = SubscribeOptions(
                command.get("qos", 0), command.get("no_local", False),
                command.get("retain_as_published", False), command.get("retain_handling", 0),
            )
            made = properties(PacketTypes.SUBSCRIBE, command.get("properties"))
            self.client.subscribe(command["filter"], options=options, properties=made)
        else:
            self.client.subscribe(command["filter"], command.get("qos", 0))

    def unsubscribe(self, command):
        self.client.unsubscribe(command["filter"])

    def publish(self, command):
        content, tag = payload(command), command.get("tag")
        made = properties(PacketTypes.PUBLISH, command.get("properties"))
        for number in range(command.get("count", 1)):
            one, its_tag = content, tag
            if "count" in command:
                one = content.replace(b"{n}", str(number).encode())
                its_tag = tag.replace("{n}", str(number)) if isinstance(tag, str) else tag
            # Without the lock: paho holds one of its own here and while it calls on_publish.
            sent = self.client.publish(command["topic"], one, command.get("qos", 0), command.get("retain", False), made)
            with self.publishing:
                if sent.mid in self.early:
                    say("published", tag=its_tag, reason=self.early.pop(sent.mid))
                else:
                    self.tags[sent.mid] = its_tag

    def ack(self, command):
        self.client.ack(command["id"], command["qos"])

    def pause(self, command):
        self.reading.clear()

    def resume(self, command):
        self.reading.set()

    def disconnect(self, command):
        if self.v5:
            reason = ReasonCode(PacketTypes.DISCONNECT, identifier=command.get("reason", 0))
            self.client.disconnect(reason, properties(PacketTypes.DISCONNECT, command.get("properties")))
        else:
            self.client.disconnect()

    def kill(self, command):
        self.client.socket().shutdown(socket.SHUT_RDWR)

    def on_connect(self, client, data, flags, reason, made):
        say("connected", session_present=flags.session_present, reason=reason.value, properties=described(made))

    def on_publish(self, client, data, mid, reason, made):
        with self.publishing:
            if mid in self.tags:
                say("published", tag=self.tags.pop(mid), reason=reason.value)
            else:
                self.early[mid] = reason.value

    def on_message(self, client, data, message):
        self.reading.wait()
        told = {
            "topic": message.topic,
            "payload_base64": base64.b64encode(message.payload).decode(),
            "qos": message.qos,
            "retain": bool(message.retain),
            "dup": bool(message.dup),
            "id": message.mid,
            "properties": described(message.properties) if self.v5 else {},
        }
        try:
            told["payload"] = message.payload.decode()
        except UnicodeDecodeError:
            pass
        say("message", **told)


COMMANDS = (
    "connect", "reconnect", "subscribe", "unsubscribe", "publish", "ack", "pause", "resume", "disconnect", "kill",
)

peer = Peer()
say("ready")
for line in sys.stdin:
    try:
        command = json.loads(line)
        if command["do"] not in COMMANDS:
            raise ValueError(f"unknown command {command['do']}")
        getattr(peer, command["do"])(command)
    except Exception as error:  # the test reads what was wrong
        traceback.print_exc()
        say("error", error=f"{type(error).__name__}: {error}")
