/**
 * The dedicated worker that downloads. Each tab has one; the one that holds the Web Lock leads, runs every active
 * registration of the origin, and is followed by the next tab's when its own tab closes.
 */
"use strict";
importScripts("database.js", "segments.js", "reply.js", "source.js", "transfer.js");
{
  /** @typedef {import("./types").RegistrationRow} RegistrationRow */
  /** @type {import("./types").Kit & import("./types").Reply} */
  const kit = /** @type {any} */ (globalThis)[Symbol.for("bgfetch")];
  const { Failure } = kit;

  const TOGETHER = 4; // records of one registration that are fetched at once
  const BEAT = 100; // ms between two messages on progress
  const AGAIN = 15_000; // ms after which what broke in an unforeseen way is tried again
  const IDLE = 5_000; // ms without work after which the worker goes

  /** One registration while it is fetched. */
  class Run {
    /** @type {import("./types").Transfer[]} */
    transfers = [];
    stopper = new AbortController();
    /** @type {Set<() => void>} */
    waiting = new Set();
    received = 0;
    said = 0;
    rate = 0;
    /** @type {import("./types").State} */
    state = "queued";
    until = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    timer;

    stopped = false;

    /** @param {RegistrationRow} row */
    constructor(row) {
      this.row = row;
      this.signal = this.stopper.signal;
    }

    get downloaded() {
      return this.transfers.reduce((sum, each) => sum + each.downloaded, 0);
    }

    async go() {
      const beat = setInterval(() => this.beat(), 1000);
      try {
        this.transfers = (await kit.records(this.row.uid)).map((record) => new kit.Transfer(this, record));
        const all = await kit.all();
        for (const each of this.transfers) await each.recall(all);
        await this.sized();
        for (let round = 0; round < 4; round++) {
          await this.all();
          this.enter("verifying");
          if (!(await this.evicted())) break;
        }
        await this.settle();
      } catch (error) {
        if (this.stopped) return;
        if (!(error instanceof Failure)) throw error;
        await this.end("failure", error.reason, error.message);
      } finally {
        clearInterval(beat);
        clearTimeout(this.timer);
      }
    }

    /** Fetch what has no result yet, in order; a record that fails stops no other, but where there is no room nothing goes on. */
    async all() {
      const left = this.transfers.filter((each) => !each.it.result);
      const lane = async () => {
        for (let next; (next = left.shift());) {
          try {
            await next.go();
          } catch (error) {
            if (!(error instanceof Failure)) throw error;
            await next.save({ result: error.reason, detail: error.message });
            if (/quota|total/.test(error.reason)) throw error;
          }
        }
      };
      try {
        await Promise.all(Array.from({ length: TOGETHER }, lane));
      } catch (error) {
        this.stopper.abort(); // the other lanes
        throw error;
      }
    }

    /** Whether the browser has removed parts of what was whole; then they are fetched again. */
    async evicted() {
      let gone = false;
      const all = await kit.all();
      for (const each of this.transfers) {
        if (each.it.result !== "success" || !(await kit.missing(each.it, all)).length) continue;
        gone = true;
        each.it.result = "";
        await each.recall(all);
      }
      return gone;
    }

    async settle() {
      const bad = this.transfers.find((each) => each.it.result !== "success")?.it;
      if (!bad) return this.end("success", "", "");
      await this.end("failure", /** @type {import("./types").FailureReason} */ (bad.result), bad.detail);
    }

    /** @param {import("./types").Result} result @param {import("./types").FailureReason} reason @param {string} detail */
    async end(result, reason, detail) {
      await kit.update(this.row.uid, { downloaded: this.downloaded });
      await kit.settle(this.row.uid, result, reason, detail);
    }

    /** @throws what stops it */
    check() {
      if (this.signal.aborted) throw new DOMException("It was stopped.", "AbortError");
    }

    /** Sizes have become known: is there room, and did the page allow for so much? */
    async sized() {
      this.allow(this.transfers.reduce((sum, { it }) => sum + Math.max(0, it.size), 0));
      const needed = this.transfers.reduce((sum, { it, stored }) => sum + Math.max(0, it.size - stored), 0);
      let room = needed ? await kit.room() : Infinity;
      if (needed > room) room = await kit.sweep().then(kit.room); // what nobody needs any more may take it
      if (needed > room) throw new Failure("quota-exceeded", `${needed} bytes are to come, and the browser gives this site room for ${room}.`);
      this.note();
    }

    /** A file of the manifest, which said how much there is to come, has so many bytes more. @param {number} bytes */
    async grown(bytes) {
      const { uid, kept, downloadTotal } = this.row;
      if (!kept || !downloadTotal || !this.transfers.every(({ it }) => it.entry)) return; // the page had said how much
      this.row.downloadTotal += bytes;
      await kit.update(uid, { downloadTotal: this.row.downloadTotal });
    }

    /** Bytes have come. @param {number} count @throws Failure when they are more than the page allowed for */
    moved(count) {
      this.received += count;
      this.enter("running");
      this.allow(this.downloaded);
      this.note();
    }

    /** @param {number} count bytes there are, or will be @throws Failure when they are more than the page has announced */
    allow(count) {
      const { downloadTotal } = this.row;
      if (downloadTotal && count > downloadTotal) throw new Failure("download-total-exceeded", `There are more than the ${downloadTotal} bytes that the page had announced.`);
    }

    saved() {
      return kit.update(this.row.uid, { downloaded: this.transfers.reduce((sum, { stored }) => sum + stored, 0) });
    }

    /** @param {number} count bytes that have gone up */
    async sent(count) {
      this.row.uploaded += count;
      await kit.update(this.row.uid, { uploaded: this.row.uploaded });
      this.note();
    }

    /** @param {import("./types").State} state @param {number} [until] */
    enter(state, until = 0) {
      if (this.state === state && this.until === until) return;
      [this.state, this.until] = [state, until];
      void kit.update(this.row.uid, { state, until }).catch(() => {});
      this.note();
    }

    /** Wait so long, until the network is back, or until it is stopped. @param {import("./types").State} state @param {number} time ms @param {AbortSignal} halt */
    async wait(state, time, halt) {
      this.enter(state, Date.now() + time);
      await new Promise((done) => {
        const end = () => {
          clearTimeout(timer);
          this.waiting.delete(end);
          for (const each of [halt, this.signal]) each.removeEventListener("abort", end);
          done(undefined);
        };
        const timer = setTimeout(end, time);
        if (state === "waiting-network" || !this.met) this.waiting.add(end);
        for (const each of [halt, this.signal]) each.addEventListener("abort", end);
        if (halt.aborted || this.signal.aborted) end();
      });
      this.check();
    }

    get met() { return this.transfers.some((each) => each.met); }

    online() { for (const end of [...this.waiting]) end(); }

    /** Each second: how fast it is, so that a speed that is shown falls when bytes stop. */
    beat() {
      const now = this.received - this.said;
      this.said = this.received;
      const rate = this.rate * 0.6 + now * 0.4;
      if (Math.round(rate) === Math.round(this.rate)) return;
      this.rate = rate < 1 ? 0 : rate;
      this.note();
    }

    /** Say how far it is, at most ten times a second. */
    note() {
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        if (!this.stopped) this.say();
      }, BEAT);
    }

    say() {
      const { uid, scope, id, uploadTotal, uploaded, downloadTotal } = this.row;
      const files = this.transfers.map((each) => /** @type {[number, number]} */ ([each.downloaded, each.it.size]));
      kit.tell({ type: "progress", uid, scope, id, uploadTotal, uploaded, downloadTotal, downloaded: this.downloaded, result: "", failureReason: "", failureDetail: "", state: this.state, until: this.until, rate: Math.round(this.rate), files });
    }

    stop() {
      this.stopped = true;
      this.stopper.abort();
    }

    /** After what nobody has foreseen: another run begins afterwards. */
    rest() {
      this.enter("waiting-retry", Date.now() + AGAIN);
      this.say();
      return new Promise((done) => {
        const timer = setTimeout(done, AGAIN);
        this.stop = () => { this.stopped = true; clearTimeout(timer); done(undefined); };
      });
    }
  }

  /** @type {Map<number, { run: Run, done: Promise<void> }>} */
  const runs = new Map();

  /** Begin what is active, stop what is not any more. */
  async function look() {
    const wanted = new Map((await kit.rows()).filter((row) => !row.result && !row.paused && !row.native).map((row) => [row.uid, row]));
    for (const [uid, { run, done }] of runs) if (!wanted.has(uid)) { run.stop(); await done; }
    for (const [uid, row] of wanted) if (!runs.has(uid)) begin(row);
  }

  /** @param {RegistrationRow} row */
  function begin(row) {
    const run = new Run(row);
    const done = run.go().catch(async (error) => {
      console.error(error); // a defect or a broken database, which may be well again later
      await run.rest();
      again();
    }).finally(() => { runs.delete(row.uid); idle(); });
    runs.set(row.uid, { run, done });
  }

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let leaving;

  /** Go when there is nothing to do: a page without a worker can rest in the browser's cache of pages. */
  function idle() {
    clearTimeout(leaving);
    leaving = setTimeout(() => { if (!runs.size) postMessage("idle"); }, IDLE);
  }

  let looking = Promise.resolve();
  const again = () => { looking = looking.then(look).catch((error) => console.error(error)).then(idle); };

  navigator.locks.request("bgfetch-engine", async () => {
    looking = kit.sweep().catch((error) => console.error(error)); // what an engine before may have left
    const online = () => { for (const { run } of runs.values()) run.online(); };
    kit.listen((message) => {
      if (message.type === "changed") again();
      else if (message.type === "progress" && message.result && runs.has(message.uid)) again();
      else if (message.type === "network" && message.online) online();
    });
    addEventListener("online", online);
    again();
    await new Promise(() => {}); // held as long as the tab lives
  }).catch((error) => setTimeout(() => { throw error; })); // so that the page hears of it, and begins another
}
