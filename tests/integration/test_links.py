"""Changes of this machine's network are noticed: by the kernel's messages, and by looking."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import textwrap

import pytest

from bgfetch.network.links import SeenLinks, links

NAMESPACE = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")),
    reason="links of our own need root, unshare and ip",
)


def in_a_namespace(program: str) -> str:
    """What a program prints that has a network of its own: a pair of links, the first down, without IPv6, which changes addresses by itself."""
    setup = "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 2>/dev/null; ip link set lo up; ip link add one0 type veth peer name two0; ip link set two0 up; "
    shell = f'{setup} exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "-n", "-m", "sh", "-c", shell, sys.executable, textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=18,
        check=False,
    )
    if done.returncode and "Operation not permitted" in done.stderr:
        pytest.skip("this kernel lets nobody make a network of their own")
    assert done.returncode == 0, done.stderr
    return done.stdout


@NAMESPACE
def test_the_kernel_tells_of_links_addresses_and_routes() -> None:
    """Each that comes or goes is heard of at once; what only says again what is known is no change."""
    printed = in_a_namespace("""
        import subprocess
        from bgfetch.network.links import KernelLinks, links
        watch = links()
        assert isinstance(watch, KernelLinks)
        def heard(command):
            subprocess.run(command.split(), check=True)
            found = watch.wait(5.0)
            while watch.wait(0.3):
                pass
            return found
        print(heard("ip link set one0 up"))
        print(heard("ip addr add 10.77.0.1/24 dev one0"))
        print(heard("ip route add default via 10.77.0.2"))
        print(heard("ip link set one0 down"))
        print(heard("ip link set one0 up"))
        subprocess.run("ip addr change 10.77.0.1/24 dev one0 valid_lft 999 preferred_lft 999".split(), check=True)
        print(watch.wait(0.3))
        print(watch.wait(0.0))
        watch.close()
    """)
    assert printed.split() == ["True"] * 5 + ["False"] * 2


@NAMESPACE
def test_looking_finds_another_address_too() -> None:
    """Where no kernel tells, the address this machine would speak from does."""
    printed = in_a_namespace("""
        import subprocess
        from bgfetch.network import links
        links._LOOK = 0.05
        watch = links.SeenLinks()
        print(watch.wait(0.1))
        subprocess.run("ip link set one0 up".split(), check=True)
        subprocess.run("ip addr add 10.77.0.1/24 dev one0".split(), check=True)
        subprocess.run("ip route add default via 10.77.0.2".split(), check=True)
        print(watch.wait(5.0))
        watch.close()
    """)
    assert printed.split() == ["False", "True"]


@NAMESPACE
def test_a_download_begins_when_its_link_comes_up() -> None:
    """Offline it waits for the network without using up its tries; the link's return wakes it at once."""
    printed = in_a_namespace("""
        import pathlib, queue, subprocess, tempfile, time
        from tests.lab import Lab, asking
        from bgfetch.core.model import State
        from bgfetch.core.networks import Network
        from bgfetch.core.policy import Policy
        from bgfetch.network.links import links
        from bgfetch.network.watch import NetworkWatch
        from bgfetch.testing import OriginServer
        from bgfetch.transports.base import Deadlines

        def sh(command):
            subprocess.run(command.split(), check=True)

        policy = Policy(first_attempts=2, patient=True, retry_scale=100.0)  # its own looks come far too late
        with (
            OriginServer(b"x" * 100_000) as server,
            tempfile.TemporaryDirectory() as home,
            Lab(pathlib.Path(home), policy=policy, deadlines=Deadlines()) as lab,
        ):
            states = queue.Queue()
            lab.driver.bulletin.follow(lambda uid, progress: states.put(progress.state))
            watch = NetworkWatch(
                links(), Network, wanted=lambda: False,
                changed=lab.driver.network_returned, found=lab.driver.network_is,
            )
            # the server listens on loopback; its address is on the link's way only
            lab.begin(asking(server.url.replace("127.0.0.1", "10.77.0.1")))
            while states.get(timeout=10) is not State.WAITING_NETWORK:
                pass
            print("waits")
            sh("iptables -t nat -A OUTPUT -d 10.77.0.1 -p tcp -j DNAT --to-destination 127.0.0.1")
            began = time.monotonic()
            sh("ip addr add 10.77.0.1/24 dev one0")
            sh("ip link set one0 up")
            print(lab.wait(8).row.result, time.monotonic() - began < 5)
            watch.close()
    """)
    assert printed.split() == ["waits", "success", "True"]


def test_there_is_a_watch_everywhere() -> None:
    """Whatever the platform or the sandbox; it says no where nothing happens, and ends."""
    watch = links()
    assert watch.wait(0.0) in (True, False)
    watch.close()
    seen = SeenLinks()
    assert seen.wait(0.0) is False
    seen.close()


@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is the kernel's of Linux")
def test_hostile_lengths_end() -> None:
    """A message that claims to be shorter than its own header is the last one read."""
    from bgfetch.network.links import _messages

    good = struct.pack("=IHHII", 20, 16, 0, 0, 0) + b"abcd"
    assert list(_messages(good + good)) == [(16, b"abcd")] * 2
    assert list(_messages(good + struct.pack("=IHHII", 3, 16, 0, 0, 0))) == [(16, b"abcd")]
    assert list(_messages(b"short")) == []
