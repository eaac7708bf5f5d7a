/**
 * One record: its request becomes checked segments. What goes wrong is waited for (Retry), met by another plan
 * (Changed) or ends the record (Failure). At most `want` segments are in memory, whatever the size.
 */
"use strict";
{
  /** @typedef {import("./types").RecordRow} RecordRow */
  /** @typedef {import("./types").Body} Body */
  /** @type {import("./types").Kit & import("./types").Reply} */
  const kit = /** @type {any} */ (globalThis)[Symbol.for("bgfetch")];
  const { Failure, Retry, Changed, BadStatus } = kit;

  const FIRST = 2 ** 23; // bytes of the first range, while the size is not known
  const LANES = 6; // connections that browsers open to one host over HTTP/1.1
  const SHARE = 2 ** 26; // bytes of a file for each lane: what is lost with a page stays a small part of it
  const RESTARTS = 8; // versions that a file may have on the way
  const AWAY = 5; // tries without progress for a file that its manifest promises as before: 12 s in all
  const FULL = /^(QuotaExceededError|NS_ERROR_FILE_NO_DEVICE_SPACE)$/; // the second is what Cache.put() of Firefox rejects with
  const NOTED_EVERY = 500; // ms; a segment that is whole sooner is written once only
  const NOTED_BYTES = 2 ** 18;
  const IN_MEMORY = 2 ** 31 - 1; // bytes that every browser hashes in one call

  const nonce = () => `u-${Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;

  kit.Transfer = class {
    /** Numbers of the segments that are stored. @type {Set<number>} */
    held = new Set();
    /** Numbers of those that are asked for. @type {Set<number>} */
    flying = new Set();
    /** What there is of those, so that it goes on there after a cut. @type {Map<number, { bytes: Uint8Array<ArrayBuffer>, got: number, noted: number }>} */
    parts = new Map();
    /** Where the parts of them begin that are stored, so that the next engine goes on there. @type {Map<number, number[]>} */
    noted = new Map();
    /** How often a segment was wrong. @type {Map<number, number>} */
    bad = new Map();
    stored = 0;
    want = 2;
    best = 0;
    /** Whether the server has answered, and how often it seemed to forbid that. */
    met = false;
    forbidden = 0;
    /** How often the manifest has promised what could not be had, since the last segment. */
    away = 0;
    /** Whether it honours ranges, as far as is known, and whether a Range header may be sent at all. */
    ranges = true;
    plain = false;
    /** Most bytes to ask for at once. */
    span = 2 ** 26;
    halt = new AbortController();

    /** @param {import("./types").Runner} run @param {RecordRow} record */
    constructor(run, record) {
      this.run = run;
      this.it = record;
      const { method, headers, integrity } = record.request;
      this.resumable = method === "GET" && !headers.some(([name]) => name === "range");
      this.promised = kit.promised(integrity);
    }

    get patient() { return this.away < AWAY; }

    /** Whether what comes can be known for what came before; else each answer is another beginning. */
    get known() { return !!(this.it.entry || this.it.validator); }

    get downloaded() {
      let sum = this.stored;
      for (const { got } of this.parts.values()) sum += got;
      return sum;
    }

    /** @param {Partial<RecordRow>} change */
    async save(change) {
      Object.assign(this.it, change);
      await kit.updateRecord(this.it.uid, this.it.index, change);
    }

    /** Know again what an earlier engine has stored. @param {Map<string, Set<number>>} all segments that there are */
    async recall(all) {
      const { content, entry, validator, size, result, request } = this.it;
      if (!content && entry) await this.lay({ content: entry.sha256, size: entry.size, segmentSize: entry.segment_size }, all);
      else if (result || (size >= 0 && (entry || validator))) await this.lay({}, all);
      else if (content && request.method === "GET") await this.forget();
    }

    /** Get the whole record. @throws Failure; and what the run stops with */
    async go() {
      try {
        for (;;) {
          try {
            await this.fetch();
            break;
          } catch (error) {
            if (!(error instanceof Changed)) throw error;
            this.halt = new AbortController(); // the other lanes have ended
            if (error.message) await this.renew(error);
          }
        }
        const promised = await this.prove();
        const { entry, validator, request: { url } } = this.it;
        const head = this.it.head ?? (entry && kit.headOf(entry, url)); // all was there: nothing was asked for
        await this.save({ head, result: "success", verified: promised || entry ? "digest" : validator ? "validators" : "length" });
      } catch (error) {
        if (!(error instanceof BadStatus)) throw error;
        if (!this.stored || !this.run.row.kept) await this.keep(error.body);
        error.body.close();
        throw new Failure("bad-status", error.message);
      }
    }

    /** Whether the page itself has promised what the whole is; then it is that. @throws Failure */
    async prove() {
      const { algorithm, digests } = this.promised;
      if (!digests.length) return false;
      const digest = new Uint8Array(await crypto.subtle.digest(algorithm, await (await kit.blob(this.it)).arrayBuffer()));
      if (digests.includes(btoa(String.fromCharCode(...digest)).replace(/=+$/, ""))) return true;
      await this.forget();
      throw new Failure("fetch-error", `${kit.shown(this.it.request.url)} is not what its integrity promises.`);
    }

    async fetch() {
      if (this.resumable && this.it.size < 0 && this.ranges) await this.attempt((moved, last) => this.probe(moved, last));
      if (this.it.content && this.it.size >= 0 && this.next() < 0) return; // one answer was enough
      if (this.resumable && this.it.size >= 0 && this.ranges) await this.lanes();
      else await this.attempt((moved, last) => this.whole(moved, last));
    }

    /** Ask for the first bytes: the answer tells size, validator and manifest, and is the first segment, if it can be.
     * @param {() => void} moved @param {boolean} last */
    async probe(moved, last) {
      if (this.it.size >= 0) return; // it had answered, and was cut off afterwards
      const body = await kit.open(this, { start: 0, end: FIRST, last });
      const { status, headers } = body.response;
      const range = kit.contentRange(headers.get("content-range"));
      const sent = kit.length(headers);
      try {
        if (status === 416) {
          this.plain = true;
          this.ranges = false;
          if (headers.get("content-range") === "bytes */0") await this.describe(body.response, 0);
        } else if (status === 206) {
          const total = range ? range.total : sent < FIRST && await this.agrees(sent) ? sent : -1; // other origins may hide the range
          if (total < 0 || range?.start || (total > FIRST && !kit.validator(headers) && !kit.manifestOf(headers, this.it.request.url))) this.ranges = false;
          else await this.describe(body.response, total);
          if (this.it.size > 0) await this.segment(0, moved, last, body);
        } else {
          this.ranges = false;
          await this.take(body, moved);
        }
      } finally {
        body.close();
      }
    }

    /** Learn from an answer what there is to get. @param {Response} response @param {number} size -1 = not known */
    async describe(response, size) {
      const { url } = this.it.request;
      const validator = kit.validator(response.headers);
      const manifest = this.resumable && size > 0 ? kit.manifestOf(response.headers, url) : "";
      const entry = manifest ? await this.look(manifest, size) : null;
      const content = entry ? entry.sha256 : validator && size >= 0
        ? `u-${await kit.sha256(new TextEncoder().encode(`${url}\n${validator}\n${size}`))}` : nonce();
      if (!entry && !validator && size > FIRST) this.ranges = false;
      await this.lay({ content, size, segmentSize: entry?.segment_size ?? kit.segmentSize(size), entry, manifest: entry ? manifest : "", validator, head: this.head(response, size) }, entry || validator ? undefined : new Map());
    }

    /** @param {Response} response @param {number} size @returns {import("./types").Head} as if the whole had been asked for */
    head(response, size) {
      const { status, statusText, url, type, redirected } = response;
      const headers = new Headers(response.headers);
      const ours = this.resumable && (status === 206 || status === 416);
      if (ours) {
        headers.delete("content-range");
        headers.set("content-length", String(size));
      }
      return { ...(ours ? { status: 200, statusText: "OK" } : { status, statusText }), headers: [...headers], url, type, redirected };
    }

    /** What the manifest says of this file; null: nothing. @param {string} at @param {number} [size] of the file that is there: another one is not meant */
    async look(at, size) {
      const { path, request } = this.it;
      const signal = AbortSignal.any([this.run.signal, AbortSignal.timeout(30_000)]);
      const answer = await fetch(kit.ours(at), { cache: "no-store", credentials: request.credentials, signal }).catch(() => undefined);
      if (size === undefined && (!answer || answer.status >= 500))
        throw new Retry(`${kit.shown(at)} cannot be had.`, { network: !answer, status: answer?.status, after: answer && kit.retryAfter(answer.headers) });
      const files = answer?.ok ? kit.entries(await answer.json().catch(() => null)) : [];
      const here = kit.shown(request.url);
      const entry = files.find((each) => each.path === path) ?? files.find(({ url }) => URL.canParse(url, at) && kit.shown(new URL(url, at).href) === here);
      return entry && (size === undefined || entry.size === size) ? entry : null;
    }

    /** Take a plan: which content, of what size, in which segments; and see what is held of it.
     * @param {Partial<RecordRow>} plan @param {Map<string, Set<number>>} [all] segments that there are */
    async lay(plan, all) {
      if (this.promised.digests.length && (plan.size ?? 0) > IN_MEMORY)
        throw new Failure("fetch-error", `${kit.shown(this.it.request.url)} has ${plan.size} bytes, more than can be hashed at once: give integrity of its manifest instead.`);
      await this.plan(plan); // before a segment is put, so that nobody takes it for garbage
      this.parts.clear();
      this.held = (all ?? await kit.all()).get(this.it.content) ?? new Set();
      this.stored = 0;
      for (const index of this.held) this.stored += this.bytes(index);
      this.noted = this.it.size > NOTED_BYTES ? await kit.parts(this.it.content) : new Map();
      await this.run.sized();
    }

    async forget() {
      this.parts.clear();
      this.held.clear();
      this.stored = 0;
      await this.plan({ entry: null, content: "", size: -1, validator: "", head: null });
    }

    /** @param {Partial<RecordRow>} plan */
    async plan(plan) {
      const { content } = this.it;
      await this.save(plan);
      if (content && content !== this.it.content) await kit.sweep();
    }

    /** Length of a segment. @param {number} index */
    bytes(index) {
      const { segmentSize, size } = this.it;
      return size < 0 ? segmentSize : Math.max(0, Math.min(segmentSize, size - index * segmentSize));
    }

    /** The file has changed, or seems to have: the manifest tells. @param {{ message: string, status: number, after: number }} changed */
    async renew({ message, status, after }) {
      const { manifest, entry, request } = this.it;
      const found = manifest ? await this.attempt(() => this.look(manifest)) : null;
      if (!found && entry) throw new Failure("fetch-error", `${message} And there is no manifest that says what it is now.`);
      if (entry && found?.sha256 === entry.sha256) { // another ETag only, or the file is not back yet
        await this.save({ validator: "" });
        if (++this.away > AWAY) throw new Failure("fetch-error", message);
        return status || this.away > 1 ? this.pause(this.away, after) : undefined;
      }
      await this.save({ restarts: this.it.restarts + 1 });
      if (this.it.restarts > RESTARTS) throw new Failure("fetch-error", `${message} That was the ${this.it.restarts}th time.`);
      if (!found) return this.forget();
      this.bad.clear();
      if (entry) await this.run.grown(found.size - entry.size);
      const url = request.url.includes("?sha256=") ? new URL(found.url, manifest).href : request.url;
      await this.lay({ request: { ...request, url }, entry: found, content: found.sha256, size: found.size, segmentSize: found.segment_size, validator: "", head: null });
    }

    /**
     * Try until it is done or hopeless; bytes that come are a new beginning, and being offline costs nothing.
     * @template T @param {(moved: () => void, last: boolean) => Promise<T>} work `last`: it must take what is answered @returns {Promise<T>}
     */
    async attempt(work) {
      const { method } = this.it.request;
      for (let tries = 0, last = method !== "GET"; ;) {
        try {
          return await work(() => { tries = 0; }, last);
        } catch (error) {
          this.run.check();
          if (!(error instanceof Retry) || this.halt.signal.aborted) throw error;
          const offline = error.network && navigator.onLine === false && method === "GET";
          if (last || (!offline && ++tries >= error.limit)) {
            if (last || !error.status) throw new Failure("fetch-error", error.message);
            last = true;
            continue;
          }
          if (error.status === 429 || error.status === 503) this.want = Math.max(1, this.want - 1);
          if (offline) await this.run.wait("waiting-network", Math.max(error.after, 3000), this.halt.signal);
          else await this.pause(tries, error.after);
        }
      }
    }

    /** Wait before a try, longer each time. @param {number} tries @param {number} [least] ms */
    pause(tries, least = 0) {
      return this.run.wait("waiting-retry", Math.max(least, Math.min(30_000, 250 * 2 ** tries) * (0.5 + Math.random() / 2)), this.halt.signal);
    }

    /** Get all segments that are not held, some at a time, more as long as that is faster. */
    async lanes() {
      /** @type {Set<Promise<void>>} */
      const running = new Set();
      /** @type {unknown} */
      let failed;
      let [at, before] = [Date.now(), this.run.received];
      for (let index = this.next(); failed === undefined && (index >= 0 || running.size); index = this.next()) {
        if (index >= 0 && running.size < this.want) {
          running.add(this.lane(index, (error) => { failed ??= error; }, running));
          continue;
        }
        await Promise.race([...running, new Promise((done) => setTimeout(done, 1000))]);
        const passed = Date.now() - at;
        if (passed < 1000) continue;
        this.grow((this.run.received - before) / passed, running.size);
        [at, before] = [at + passed, this.run.received];
      }
      if (failed === undefined) return;
      this.halt.abort(); // the others work on what may not be wanted any more
      await Promise.all(running);
      throw failed;
    }

    /** @param {number} index @param {(error: unknown) => void} failed @param {Set<Promise<void>>} running */
    lane(index, failed, running) {
      this.flying.add(index);
      const lane = this.attempt((moved, last) => this.segment(index, moved, last)).catch(failed).finally(() => {
        this.flying.delete(index);
        running.delete(lane);
      });
      return lane;
    }

    /** @param {number} rate @param {number} lanes that are busy */
    grow(rate, lanes) {
      if (lanes >= this.want && rate > this.best * 1.1) this.want = Math.min(this.want + 1, LANES, Math.max(2, Math.floor(this.it.size / SHARE)));
      else if (rate < this.best * 0.7) this.want = Math.max(2, this.want - 1);
      this.best = Math.max(rate, this.best * 0.9);
    }

    /** The first segment that is neither held nor asked for; -1: there is none. */
    next() {
      const count = Math.ceil(this.it.size / this.it.segmentSize) || 0;
      for (let index = 0; index < count; index++) if (!this.held.has(index) && !this.flying.has(index)) return index;
      return -1;
    }

    /** Get one segment. @param {number} index @param {() => void} moved @param {boolean} last @param {Body} [body] that stands at its beginning */
    async segment(index, moved, last, body) {
      const { segmentSize, validator, request: { url } } = this.it;
      const length = this.bytes(index);
      let part = this.parts.get(index);
      const same = this.known;
      if (!part || !same) {
        this.parts.set(index, part = { bytes: new Uint8Array(length), got: 0, noted: 0 });
        if (same && !body) part.got = part.noted = await kit.recallParts(this.it.content, index, this.noted.get(index) ?? [], part.bytes);
      }
      let at = Date.now();
      while (part.got < length) {
        const start = index * segmentSize;
        const end = same ? Math.min(length, part.got + this.span) : length;
        const from = body ?? await kit.open(this, { start: start + part.got, end: start + end, last });
        body = undefined;
        if (!this.it.head || (!validator && kit.validator(from.response.headers)))
          await this.save({ head: this.head(from.response, this.it.size), validator: kit.validator(from.response.headers) });
        const before = part.got;
        try {
          for (let chunk; part.got < length && (chunk = await from.read());) {
            chunk = chunk.subarray(0, length - part.got);
            part.bytes.set(chunk, part.got);
            part.got += chunk.length;
            if (same) moved();
            this.run.moved(chunk.length);
            if (!same || Date.now() - at < NOTED_EVERY || part.got - part.noted < NOTED_BYTES) continue;
            await this.note(index, part);
            at = Date.now();
          }
          this.span = Math.min(2 ** 26, this.span + 2 ** 17);
        } catch (error) {
          // WebKit hands over nothing of a body that breaks off soon: what is shorter may come whole.
          if (part.got === before) this.span = Math.max(2 ** 18, Math.ceil((end - before) / 2));
          throw error;
        } finally {
          from.close();
        }
        // A server may send less than it was asked for; WebKit lets a body that was cut off look whole.
        if (part.got === before || (part.got < length && part.got - before !== kit.length(from.response.headers))) throw new Retry(`${kit.shown(url)} broke off.`, { network: true });
        if (!same && part.got < length) { // one answer, or nobody knows that it is one file
          this.ranges = false;
          throw new Changed("");
        }
      }
      await this.put(index, part.bytes);
    }

    /** Store what has come of a segment since the last time. @param {number} index @param {{ bytes: Uint8Array<ArrayBuffer>, got: number, noted: number }} part */
    async note(index, part) {
      const { noted, got } = part;
      await kit.putPart(this.it.content, index, noted, part.bytes.subarray(noted, got)).then(() => {
        part.noted = got;
        this.noted.set(index, [...this.noted.get(index) ?? [], noted]);
      }, () => {}); // the whole segment may still find room
    }

    /** @param {number} index of a segment whose parts are not needed any more */
    async unnote(index) {
      const starts = this.noted.get(index);
      this.noted.delete(index);
      if (starts) await kit.dropParts(this.it.content, index, starts).catch(() => {});
    }

    /** Store a segment, if it is right. @param {number} index @param {Uint8Array<ArrayBuffer>} bytes */
    async put(index, bytes) {
      const { entry, content, request } = this.it;
      if (entry && (await kit.sha256(bytes)) !== entry.segments[index]) {
        this.parts.delete(index);
        await this.unnote(index);
        const times = (this.bad.get(index) ?? 0) + 1;
        this.bad.set(index, times);
        const words = `Bytes ${index * entry.segment_size} and on of ${kit.shown(request.url)} are not those that its manifest promises.`;
        if (times === 2) throw new Changed(words);
        throw times > 3 ? new Failure("fetch-error", words) : new Retry(words);
      }
      if (!entry && index === 0 && this.it.head?.status === 200 && !kit.wantsPage(request) && kit.isPage(bytes)) throw kit.page(request.url);
      await kit.put(content, index, bytes).catch(() => kit.sweep().then(() => kit.put(content, index, bytes))).catch((error) => {
        if (!FULL.test(error?.name)) throw new Retry(`The browser did not store a part: ${error?.message}`);
        throw new Failure("quota-exceeded", `The browser gives this site no more room; ${this.run.downloaded} bytes are stored.`);
      });
      this.away = 0;
      this.held.add(index);
      this.parts.delete(index);
      this.stored += bytes.length;
      await this.unnote(index);
      await this.run.saved();
    }

    /** Get it in one answer, from the beginning. @param {() => void} moved @param {boolean} last */
    async whole(moved, last) {
      const { request, content } = this.it;
      const once = request.method !== "GET";
      if (once && content) throw new Failure("fetch-error", `The browser ended while ${kit.shown(request.url)} was sent; it is not sent again, since it may have arrived.`);
      if (once) await this.save({ content: nonce() });
      const body = await kit.open(this, { ...(this.resumable && !this.plain && { start: 0 }), last });
      try {
        if (request.body) await this.run.sent(request.body.byteLength);
        if (this.resumable && !this.plain && await this.partial(body.response)) {
          this.plain = true;
          throw new Changed("");
        }
        await this.take(body, moved);
      } finally {
        body.close();
      }
    }

    /** Whether an answer to a request for all the bytes is not all of them. @param {Response} response */
    async partial({ status, headers }) {
      if (status !== 206) return status === 416;
      const range = kit.contentRange(headers.get("content-range"));
      return range ? range.start !== 0 || range.end !== range.total : !(await this.agrees(kit.length(headers))); // other origins may hide it
    }

    /** Take an answer from its first byte to its last. @param {Body} body @param {() => void} moved */
    async take(body, moved) {
      const { entry, validator, size, content } = this.it;
      const length = kit.length(body.response.headers);
      if (entry ? length >= 0 && length !== size : content && validator && kit.validator(body.response.headers) !== validator)
        throw new Changed(`${kit.shown(this.it.request.url)} has changed.`);
      // Without a validator nobody knows whether this is what came before.
      if (!entry && !(content && validator)) await this.describe(body.response, length);
      await this.cut(body, moved);
    }

    /** Cut a body into segments. What comes again is no progress, since the next answer too begins at the beginning: a segment more is,
     * where it stays. @param {Body} body @param {() => void} moved */
    async cut(body, moved) {
      const { segmentSize, size, request } = this.it;
      const part = { bytes: new Uint8Array(Math.min(this.bytes(0), 2 ** 16)), got: 0, noted: 0 };
      let [index, total] = [0, 0];
      this.parts.clear();
      for (let chunk; (chunk = await body.read());) {
        total += chunk.length;
        if (size >= 0 && total > size) throw new Retry(`${kit.shown(request.url)} sent more than it had announced.`);
        for (; chunk.length; chunk = chunk.subarray(0)) {
          const some = chunk.subarray(0, segmentSize - part.got);
          part.bytes = roomy(part.bytes, part.got + some.length, segmentSize);
          part.bytes.set(some, part.got);
          part.got += some.length;
          chunk = chunk.subarray(some.length);
          if (!this.held.has(index)) { this.parts.set(index, part); this.run.moved(some.length); }
          if (part.got < segmentSize) continue;
          if (!this.held.has(index)) {
            await this.put(index, part.bytes.subarray(0, segmentSize));
            if (this.known) moved();
          }
          [index, part.got] = [index + 1, 0];
        }
      }
      this.parts.clear();
      if (size >= 0 && total !== size && request.method !== "HEAD") throw new Retry(`${kit.shown(request.url)} broke off after ${total} of ${size} bytes.`, { network: true });
      if (size < 0 && this.resumable && !(await this.agrees(total))) throw new Retry(`${kit.shown(request.url)} broke off after ${total} bytes.`, { network: true });
      if (part.got && !this.held.has(index)) await this.put(index, part.bytes.slice(0, part.got));
      await this.save({ size: total, segmentSize });
    }

    /** Whether so many bytes may be the whole, where no answer has said so: WebKit reads a body that was cut off between two chunks as
     * if it had ended. @param {number} total -1 = not known, and then they are */
    async agrees(total) {
      const { request } = this.it;
      const init = { method: "HEAD", cache: /** @type {const} */ ("no-store"), signal: AbortSignal.any([this.run.signal, AbortSignal.timeout(30_000)]) };
      const answer = await fetch(kit.restore({ ...request, url: kit.ours(request.url) }, init)).catch(() => undefined);
      const length = answer?.ok && !answer.headers.has("content-encoding") ? kit.length(answer.headers) : -1;
      return length < 0 || total < 0 || length === total;
    }

    /** Keep an answer that is no success, so that the page can read it. @param {Body} body */
    async keep(body) {
      const size = kit.length(body.response.headers);
      await this.lay({ content: nonce(), entry: null, validator: "", size, segmentSize: kit.segmentSize(size), head: this.head(body.response, size) }, new Map());
      await this.cut(body, () => {}).catch((error) => { if (!(error instanceof Retry)) throw error; });
    }
  };

  /** @param {Uint8Array<ArrayBuffer>} bytes @param {number} needed @param {number} most */
  function roomy(bytes, needed, most) {
    if (needed <= bytes.length) return bytes;
    const larger = new Uint8Array(Math.min(most, Math.max(needed, bytes.length * 2)));
    larger.set(bytes);
    return larger;
  }
}
