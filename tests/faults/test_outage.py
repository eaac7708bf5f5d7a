"""A server, a resolver or a network that is away is waited for, and its return is noticed within 5 s."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip", "iptables"))),
    reason="a network of our own needs root, unshare, ip and iptables",
)

PROLOGUE = """
import os, pathlib, queue, socket, subprocess, sys, tempfile, threading, time
from tests.lab import Lab, asking
from bgfetch.core.model import State
from bgfetch.core.policy import Policy
from bgfetch.network.resolver import ask_often
from bgfetch.testing import OriginServer
from bgfetch.transports.base import Deadlines

ask_often(os.environ)  # as the daemon does

def sh(command):
    subprocess.run(command.split(), check=True)

def answer_names():
    "A resolver that knows one address for every name."
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    while True:
        asked, who = server.recvfrom(512)
        end = asked.index(b"\\0", 12) + 5
        found = asked[end - 4 : end - 2] == b"\\0\\1"  # A; nothing for AAAA
        head = asked[:2] + b"\\x81\\x80" + b"\\0\\1" + (b"\\0\\1" if found else b"\\0\\0") + bytes(4)
        address = b"\\xc0\\x0c\\0\\1\\0\\1" + bytes(4) + b"\\0\\4\\x7f\\0\\0\\1" if found else b""
        server.sendto(head + asked[12:end] + address, who)

def run(url, away, back, wait, count=1, name=""):
    with OriginServer(b"x" * 100_000) as server, tempfile.TemporaryDirectory() as home:
        for command in away:
            sh(command.format(port=server.port))
        policy = Policy(first_attempts=2, patient=True)
        with Lab(pathlib.Path(home), policy=policy, deadlines=Deadlines()) as lab:
            states = queue.Queue()
            lab.driver.bulletin.follow(lambda uid, progress: states.put(progress.state))
            for number in range(count):
                lab.begin(asking(url + server.url.partition("//")[2].partition(":")[2] + f"{name}?{number}"), id=str(number))
            while states.get(timeout=15) is not State.WAITING_NETWORK:
                pass
            threading.Event().wait(wait)
            connections = server.connections
            for command in back:
                sh(command.format(port=server.port))
            began = time.monotonic()
            results = [lab.wait(20).row.result.value for _ in range(count)]
            took = time.monotonic() - began
            retries = sum(line.startswith("retrying") for line in lab.lines())
            print(set(results), f"{took:.1f}", took < 5, connections, retries)
"""


def played(program: str) -> list[str]:
    """What it prints, in a network of its own whose resolver is at 127.0.0.1."""
    shell = (
        "ip link set lo up; echo nameserver 127.0.0.1 >/dev/shm/$$; mount --bind /dev/shm/$$ /etc/resolv.conf; "
        'rm /dev/shm/$$; exec "$0" -c "$1"'
    )
    done = subprocess.run(
        ["unshare", "-n", "-m", "--propagation", "private", "sh", "-c", shell, sys.executable,
         PROLOGUE + textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip
    if done.returncode and "Operation not permitted" in done.stderr:
        pytest.skip("this kernel lets nobody make a network of their own")
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(("fate", "wait"), [("DROP", 0.2), ("DROP", 3.1), ("REJECT", 1.0), ("REJECT", 4.0)])
def test_a_server_that_could_not_be_reached(fate: str, wait: float) -> None:
    """Whether packets vanish or are refused, and in whichever moment it comes back."""
    found = played(f"""
        rule = "INPUT -i lo -p tcp --dport {{port}} -j {fate}"
        run("http://127.0.0.1:", ["iptables -A " + rule], ["iptables -D " + rule], {wait})
    """)
    assert found[0] == "{'success'}"
    assert found[2] == "True"
    assert found[3:] == ["0", "1"]  # nobody was reached before; one line in the log for all the looks


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["DROP", "REJECT"])
def test_a_name_that_could_not_be_looked_up(fate: str) -> None:
    """Whether the resolver is silent or away."""
    found = played(f"""
        threading.Thread(target=answer_names, daemon=True).start()
        rule = "INPUT -i lo -p udp --dport 53 -j {fate}"
        run("http://model.example:", ["iptables -A " + rule], ["iptables -D " + rule], 1.0)
    """)
    assert found[0] == "{'success'}"
    assert found[2] == "True"


@pytest.mark.slow
def test_many_wait_and_one_looks() -> None:
    """Forty downloads of a host that is away make no more attempts than one; when it is back all begin."""
    found = played("""
        rule = "INPUT -i lo -p tcp --dport {port} -j REJECT --reject-with tcp-reset"
        run("http://127.0.0.1:", ["iptables -A " + rule], ["iptables -D " + rule], 8.0, count=40)
    """)
    assert found[0] == "{'success'}"
    assert found[2] == "True"


@pytest.mark.slow
def test_a_host_that_is_back_may_refuse() -> None:
    """What it says to the one that looks is asked by all the others at once, not one every few seconds."""
    found = played("""
        rule = "INPUT -i lo -p tcp --dport {port} -j REJECT --reject-with tcp-reset"
        run("http://127.0.0.1:", ["iptables -A " + rule], ["iptables -D " + rule], 1.0, count=20, name="404")
    """)
    assert found[0] == "{'failure'}"
    assert found[2] == "True"


@pytest.mark.slow
def test_a_silent_resolver_holds_up_nobody_who_stops() -> None:
    """Whoever stops while a name is being looked up has stopped within 2 s, also as a process."""
    found = played("""
        sh("iptables -A INPUT -i lo -p udp --dport 53 -j DROP")
        with tempfile.TemporaryDirectory() as home:
            lab = Lab(pathlib.Path(home), policy=Policy(patient=True), deadlines=Deadlines())
            lab.begin(asking("http://model.example/x"))
            threading.Event().wait(1.0)
            began = time.monotonic()
            lab.close()
            print(time.monotonic() - began < 2)
    """)
    assert found == ["True"]
