"""A TCP relay between the daemon and the broker, so that the path can be broken in known ways.

`pass_on` forwards; `cut` closes every connection and refuses new ones; `hold` keeps connections
open and forwards nothing, as a dead radio link does. A broker without persistence forgets what it
acknowledged and had not yet handed to the judge: cutting here first, and waiting a moment before
the broker is stopped, keeps that loss (which is not the gateway's) out of the verdict.
"""

import selectors
import socket
import threading
import time

CHUNK = 65_536


class Relay:
    def __init__(self, port, target_port):
        self.target = ("127.0.0.1", target_port)
        self.port = port
        self.mode = "cut"
        self.pairs = {}  # socket -> the other end
        self.bytes_up = 0
        self.lock = threading.RLock()
        self.selector = selectors.DefaultSelector()
        self.listener = None
        self.running = True
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def pass_on(self):
        with self.lock:
            if self.mode == "hold":
                self.drop_all()
            self.mode = "pass"
            if not self.listener:
                self.listener = socket.socket()
                self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.listener.bind(("127.0.0.1", self.port))
                self.listener.listen(8)
                self.selector.register(self.listener, selectors.EVENT_READ)

    def hold(self):
        with self.lock:
            self.mode = "hold"

    def cut(self):
        with self.lock:
            self.mode = "cut"
            if self.listener:
                self.selector.unregister(self.listener)
                self.listener.close()
                self.listener = None
            self.drop_all()

    def stop(self):
        self.cut()
        self.running = False
        self.thread.join(2)

    def loop(self):
        while self.running:
            # An empty selector returns at once on no platform we know, but must not spin.
            if not self.pairs and not self.listener:
                time.sleep(0.02)
                continue
            for key, _ in self.selector.select(0.05):
                with self.lock:
                    self.serve(key.fileobj)
            if self.mode == "hold":
                time.sleep(0.05)

    def serve(self, sock):
        if sock is self.listener:
            self.accept()
        elif sock in self.pairs and self.mode == "pass":
            self.forward(sock)

    def accept(self):
        near, _ = self.listener.accept()
        if self.mode != "pass":
            return self.keep_waiting(near)
        try:
            far = socket.create_connection(self.target, 1)
        except OSError:
            near.close()
            return None
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(5)
            self.pairs[one] = other
            self.selector.register(one, selectors.EVENT_READ)
        return None

    def keep_waiting(self, near):
        """A connection during `hold` is accepted and never answered."""
        self.pairs[near] = None

    def forward(self, sock):
        other = self.pairs[sock]
        try:
            data = sock.recv(CHUNK)
            if not data:
                raise ConnectionError
            other.sendall(data)
            if sock.getsockname()[1] == self.port:
                self.bytes_up += len(data)
        except OSError:
            self.drop(sock)
            self.drop(other)

    def drop(self, sock):
        if sock is None or sock not in self.pairs:
            return
        if self.pairs.pop(sock) is not None:
            self.selector.unregister(sock)
        sock.close()

    def drop_all(self):
        for sock in list(self.pairs):
            self.drop(sock)
