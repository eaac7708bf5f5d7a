/**
 * What a page imports: models by id, on top of the store and two engines. What is fetched here is kept, as a stored model,
 * until it is deleted; another tab, a reload or the next day finds it again.
 * @module
 */
import { drafts, total } from "./requests.js";
import { allowed, join, patience, preflight, present, start, stop, suits } from "./native.js";
import { Registration } from "./registration.js";

export { Registration };

/** @typedef {import("./types").RegistrationRow} Row */
/** @typedef {import("./requests.js").Kit} Kit */
/** @typedef {import("./requests.js").Options} Options */
/** @typedef {import("./requests.js").Requests} Requests */
/** @typedef {{ engine?: "auto" | "native" | "worker", serviceWorker?: string, scope?: string, stall?: number }} Ready stall: ms without a byte after which a native fetch is given up, 60,000 if not said */

const GRACE = 5_000; // ms in which the worker hears of the end of a native fetch

/** The models of a page's scope. Get one from `ready()`. */
export class BackgroundFetch {
  /** Which engine is tried first. @type {"native" | "worker"} */
  engine;
  /** @type {Map<number, Registration>} */ #known = new Map();
  /** @type {Set<number>} native fetches that are looked at */ #watched = new Set();
  #kit;
  #scope;
  #service;

  /** @param {Kit} kit @param {ServiceWorkerRegistration | undefined} service @param {"native" | "worker"} engine */
  constructor(kit, service, engine) {
    this.engine = engine;
    this.#kit = kit;
    this.#service = service;
    this.#scope = service?.scope ?? new URL("/", location.href).href;
    kit.listen((message) => {
      if (message.type === "changed") return void this.#changed(message.uid);
      if (message.type !== "progress") return;
      void this.#known.get(message.uid)?.hear(message);
      if (message.result) void kit.deliver();
    });
  }

