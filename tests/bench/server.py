"""nginx as the origin: plain, over TLS, over TLS with HTTP/2, and behind a rate limit for each connection.

Everything lies in one folder; ports are chosen by the system. The folder `files` is what it serves; as a Hugging
Face hub it serves `files/model.bin` as the file of the repository bench/model.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import BenchError

__all__ = ["Nginx", "Served", "make_certificate"]

_CONFIG = """
worker_processes 2;
daemon off;
pid {folder}/{name}.pid;
error_log {folder}/{name}.error.log;
events {{ worker_connections 1024; }}
http {{
  types {{ application/octet-stream bin; }}
  default_type application/octet-stream;
  log_format bench '$msec $request_time $body_bytes_sent $status';
  access_log {folder}/{name}.log bench;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  etag on;
  keepalive_requests 100000;
  client_body_temp_path {folder}/temp;
  proxy_temp_path {folder}/temp;
  fastcgi_temp_path {folder}/temp;
  uwsgi_temp_path {folder}/temp;
  scgi_temp_path {folder}/temp;
  ssl_certificate {folder}/server.pem;
  ssl_certificate_key {folder}/server.key;
  ssl_protocols TLSv1.2 TLSv1.3;
  root {folder}/files;
  server {{ listen {address}:{plain}; }}
  server {{ listen {address}:{throttled}; limit_rate 5m; }}
  server {{ listen {address}:{http2} ssl http2; }}
  server {{
    listen {address}:{tls} ssl;
    location /bench/model/resolve/main/ {{
      alias {folder}/files/;
      add_header X-Repo-Commit 0123456789abcdef0123456789abcdef01234567;
      add_header X-Linked-Etag '"{sha256}"';
      add_header X-Linked-Size {size};
    }}
  }}
}}
"""
_STARTED_WITHIN = 10.0  # s


def make_certificate(folder: Path) -> None:
    """Write ca.pem, server.pem and server.key into `folder`."""
    script = Path(__file__).with_name("certificate.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True)


@dataclass(frozen=True, slots=True)
class Served:
    """A request as the server saw it.

    Args:
        began: Instant its first byte came, seconds since the epoch.
        sent: Bytes of the body given to the network.
    """

    began: float
    sent: int


class Nginx:
    """A running nginx.

    Args:
        folder: Everything of it; has `files` and the certificate already.
        name: Of its configuration and logs.
        address: IPv4 address to listen on.
        within: Command to run it under, such as one that enters a network namespace.
        ports: (plain, TLS, HTTP/2, throttled); chosen by the system when None.
        sha256: Of files/model.bin, in hex.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sha256: str,
        name: str = "nginx",
        address: str = "127.0.0.1",
        within: Sequence[str] = (),
        ports: tuple[int, int, int, int] | None = None,
    ) -> None:
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            raise BenchError("there is no nginx; on Debian and Ubuntu: apt-get install nginx-light")
        plain, tls, http2, throttled = ports or _free_ports(4)
        self.plain = f"http://{address}:{plain}"
        self.tls = f"https://{address}:{tls}"
        self.http2 = f"https://{address}:{http2}"
        self.throttled = f"http://{address}:{throttled}"
        self.log = folder / f"{name}.log"
        self._address = (address, plain)
        size = (folder / "files" / "model.bin").stat().st_size
        config = folder / f"{name}.conf"
        names = {"plain": plain, "tls": tls, "http2": http2, "throttled": throttled, "sha256": sha256}
        config.write_text(_CONFIG.format(folder=folder, name=name, address=address, size=size, **names))
        self._process = subprocess.Popen([*within, program, "-c", str(config), "-p", str(folder)])

    def wait(self, within: Sequence[str] = ()) -> None:
        """Return once it answers, asked from where `within` leads to."""
        check = f"import socket; socket.create_connection({self._address!r}, 1).close()"
        until = time.monotonic() + _STARTED_WITHIN
        while time.monotonic() < until and self._process.poll() is None:
            done = subprocess.run([*within, sys.executable, "-c", check], check=False, capture_output=True)
            if done.returncode == 0:
                return
        raise BenchError(f"nginx does not answer; see {self.log.with_suffix('.error.log')}")

    @property
    def pids(self) -> list[int]:
        """The master and its workers."""
        pid = self._process.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        return [pid, *map(int, workers)]

    def forget_requests(self) -> None:
        """Let `requests` begin anew."""
        with self.log.open("r+b") as log:
            log.truncate()

    def requests(self) -> list[Served]:
        """Requests that are over, since the last `forget_requests`."""
        served = []
        for line in self.log.read_text("ascii").splitlines():
            at, took, sent, _status = line.split()
            served.append(Served(float(at) - float(took), int(sent)))
        return served

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
