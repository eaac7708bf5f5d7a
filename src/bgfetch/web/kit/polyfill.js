/**
 * Background Fetch as the standard has it, where the browser has none (or where `globalThis.bgfetchForce` is set):
 * a classic script or a module in a page, and in a service worker by way of sw.js. Nothing but names is made at once;
 * the rest is loaded when a method is called, or when something is there that is not finished or not delivered.
 */
"use strict";
if (!(/** @type {any} */ (globalThis)[Symbol.for("bgfetch")]?.registration)) {
  /** @typedef {import("./types").RegistrationRow} RegistrationRow */
  /** @typedef {import("./types").RecordRow} RecordRow */
  const self = /** @type {any} */ (globalThis);
  /** @type {import("./types").Kit} */
  const kit = self[Symbol.for("bgfetch")] ??= {};
  const inWorker = "ServiceWorkerGlobalScope" in self;
  const force = !!self.bgfetchForce;

  /** @type {string} */
  const here = self.bgfetchBase ?? self.document?.currentScript?.src ?? /[@(\s](https?:[^\s(]*\/|[^\s(@:]*\/|)polyfill\.js/.exec(new Error().stack ?? "")?.[1] ?? location.href;
  kit.base ??= new URL("./", new URL(here, location.href)).href;

  /** @type {Promise<void> | undefined} */
  let loaded;
  const load = () => loaded ??= (async () => {
    if (!inWorker) {
      await import(`${kit.base}database.js`);
      await import(`${kit.base}segments.js`);
      early?.close();
      kit.listen((message) => { if (message.type === "changed") void wake(); });
      addEventListener("online", () => kit.tell({ type: "network", online: true }));
      void wake();
    }
    kit.listen(hear);
  })().catch((error) => { loaded = undefined; throw error; });

  // --- what the objects are made of -----------------------------------------------------------------------------

  /** @type {WeakMap<object, any>} what is inside an object of ours; others have nothing inside */
  const insides = new WeakMap();
  /** @param {object} it */
  const inside = (it) => {
    const found = insides.get(it);
    if (!found) throw new TypeError("Illegal invocation");
    return found;
  };
  /** Objects of this realm, kept as long as their registration has records: a listener must not vanish with its target.
   * @type {Map<number, any>} */
  const objects = new Map();
  /** @param {string} words @param {string} name */
  const refusal = (words, name) => new DOMException(words, name);
  /** @param {string} where @param {number} needed @param {ArrayLike<unknown>} given */
  const count = (where, needed, given) => {
    if (given.length < needed) throw new TypeError(`${where}: ${needed} argument${needed > 1 ? "s" : ""} required, but only ${given.length} present.`);
  };

  class BackgroundFetchManager {
    constructor() { throw new TypeError("Illegal constructor"); }
    /** @param {string} id @param {RequestInfo | RequestInfo[]} requests */
    async fetch(id, requests) {
      const worker = inside(this);
      count("fetch", 2, arguments);
      return begin(worker, `${id}`, requests, arguments[2]);
    }
    /** @param {string} id */
    async get(id) {
      const { scope } = inside(this);
      count("get", 1, arguments);
      if (`${id}` === "") throw new TypeError("The id must not be empty.");
      await load();
      const row = await kit.find(scope, `${id}`);
      return row && kit.registration(row);
    }
    async getIds() {
      const { scope } = inside(this);
      await load();
      return (await kit.rows(scope)).filter((row) => !row.result).map((row) => row.id);
    }
  }

  class BackgroundFetchRegistration extends EventTarget {
    constructor() { super(); throw new TypeError("Illegal constructor"); }
    get id() { return inside(this).id; }
    get uploadTotal() { return inside(this).uploadTotal; }
    get uploaded() { return inside(this).uploaded; }
    get downloadTotal() { return inside(this).downloadTotal; }
    get downloaded() { return inside(this).downloaded; }
    get result() { return inside(this).result; }
    get failureReason() { return inside(this).failureReason; }
    get recordsAvailable() { return inside(this).recordsAvailable; }
    get onprogress() { return inside(this).handler ?? null; }
    set onprogress(handler) { handle(this, "progress", inside(this), handler); }
    async abort() {
      const { uid } = inside(this);
      await load();
      return kit.abort(uid);
    }
    /** @param {RequestInfo} request */
    async match(request) {
      const it = inside(this);
      count("match", 1, arguments);
      return (await find(it, request, arguments[1]))[0];
    }
    async matchAll() { return find(inside(this), arguments[0], arguments[1]); }
  }

  class BackgroundFetchRecord {
    constructor() { throw new TypeError("Illegal constructor"); }
    get request() { return inside(this).request; }
    get responseReady() { return inside(this).responseReady; }
  }

  /** An attribute such as `onprogress`: one handler at the place in the order where it was first set.
   * @param {EventTarget} target @param {string} type @param {{ handler?: any, handles?: boolean }} of @param {any} handler */
  function handle(target, type, of, handler) {
    of.handler = Object(handler) === handler ? handler : null;
    if (of.handles || !of.handler) return;
    of.handles = true;
    target.addEventListener(type, (event) => {
      if (typeof of.handler === "function" && of.handler.call(target, event) === false) event.preventDefault();
    });
  }

  // --- fetch() --------------------------------------------------------------------------------------------------

  // "Bad ports" of the Fetch standard; the constructor of Request lets them pass.
  const PORTS = new Set(("1,7,9,11,13,15,17,19,20,21,22,23,25,37,42,43,53,69,77,79,87,95,101,102,103,104,109,110,111,113,115,117,119,123,135,137,139,143,161,179,"
    + "389,427,465,512,513,514,515,526,530,531,532,540,548,554,556,563,587,601,636,989,990,993,995,1719,1720,1723,2049,3659,4045,4190,5060,5061,6000,6566,"
    + "6665,6666,6667,6668,6669,6679,6697,10080").split(","));

  /** @param {any} options @returns {{ title: string, icons: object[], downloadTotal: number }} */
  function dictionary(options = {}) {
    if (options !== null && Object(options) !== options) throw new TypeError("The options are not an object.");
    const { title = "", icons = [], downloadTotal = 0 } = options ?? {};
    const number = Number(downloadTotal);
    const total = Number.isFinite(number) ? Math.trunc(number) : 0; // Web IDL
    if (!(total >= 0 && total <= Number.MAX_SAFE_INTEGER)) throw new TypeError("downloadTotal is out of range.");
    return { title: `${title}`, icons: images(icons), downloadTotal: total };
  }

  /** @param {Iterable<any>} icons */
  const images = (icons) => Array.from(icons, (icon) => {
    if (icon?.src === undefined) throw new TypeError("An icon has no src.");
    const { src, sizes, type, label } = icon;
    return JSON.parse(JSON.stringify({ src: `${src}`, sizes, type, label }));
  });

  /** @param {any} requests @returns {Request[]} */
  function asked(requests) {
    const many = typeof requests === "object" && !(requests instanceof Request) && typeof requests?.[Symbol.iterator] === "function";
    const list = Array.from(many ? requests : [requests], (each) => {
      const raw = each instanceof Request ? each.url : `${each}`;
      const request = new Request(/** @type {RequestInfo} */ (each));
      const { protocol, port } = new URL(request.url);
      if (request.mode === "no-cors") throw new TypeError("A request is no-cors; its response could never be read.");
      if (!/^https?:$/.test(protocol)) throw new TypeError(`Only http and https can be fetched, not ${protocol}`);
      if (PORTS.has(port)) throw new TypeError(`Port ${port} is another protocol's.`);
      if (/[\n\t]/.test(raw) && raw.includes("<")) throw new TypeError("The URL looks like markup that was not closed.");
      return request;
    });
    if (!list.length) throw new TypeError("There is nothing to fetch.");
    return list;
  }

  /** Source: Background Fetch, fetch(), in the order of its checks. @param {ServiceWorkerRegistration} worker @param {string} id @param {any} requests @param {any} options */
  async function begin(worker, id, requests, options) {
    const list = asked(requests);
    const { title, icons, downloadTotal } = dictionary(options);
    if (inWorker) throw refusal("A background fetch is started by a page, not by a service worker.", "NotAllowedError");
    if (!worker.active) throw new TypeError("There is no active service worker that could be told of the end.");
    await load();
    if (await kit.find(worker.scope, id)) throw new TypeError(`There already is an active background fetch with the id "${id}".`);
    if (downloadTotal > await kit.room()) throw refusal(`There is no room for ${downloadTotal} bytes.`, "QuotaExceededError");
    const stored = await Promise.all(list.map(kit.store)).catch((error) => { throw new TypeError(`A body could not be read: ${error?.message}`); });
    const row = await kit.add({ scope: worker.scope, id, title, icons, downloadTotal }, stored.map((request) => ({ request }))).catch((error) => {
      throw error?.name === "QuotaExceededError" ? refusal("There is no room for the requests.", error.name) : error;
    });
    kit.start();
    return kit.registration(row);
  }

  // --- records --------------------------------------------------------------------------------------------------

  /** @param {{ uid: number, recordsAvailable: boolean }} of @param {RequestInfo | undefined} request @param {any} options */
  async function find(of, request, options) {
    const query = request === undefined ? undefined : new Request(request);
    await load();
    const records = of.recordsAvailable ? await kit.records(of.uid) : [];
    if (!records.length) throw refusal("The records of this background fetch are not available any more.", "InvalidStateError");
    return records.filter((record) => !query || matches(record, query, options ?? {})).map(made);
  }

  /** Source: Service Workers, "request matches cached item". @param {RecordRow} record @param {Request} query @param {any} options */
  function matches({ request, head }, query, { ignoreSearch, ignoreMethod, ignoreVary }) {
    if (!ignoreMethod && (request.method !== "GET" || query.method !== "GET")) return false;
    const [ours, theirs] = [new URL(request.url), new URL(query.url)];
    for (const url of [ours, theirs]) {
      url.hash = "";
      if (ignoreSearch) url.search = "";
    }
    if (ours.href !== theirs.href) return false;
    const vary = new Headers(head?.headers ?? []).get("vary");
    const sent = new Headers(request.headers);
    return !vary || ignoreVary || vary.split(",").every((name) => name.trim() !== "*" && sent.get(name.trim()) === query.headers.get(name.trim()));
  }

  /** @param {RecordRow} record */
  function made(record) {
    const object = Object.create(BackgroundFetchRecord.prototype);
    const responseReady = answer(record);
    responseReady.catch(() => {}); // whoever asks for it hears of it
    insides.set(object, { request: kit.restore(record.request), responseReady });
    return object;
  }

  /** The record as it is, once it has a head. @param {RecordRow} record @returns {Promise<RecordRow>} @throws AbortError, TypeError: it never will */
  async function exposed({ uid, index }) {
    for (;;) {
      const news = change(uid);
      const [row, record] = await Promise.all([kit.row(uid), kit.record(uid, index)]);
      const reason = record?.result || row?.failureReason;
      if (!row || !record || (row.result && !record.result) || (record.result && !/^(success|bad-status)$/.test(record.result))) {
        if (reason === "aborted") throw refusal("The background fetch was aborted.", "AbortError");
        throw new TypeError(record?.detail || "The background fetch of this record has failed.");
      }
      // Of a single segment nothing can be read before it is whole; nor of what the page has promised itself.
      if (record.head && (record.result || (!record.request.integrity && (record.size < 0 || record.size > record.segmentSize)))) return record;
      await news;
    }
  }

  /** The next thing that happens to a registration; after a second in any case. @param {number} uid */
  const change = (uid) => new Promise((done) => {
    const end = () => { stop(); clearTimeout(timer); done(undefined); };
    const timer = setTimeout(end, 1000);
    const stop = kit.listen((message) => { if ("uid" in message && message.uid === uid) end(); });
  });

  /** A response that follows the bytes as they come. @param {RecordRow} asked @returns {Promise<Response>} */
  async function answer(asked) {
    const record = await exposed(asked);
    const { status, statusText, headers, url, type, redirected } = /** @type {import("./types").Head} */ (record.head);
    if (!status) return Response.error();
    const fields = new Headers(headers);
    fields.delete("content-range");
    if (record.result && record.size >= 0 && record.request.method !== "HEAD") fields.set("content-length", `${record.size}`);
    else fields.delete("content-length");
    /** @param {number} index */
    const missing = async (index) => {
      for (;;) {
        const news = change(record.uid);
        const now = await exposed(record);
        const found = await kit.segment(record.content, index);
        if (found) return found;
        if (now.content !== record.content) throw new TypeError("The file has changed on the way, and is fetched anew.");
        record.size = now.result || now.validator || now.entry ? now.size : record.size;
        if (now.size >= 0 && now.result && index * record.segmentSize >= now.size) return undefined;
        if (now.result) return kit.mend(now, index);
        await news;
      }
    };
    const body = /^(101|204|205|304)$/.test(`${status}`) ? null : kit.stream(record, 0, Infinity, missing);
    const response = new Response(body, { status, statusText, headers: fields });
    return Object.defineProperties(response, { url: { value: url }, type: { value: type }, redirected: { value: redirected } });
  }

  // --- what happens to a registration ---------------------------------------------------------------------------

  kit.registration = (row) => {
    let object = objects.get(row.uid);
    if (!object) {
      object = Reflect.construct(EventTarget, [], BackgroundFetchRegistration);
      insides.set(object, { ...row, recordsAvailable: true });
      objects.set(row.uid, object);
    }
    return object;
  };

  /** @param {import("./types").Message} message */
  function hear(message) {
    if (message.type === "gone") {
      const object = objects.get(message.uid);
      if (object) inside(object).recordsAvailable = false;
      objects.delete(message.uid);
    } else if (message.type === "progress") {
      const object = objects.get(message.uid);
      if (object) advance(object, inside(object), message);
      if (message.result && !inWorker) void kit.deliver();
    }
  }

  /** @param {EventTarget} object @param {any} of @param {any} news */
  function advance(object, of, news) {
    if (of.result) return; // it has settled: nothing of it changes any more
    let differs = false;
    for (const name of ["downloaded", "uploaded", "result", "failureReason"]) {
      differs ||= of[name] !== news[name];
      of[name] = news[name];
    }
    if (differs) object.dispatchEvent(new Event("progress"));
  }

  /** @type {Worker | undefined} */
  let engine;
  /** @type {any} */
  let policy;
  kit.script = (url) => {
    policy ??= self.trustedTypes?.createPolicy("bgfetch", { createScriptURL: (/** @type {string} */ it) => it });
    return policy ? policy.createScriptURL(url) : url;
  };

  kit.start = () => {
    if (engine || inWorker) return;
    engine = new Worker(/** @type {any} */ (kit.script(`${kit.base}engine.js`)), { name: "bgfetch" });
    const end = () => {
      engine?.terminate();
      engine = undefined;
    };
    engine.onmessage = () => { end(); void wake(); }; // it had nothing to do
    engine.onerror = () => { end(); setTimeout(wake, AGAIN); }; // its file cannot be had now, or it has failed
  };

  const AGAIN = 5000; // ms

  const wake = () => kit.rows().then(
    (rows) => { if (rows.some((row) => !row.result && !row.paused && !row.native)) kit.start(); },
    () => void setTimeout(wake, AGAIN), // a browser that has just started may refuse at first
  );

  kit.deliver = async () => {
    await load();
    const scopes = new Set((await kit.rows()).filter((row) => !row.result).concat(/** @type {any} */ (await kit.outbox())).map(({ scope }) => scope));
    for (const scope of scopes) {
      const worker = await navigator.serviceWorker.getRegistration(scope);
      if (worker?.scope === scope) worker.active?.postMessage({ bgfetch: "deliver" });
      else for (const row of await kit.rows(scope)) if (!row.kept) await kit.drop(row.uid); // its worker was unregistered
    }
  };

  // --- the surface ----------------------------------------------------------------------------------------------

  /** @param {any} made */
  const finish = (made) => {
    for (const [name, of] of Object.entries(Object.getOwnPropertyDescriptors(made.prototype)))
      if (name !== "constructor") Object.defineProperty(made.prototype, name, { ...of, enumerable: true });
    Object.defineProperty(made.prototype, Symbol.toStringTag, { value: made.name, configurable: true });
    if (force || !(made.name in self)) Object.defineProperty(self, made.name, { value: made, writable: true, configurable: true });
  };
  Object.assign(kit, { handle, insides, images, finish });
  const missing = force || !("BackgroundFetchManager" in self);
  if (missing && "ServiceWorkerRegistration" in self) {
    for (const each of [BackgroundFetchManager, BackgroundFetchRegistration, BackgroundFetchRecord]) finish(each);
    // With its worker a background fetch goes, too; registered again, the scope would find it otherwise.
    const { unregister } = self.ServiceWorkerRegistration.prototype;
    self.ServiceWorkerRegistration.prototype.unregister = { async unregister() {
      const { scope } = /** @type {any} */ (this);
      const done = await unregister.call(this);
      if (done) await load().then(async () => { for (const row of await kit.rows(scope)) if (!row.kept) await kit.drop(row.uid); });
      return done;
    } }.unregister;
    /** @type {WeakMap<object, object>} */
    const managers = new WeakMap();
    Object.defineProperty(self.ServiceWorkerRegistration.prototype, "backgroundFetch", {
      configurable: true,
      enumerable: true,
      get() {
        if (!(this instanceof self.ServiceWorkerRegistration)) throw new TypeError("Illegal invocation");
        let manager = managers.get(this);
        if (!manager) {
          managers.set(this, manager = Object.create(BackgroundFetchManager.prototype));
          insides.set(/** @type {object} */ (manager), this);
        }
        return manager;
      },
    });
  }

  /** A tab that was there before hears here that there is something to do. @type {BroadcastChannel | undefined} */
  let early;
  const attend = async () => {
    early = new BroadcastChannel("bgfetch");
    early.onmessage = () => void load();
    // Asked for, not opened: a site that has never fetched gets no database.
    if (!(await indexedDB.databases()).some(({ name }) => name === "bgfetch")) return;
    await kit.deliver();
  };
  if (inWorker) void load();
  else if ("serviceWorker" in navigator && "locks" in navigator) attend().catch(() => {}); // no storage for this page; a method that is called will say so
}