  /** Fetch under an id. @param {string} id @param {Requests} requests a manifest, a URL, or several @param {Options} [options]
   * @throws TypeError: the id is active; QuotaExceededError: before the first byte, in words; NetworkError: no manifest; AbortError; NotSupportedError: nothing can be stored */
  async fetch(id, requests, options = {}) {
    const { title = id, icons = [], signal } = options;
    signal?.throwIfAborted();
    await storable();
    const found = await drafts(this.#kit, requests, options);
    const bytes = total(found) || options.downloadTotal || 0;
    await this.#room(found, bytes);
    const native = this.engine === "native" && suits(found) && await allowed(/** @type {ServiceWorkerRegistration} */ (this.#service)) && await preflight(found);
    signal?.throwIfAborted();
    const draft = { scope: this.#scope, id, kept: true, title, icons, downloadTotal: bytes };
    const row = await this.#kit.add({ ...draft, ...(native && { native: "starting" }) }, found);
    const registration = await this.#registration(row);
    signal?.addEventListener("abort", () => void registration.abort(), { once: true });
    if (signal?.aborted) await registration.abort(); // while it was added
    else if (native) await this.#native(row);
    else this.#kit.start();
    return registration;
  }

  /** @param {import("./types").RecordDraft[]} found @param {number} bytes */
  async #room(found, bytes) {
    let needed = bytes;
    for (const { entry } of found) if (entry) needed -= (await this.#kit.held(entry.sha256)).size * entry.segment_size;
    const room = await this.#kit.room();
    if (needed > room) throw new DOMException(`${needed} bytes are to come, and the browser gives this site room for ${room}.`, "QuotaExceededError");
  }

  /** @param {Row} row */
  async #native(row) {
    const named = { ...row, native: `bgfetch ${row.uid} ${Date.now()}` };
    await this.#kit.update(row.uid, { native: named.native });
    this.#known.get(row.uid)?.taken(named);
    this.#watched.add(row.uid);
    if (!(await start(this.#kit, /** @type {ServiceWorkerRegistration} */ (this.#service), named))) await this.#worker(row.uid);
  }

  /** From here on the worker engine. @param {number} uid */
  async #worker(uid) {
    this.#watched.delete(uid);
    await this.#kit.quarantined(uid);
    const row = await this.#kit.row(uid);
    if (!row) return;
    this.#known.get(uid)?.taken(row);
    if (!row.result && !row.paused) this.#kit.start();
  }

  /** Something is to be looked up: a native fetch may have ended, another tab's included. @param {number} uid */
  async #changed(uid) {
    const row = await this.#kit.row(uid);
    if (!row || row.result) return;
    this.#known.get(uid)?.taken(row);
    if (!row.native) this.#watched.delete(uid);
    if (!row.native && !row.paused) this.#kit.start();
    else if (this.#watched.has(uid)) void this.#look(row);
  }

  /** Follow a native fetch that is there; where there is none any more, go on without, once the worker had its time. @param {Row} row */
  async #look(row) {
    this.#watched.add(row.uid);
    for (const wait of [0, GRACE]) {
      await new Promise((next) => setTimeout(next, wait));
      const now = await this.#kit.row(row.uid);
      if (!now?.native || now.result) return void this.#watched.delete(row.uid);
      if (this.#service && present() && await join(this.#kit, this.#service, now)) return;
    }
    await this.#worker(row.uid);
  }

  /** Have it here: what is whole is given at once, what runs is joined, what lacks parts is mended. @param {string} id @param {Requests} requests @param {Options} [options] */
  async ensure(id, requests, options) {
    await storable();
    const found = await this.get(id);
    if (found && (!found.result || (await this.availability(id)) === "available")) return found;
    return this.fetch(id, requests, options).catch(async (error) => {
      const other = error instanceof TypeError && await this.get(id); // another tab, or call, was faster
      if (other && !other.result) return other;
      throw error;
    });
  }

  /** The running or stored one of an id. @param {string} id */
  async get(id) {
    const row = await this.#kit.find(this.#scope, id, true);
    return row && row.result !== "failure" ? this.#registration(row) : undefined;
  }

  async getIds() { return [...new Set((await this.list()).map(({ id }) => id))]; }

  /** All that run or are stored, oldest first. */
  async list() {
    const rows = await this.#kit.rows(this.#scope);
    return Promise.all(rows.filter(({ kept, result }) => kept && result !== "failure").map((row) => this.#registration(row)));
  }

  /** Abort what runs, and give the room of what is stored back. @param {string} id */
  async delete(id) {
    const rows = (await this.#kit.rows(this.#scope)).filter((row) => row.id === id);
    for (const row of rows) {
      if (!row.result) await this.#kit.abort(row.uid);
      await this.#kit.drop(row.uid);
      this.#known.delete(row.uid);
      if (row.native) await stop(this.#service, row);
    }
    return rows.length > 0;
  }

  /** Hash what is stored again; a part that is wrong is deleted, so that `ensure` fetches it anew.
   * @param {string} id @returns {Promise<{ whole: boolean, wrong: number, missing: number }>} numbers of segments */
  async verify(id) {
    const row = await this.#kit.find(this.#scope, id, true);
    let [wrong, missing] = [0, 0];
    for (const record of row ? await this.#kit.records(row.uid) : []) {
      missing += record.content ? (await this.#kit.missing(record)).length : 1;
      for (const index of record.entry ? await this.#kit.held(record.content) : []) {
        const bytes = await (await this.#kit.segment(record.content, index))?.arrayBuffer();
        if (!bytes || (await this.#kit.sha256(bytes)) === record.entry?.segments[index]) continue;
        wrong++;
        await (await caches.open("bgfetch-segments")).delete(`/.bgfetch/segments/${record.content}/${index}`);
      }
    }
    return { whole: row?.result === "success" && !wrong && !missing, wrong, missing };
  }

  /** What the browser says of the room; an empty object where it says nothing. @returns {Promise<StorageEstimate>} */
  async estimate() { return (await navigator.storage?.estimate?.()) ?? {}; }

  /** In the words of the browsers' own models. @param {string} id @returns {Promise<"unavailable"|"downloadable"|"downloading"|"available">} */
  async availability(id) {
    if (await lacking()) return "unavailable";
    const row = await this.#kit.find(this.#scope, id, true);
    if (row && !row.result) return "downloading";
    if (row?.result !== "success") return "downloadable";
    for (const record of await this.#kit.records(row.uid)) if ((await this.#kit.missing(record)).length) return "downloadable";
    return "available";
  }

  /** Bytes that a fetch would take, before consent; 0 = unknown. @param {Requests} requests */
  async size(requests) {
    const found = await drafts(this.#kit, requests, {});
    const sizes = await Promise.all(found.map(async ({ request, entry }) => {
      if (entry) return entry.size;
      const head = await fetch(request.url, { method: "HEAD" }).catch(() => undefined);
      const plain = head?.ok && /^(identity)?$/.test(head.headers.get("Content-Encoding") ?? "");
      return plain ? Number(head.headers.get("Content-Length") ?? 0) : 0;
    }));
    return sizes.every(Boolean) ? sizes.reduce((sum, size) => sum + size, 0) : 0;
  }

  /** For `env.customCache` of transformers.js: by the file's own URL, or the hub's. @param {string} id */
  asCache(id) {
    return {
      /** @param {string | URL | Request} key @returns {Promise<Response | undefined>} */
      match: async (key) => {
        const { pathname } = new URL(key instanceof Request ? key.url : key, location.href);
        const registration = await this.get(id);
        if (registration?.result !== "success") return undefined;
        const path = decodeURIComponent(/\/resolve\/[^/]+\/(.+)$/.exec(pathname)?.[1] ?? "");
        const found = registration.files.find((file) => file.path === path || new URL(file.url).pathname === pathname);
        return found && registration.response(found.path);
      },
      async put() {},
    };
  }

  /** `fetch`, answered from what is stored where that has the URL. @param {RequestInfo | URL} input @param {RequestInit} [init] */
  async fetchThrough(input, init) {
    const request = new Request(input, init);
    const plain = (/** @type {string} */ url) => url.replace(/#.*|\?sha256=[0-9a-f]{64}$/g, "");
    const found = request.method === "GET" && (await this.#kit.records()).findLast(({ result, entry, request: { url } }) => result === "success"
      && (url === request.url || (plain(url) === plain(request.url) && (plain(request.url) === request.url || request.url.endsWith(`=${entry?.sha256}`)))));
    return found ? this.#kit.response(found, request.headers.get("Range"), (index) => this.#kit.mend(found, index)) : fetch(request);
  }

  /** @param {Row} row */
  async #registration(row) {
    const known = this.#known.get(row.uid);
    if (known) return known;
    const made = new Registration(this.#kit, row, await this.#kit.records(row.uid), (of) => of.native ? stop(this.#service, of) : Promise.resolve());
    if (!this.#known.has(row.uid)) this.#known.set(row.uid, made);
    return /** @type {Registration} */ (this.#known.get(row.uid));
  }

  /** Go on with what an earlier page has left. */
  async wake() {
    const open = (await this.#kit.rows(this.#scope)).filter(({ result }) => !result);
    for (const row of open) if (row.native) void this.#look(row);
    if (open.some(({ paused, native }) => !paused && !native)) this.#kit.start();
    void this.#kit.deliver();
  }
}

/** What this page lacks to keep models, in words; "" = nothing. */
async function lacking() {
  if (!globalThis.isSecureContext) return "This page is not secure (https, or localhost): the browser stores no models for it.";
  // Where a person has blocked it all is there, and refuses; in a sandboxed frame even the names do.
  const answers = async () => (await caches.has("bgfetch-segments"), globalThis.indexedDB && navigator.locks);
  return await answers().catch(() => undefined) ? "" : "This browser stores no models for this page: are cookies and site data blocked, or is it a private window?";
}

async function storable() {
  const words = await lacking();
  if (words) throw new DOMException(words, "NotSupportedError");
}

/** @type {Promise<BackgroundFetch> | undefined} */
let made;

/** The models of this page, once its worker is there; the same object each time. Where the browser gives this page no service
 * worker it downloads all the same, but no event comes, and no URL is answered offline.
 * @param {Ready} [options] @returns {Promise<BackgroundFetch>} @throws NotSupportedError: engine "native" where there is none */
export function ready(options = {}) {
  return (made ??= make(options).catch((error) => { made = undefined; throw error; }));
}

/** @param {Ready} options */
async function make({ engine = "auto", serviceWorker, scope = "/", stall = patience.stall }) {
  patience.stall = stall;
  for (const name of ["database.js", "segments.js", "reply.js", "polyfill.js", "salvage.js"]) await import(new URL(name, import.meta.url).href);
  const kit = /** @type {Kit} */ (/** @type {any} */ (globalThis)[Symbol.for("bgfetch")]);
  const service = await worker(serviceWorker ?? /** @type {string} */ (kit.script(new URL("sw.js", import.meta.url).href)), new URL(scope, location.href).href);
  const able = !!service && present();
  if (engine === "native" && !able) throw new DOMException("This browser has no Background Fetch of its own, or gives this page no service worker.", "NotSupportedError");
  const bf = new BackgroundFetch(kit, service, able && engine !== "worker" ? "native" : "worker");
  if (!(await lacking())) await bf.wake();
  return bf;
}

/** The scope's worker, registered where there is none, once it is active. @param {string} script @param {string} scope */
async function worker(script, scope) {
  const workers = async () => {
    const container = navigator.serviceWorker; // there is none without https
    const there = await container?.getRegistration(scope);
    return there?.scope === scope ? there : container?.register(script, { scope });
  };
  const service = await workers().catch((error) => {
    console.warn(`bgfetch: no service worker, so no events and nothing offline: ${error?.message}`);
    return undefined;
  });
  const coming = service && !service.active && (service.installing ?? service.waiting);
  if (coming) await new Promise((done) => {
    coming.addEventListener("statechange", () => /activated|redundant/.test(coming.state) && done(undefined));
    if (/activated|redundant/.test(coming.state)) done(undefined);
  });
  return service;
}
