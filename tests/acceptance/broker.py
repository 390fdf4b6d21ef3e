"""Debian's mosquitto as a process of our own: own port, own password file, no persistence.

`max_queued_messages 0` lets it queue without a limit for the judge. The password is random for
each run. When root starts mosquitto it would change its user and no longer read our folder, hence
the `user` line. Nothing here touches a mosquitto that the system runs.
"""

import getpass
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import time

USER, JUDGE = "parkway", "judge"
CONFIG = """listener {port} 127.0.0.1
allow_anonymous false
password_file {folder}/mosquitto.passwords
persistence false
max_queued_messages 0
max_inflight_messages 100
user {me}
log_dest file {folder}/mosquitto.log
log_type error
log_type warning
log_type notice
"""


def find(name):
    """Debian keeps mosquitto in a folder that is not in everyone's path."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if not path:
        raise FileNotFoundError(f"{name} is not installed: tests/run installs it")
    return path


class Broker:
    def __init__(self, folder, port):
        self.folder, self.port = pathlib.Path(folder), port
        self.password = secrets.token_hex(8)
        self.child = None
        me = getpass.getuser()
        (self.folder / "mosquitto.conf").write_text(
            CONFIG.format(port=port, folder=self.folder, me=me))
        (self.folder / "password").write_text(self.password)
        passwords = str(self.folder / "mosquitto.passwords")
        for flags, user in ((["-c", "-b"], USER), (["-b"], JUDGE)):
            subprocess.run([find("mosquitto_passwd"), *flags, passwords, user, self.password],
                           check=True, capture_output=True)

    def start(self):
        config = str(self.folder / "mosquitto.conf")
        self.child = subprocess.Popen([find("mosquitto"), "-c", config],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise RuntimeError(f"mosquitto ended: {self.log_tail()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("mosquitto does not listen")

    def log_tail(self):
        log = self.folder / "mosquitto.log"
        return log.read_text()[-500:] if log.exists() else "no log"

    def freeze(self):
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.child.send_signal(signal.SIGCONT)

    def stop(self, kill=False):
        if self.child and self.child.poll() is None:
            self.thaw()
            self.child.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child = None
