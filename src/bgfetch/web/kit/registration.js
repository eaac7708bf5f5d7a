/**
 * One download as a page sees it: the standard's attributes, what is missing there, and the hand-offs of what has come.
 * @module
 */

/** @typedef {import("./types").Kit} Kit */
/** @typedef {import("./types").RegistrationRow} Row */
/** @typedef {import("./types").RecordRow} RecordRow */
/** @typedef {{ path: string, url: string, size: number, downloaded: number, verified: string }} File */

const MOST = 2 ** 31 - 1; // bytes that every engine gives in one ArrayBuffer

/** DOMException's name for each reason. @type {Record<string, string>} */
const NAMES = { aborted: "AbortError", "quota-exceeded": "QuotaExceededError" };

/** Get one from `BackgroundFetch.fetch()`, `ensure()`, `get()` or `list()`. Its "progress" events end with the one that settles it. */
export class Registration extends EventTarget {
  /** @type {File[]} */ files = [];
  /** Bytes a second. */
  rate = 0;
  /** @type {(value: Registration) => void} */ #done = () => {};
  /** @type {(error: Error) => void} */ #failed = () => {};
  #row;
  #kit;
  #stop;

  /** @param {Kit} kit @param {Row} row @param {RecordRow[]} records @param {(row: Row) => Promise<void>} stop lets go of the browser's own fetch */
  constructor(kit, row, records, stop) {
    super();
    this.#kit = kit;
    this.#row = row;
    this.#stop = stop;
    /** Resolves when all is here and checked. @throws (async) AbortError, QuotaExceededError, NetworkError, in words @type {Promise<Registration>} */
    this.finished = new Promise((done, failed) => { this.#done = done; this.#failed = failed; });
    this.finished.catch(() => {}); // nobody has to ask
    this.#fill(records);
    if (row.result) this.#settled();
  }

  get id() { return this.#row.id; }
  get uploadTotal() { return this.#row.uploadTotal; }
  get uploaded() { return this.#row.uploaded; }
  get downloadTotal() { return this.#row.downloadTotal || this.files.reduce((sum, { size }) => sum + Math.max(0, size), 0); }
  get downloaded() { return this.#row.downloaded; }
  get result() { return this.#row.result; }
  get failureReason() { return this.#row.failureReason; }
  /** What exactly went wrong, in words. */
  get failureDetail() { return this.#row.failureDetail; }
  get state() { return this.#row.state; }
  /** While it waits: when it goes on, ms since the epoch; 0 = unknown. */
  get until() { return this.#row.until; }
  /** Seconds to go at this speed; Infinity while that is not known. */
  get eta() { return this.rate && this.downloadTotal ? Math.max(0, this.downloadTotal - this.downloaded) / this.rate : Infinity; }
  get recordsAvailable() { return this.result === "success"; }
  /** Who downloads it. @type {"native" | "worker"} */
  get engine() { return this.#row.native && !this.result ? "native" : "worker"; }

  /** Hold it; what has come is kept. A native fetch goes on with the worker engine afterwards.
   * False: it had settled, or sends what could not be sent again. */
  async pause() {
    const held = await this.#kit.pause(this.#row.uid, true);
    if (held) await this.#stop(this.#row);
    return held;
  }
  resume() { return this.#kit.pause(this.#row.uid, false); }
  /** False: it had settled. */
  async abort() {
    const aborted = await this.#kit.abort(this.#row.uid);
    if (aborted) await this.#stop(this.#row);
    return aborted;
  }

  /** A snapshot at each progress, the first at once and the last when it settles; throws as `finished` does. */
  async *[Symbol.asyncIterator]() {
    for (;;) {
      const next = new Promise((done) => this.addEventListener("progress", done, { once: true }));
      const { downloaded, downloadTotal, rate, eta, state, until, result } = this;
      yield { downloaded, downloadTotal, rate, eta, state, until, result };
      if (result) return void (await this.finished);
      if (this.downloaded === downloaded && this.state === state && !this.result) await next;
    }
  }

  /** The standard's records: `{ request, responseReady }`. */
  async matchAll() {
    const records = await this.#kit.records(this.#row.uid);
    return records.map((record) => {
      const responseReady = this.finished.then(() => this.response(record.path));
      responseReady.catch(() => {}); // whoever asks for it hears of it
      return { request: this.#kit.restore(record.request), responseReady };
    });
  }

  /** @param {string} name path in the manifest, or URL */
  async match(name) {
    const records = await this.#kit.records(this.#row.uid);
    return (await this.matchAll())[records.findIndex((record) => named(record, name))];
  }

  /** 200, with the exact Content-Length. @param {string} name path in the manifest, or URL */
  async response(name) { return this.#kit.response(await this.#record(name)); }
  /** Made of the stored segments, without a copy where the browser's blobs live on disk. @param {string} name */
  async blob(name) { return this.#kit.blob(await this.#record(name)); }
  /** @param {string} name */
  async file(name) {
    const blob = await this.blob(name);
    return new File([blob], name.split("/").pop() ?? name, { type: blob.type });
  }
  /** @param {string} name */
  async stream(name) { return this.#kit.stream(await this.#record(name)); }
  /** @param {string} name */
  async reader(name) { return (await this.stream(name)).getReader(); }
  /** The whole in memory. @param {string} name @throws RangeError: more than 2 GiB */
  async bytes(name) {
    const record = await this.#record(name, MOST);
    const bytes = new Uint8Array(record.size);
    const reader = this.#kit.stream(record).getReader();
    for (let at = 0, read; !(read = await reader.read()).done; at += read.value.length) bytes.set(read.value, at);
    return bytes;
  }
  /** An address that the worker answers from what is stored, in pages that it controls; its "#stored" tells the worker to look. @param {string} name */
  async url(name) {
    const { request: { url }, entry } = await this.#record(name);
    return `${entry ? `${url.replace(/[?#].*/, "")}?sha256=${entry.sha256}` : url.replace(/#.*/, "")}#stored`;
  }

  /** A whole record. What the browser has removed of it is fetched again.
   * @param {string} name @param {number} [most] bytes @returns {Promise<RecordRow>} @throws NotFoundError, RangeError, InvalidStateError */
  async #record(name, most = Infinity) {
    const found = (await this.#kit.records(this.#row.uid)).find((record) => named(record, name));
    if (!found) throw new DOMException(`"${this.id}" has no file "${name}".`, "NotFoundError");
    const size = found.entry?.size ?? found.size; // it will not get smaller: said before it has come
    if (size > most) throw new RangeError(`"${name}" has ${size} bytes, more than an array holds in every browser: use stream() or blob().`);
    if (found.result !== "success") throw new DOMException(`"${name}" is not here yet, or not whole.`, "InvalidStateError");
    for (const index of await this.#kit.missing(found)) {
      const mended = await this.#kit.mend(found, index).catch(() => undefined);
      if (!mended) throw new DOMException(`The browser has removed a part of "${name}", and it could not be fetched again: call ensure().`, "NotFoundError");
    }
    return found;
  }

  /** @param {RecordRow[]} records */
  #fill(records) {
    this.files = records.map(({ path, request, size, entry, verified, result }) => {
      const bytes = size < 0 ? entry?.size ?? -1 : size;
      return { path, url: request.url, size: bytes, downloaded: result === "success" ? bytes : 0, verified };
    });
  }

  /** News of it, from whichever tab. @param {import("./types").Progress} message */
  async hear(message) {
    const { files, rate, result, ...rest } = message;
    if (this.result) return;
    this.rate = rate;
    if (!result) Object.assign(this.#row, rest);
    files?.forEach(([downloaded, size], at) => {
      if (this.files[at]) Object.assign(this.files[at], { downloaded, size: size < 0 ? this.files[at].size : size });
    });
    if (result) { // a message is a hint; what is true is what was stored
      const row = await this.#kit.row(this.#row.uid);
      const records = row && await this.#kit.records(row.uid);
      if (this.result) return;
      this.#row = row ?? { ...this.#row, ...rest, result };
      if (records) this.#fill(records);
      this.#settled();
    }
    this.dispatchEvent(new Event("progress"));
  }

  /** Who downloads it has changed. @param {Row} row */
  taken(row) { if (!this.result) this.#row.native = row.native; }

  #settled() {
    this.rate = 0;
    if (this.result === "success") return this.#done(this);
    this.#failed(new DOMException(this.failureDetail || this.failureReason, NAMES[this.failureReason] ?? "NetworkError"));
  }
}

/** @param {RecordRow} record @param {string} name */
function named({ path, request }, name) {
  return path === name || (URL.canParse(name, location.href) && request.url === new URL(name, location.href).href);
}
