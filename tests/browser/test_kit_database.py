"""The kit's database, where whoever uses it ends in the middle."""

from __future__ import annotations

from tests.browser.kitted import Kitted
from tests.browser.sites import Site

BUSY = """
    importScripts("/bgfetch/database.js")
    const kit = globalThis[Symbol.for("bgfetch")]
    const work = async () => {
        for (;;) {
            await Promise.all([kit.update(1, {rate: Math.random()}), kit.rows(), kit.records(), kit.outbox()])
            postMessage("")
        }
    }
    void work()
"""


def test_worker_ends_in_transactions(kitted: Kitted, site: Site) -> None:
    """A worker may end between any two steps; in WebKit two transactions under way would lock all tabs out."""
    site.put("/busy.js", BUSY)
    kitted.run("await (await manager()).getIds()")  # loads the database
    answered = kitted.run("""
        await kit.add({scope: "/", id: "x", paused: true}, [])
        const late = () => new Promise(done => setTimeout(done, 15_000, "late"))
        for (let ended = 0; ended < 20; ended++) {
            const worker = new Worker("/busy.js")
            const busy = new Promise(done => { worker.onmessage = done })
            if (await Promise.race([busy, late()]) === "late") return ended
            await new Promise(done => setTimeout(done, ended))
            worker.terminate()
        }
        return await Promise.race([kit.rows(), late()]) === "late" ? 20 : "each time"
    """)
    assert answered == "each time"
