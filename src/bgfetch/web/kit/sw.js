/**
 * The worker's half: `importScripts("/bgfetch/sw.js")` first in the app's service worker, or registered by itself.
 * It delivers the settle events that are owed, and answers the URLs of stored models from storage.
 *
 * The app's handlers: messages of the kit never reach them. A request for a stored model is answered here, and then
 * does not reach them either, since two answers to one request are an error; nor do those for the kit's files, and
 * those of the engine, for which the standard wants no service worker. All others do. What is stored is known once the
 * database was read; an address that `url()` of a registration gave, which ends in "#stored", is looked up there, and goes
 * to the network where it turns out to be unknown. A request with cache "no-store" or "reload" is never taken.
 * `self.bgfetchServe = false` before the import leaves all requests to the app.
 */
"use strict";
{
  const self = /** @type {any} */ (globalThis);
  /** @type {import("./types").Kit & Record<string, any>} */
  const kit = self[Symbol.for("bgfetch")] ??= {};
  // Firefox writes the path there as importScripts() was given it, when it looks for a new version.
  kit.base ??= new URL("./", new URL(self.bgfetchBase ?? /[@(\s](https?:[^\s(]*\/|[^\s(@:]*\/|)sw\.js/.exec(new Error().stack ?? "")?.[1] ?? "", location.href)).href;
  importScripts(...["database.js", "segments.js", "polyfill.js", "salvage.js"].map((name) => kit.base + name));

  // --- events ---------------------------------------------------------------------------------------------------

  const { insides, handle, images, finish } = kit;
  /** Whether an event of ours is going on, and whether its updateUI was used. @type {WeakMap<object, { active: boolean, used: boolean }>} */
  const lives = new WeakMap();

  class BackgroundFetchEvent extends self.ExtendableEvent {
    /** @param {string} type @param {{ registration: any }} init */
    constructor(type, init) {
      if (arguments.length < 2) throw new TypeError("BackgroundFetchEvent: 2 arguments required.");
      if (!("uid" in (insides.get(init?.registration) ?? {}))) throw new TypeError("init.registration is not a BackgroundFetchRegistration.");
      super(type, init);
      insides.set(this, init.registration);
    }
    get registration() {
      const found = insides.get(this);
      if (!found) throw new TypeError("Illegal invocation");
      return found;
    }
  }

  class BackgroundFetchUpdateUIEvent extends BackgroundFetchEvent {
    /** @param {string} type @param {{ registration: any }} init */
    constructor(type, init) { super(type, init); }
    /** @param {{ title?: string, icons?: any[] }} ui */
    async updateUI(ui = {}) {
      if (!insides.get(this)) throw new TypeError("Illegal invocation");
      const change = { ...(ui?.title !== undefined && { title: `${ui.title}` }), ...(ui?.icons !== undefined && { icons: images(ui.icons) }) };
      const life = lives.get(this);
      if (!life?.active || life.used) throw new DOMException("updateUI can be called once, while the browser's own event is going on.", "InvalidStateError");
      life.used = true;
      await kit.update(insides.get(insides.get(this)).uid, change);
    }
  }

  finish(BackgroundFetchEvent);
  finish(BackgroundFetchUpdateUIEvent);
  for (const end of ["success", "fail", "abort", "click"]) {
    const type = `backgroundfetch${end}`;
    /** @type {{ handler?: any }} */
    const of = {};
    if (`on${type}` in self) continue;
    Object.defineProperty(self, `on${type}`, { configurable: true, enumerable: true, get: () => of.handler ?? null, set: (handler) => handle(self, type, of, handler) });
  }

  /** Have the app handle an event; it is over when its last waitUntil is. @param {string} type @param {import("./types").RegistrationRow} row */
  async function fire(type, row) {
    const Kind = /success|fail/.test(type) ? BackgroundFetchUpdateUIEvent : BackgroundFetchEvent;
    const event = new Kind(type, { registration: kit.registration(row) });
    const life = { active: true, used: false };
    lives.set(event, life);
    /** @type {unknown[]} */
    const pending = [];
    // The browser's own waitUntil belongs to events that it has made itself.
    Object.defineProperty(event, "waitUntil", {
      configurable: true,
      writable: true,
      value(/** @type {unknown} */ promise) {
        if (!life.active) throw new DOMException("The event is over.", "InvalidStateError");
        pending.push(promise);
      },
    });
    self.dispatchEvent(event);
    for (let heard = 0; heard < pending.length;) {
      heard = pending.length;
      await Promise.allSettled(pending);
    }
    life.active = false;
  }

  const TIMES = 5; // a handler that never lives to its end is given up after so many page loads

  /** What this worker is owed, one after the other, and in one worker at a time. */
  const deliver = () => navigator.locks.request(`bgfetch-deliver ${self.registration.scope}`, async () => {
    for (const { uid, type } of await kit.outbox(self.registration.scope)) {
      const before = await kit.attempt(uid);
      const row = await kit.row(uid);
      if (row && before < TIMES) await fire(type, row);
      await kit.acknowledge(uid);
    }
  });

  kit.deliver = async () => void await deliver();

  const alone = location.href === `${kit.base}sw.js`; // not within an app's own worker

  // Then it answers the pages that are open at once; an app's own worker decides that.
  if (alone) self.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(self.clients.claim()));

  self.addEventListener("message", (/** @type {any} */ event) => {
    const { bgfetch, uid } = event.data ?? {};
    if (bgfetch === undefined) return;
    event.stopImmediatePropagation();
    if (bgfetch === "deliver") event.waitUntil(deliver());
    if (bgfetch === "click") event.waitUntil(kit.row(uid).then((row) => row && fire("backgroundfetchclick", row)));
  });

  // --- stored models --------------------------------------------------------------------------------------------

  /** Whole records of stored models by URL, with and without the version; undefined = not read yet. @type {Map<string, import("./types").RecordRow> | undefined} */
  let stored;

  const plain = (/** @type {string} */ url) => url.replace(/#.*/, "").replace(/\?sha256=[0-9a-f]{64}$/, "");

  async function read() {
    /** @type {NonNullable<typeof stored>} */
    const found = new Map();
    if ((await indexedDB.databases()).some(({ name }) => name === "bgfetch")) {
      const kept = new Set((await kit.rows()).filter((row) => row.kept && row.result === "success").map((row) => row.uid));
      for (const record of await kit.records()) {
        if (!kept.has(record.uid) || record.result !== "success" || record.request.method !== "GET") continue;
        found.set(record.request.url.replace(/#.*/, ""), record).set(plain(record.request.url), record);
        if (record.entry) found.set(`${record.request.url.replace(/[?#].*/, "")}?sha256=${record.entry.sha256}`, record);
      }
    }
    stored = found;
  }
  /** @type {Promise<unknown>} */
  let reading = Promise.resolve();
  const readAgain = () => reading = reading.then(read).catch(() => {});
  readAgain();
  kit.listen((message) => {
    if (message.type === "gone" || (message.type === "progress" && message.result)) readAgain();
  });

  /** @param {Request} request @param {import("./types").RecordRow} record */
  function answer(request, record) {
    const response = kit.response(record, request.headers.get("range"), (index) => kit.mend(record, index));
    return request.method === "HEAD" ? new Response(null, response) : response;
  }

  /** Whether another origin has to permit a request first. @param {Request} request */
  const unsafe = (request) => new URL(request.url).origin !== location.origin
    && (request.method !== "GET" || [...request.headers.keys()].some((name) => !/^(range|accept(-language)?|user-agent|referer|origin)$/.test(name)));

  // --- the kit's own files, so that a page that is open can begin although its server is away ----------------------

  const FILES = "bgfetch-kit";
  const needed = ["database.js", "segments.js", "reply.js", "source.js", "transfer.js", "engine.js"].map((name) => kit.base + name);
  self.addEventListener("install", (/** @type {any} */ event) => event.waitUntil(caches.open(FILES).then((cache) => cache.addAll(needed)).catch(() => {})));

  /** As the server has it now; else as it was. @param {Request} request */
  const file = async (request) => {
    const files = await caches.open(FILES);
    const answer = await fetch(request).catch(() => undefined);
    if (!answer) return await files.match(request.url) ?? Response.error();
    if (answer.ok) await files.put(request.url, answer.clone()).catch(() => {}); // there may be no room
    return answer;
  };

  self.addEventListener("fetch", (/** @type {any} */ event) => {
    /** @type {Request} */
    const request = event.request;
    if (request.url.endsWith("#bgfetch")) {
      event.stopImmediatePropagation();
      // WebKit does not ask for the permission when a worker listens and does not answer.
      if (unsafe(request)) event.respondWith(fetch(request));
      return;
    }
    if (needed.includes(request.url)) {
      event.stopImmediatePropagation();
      event.respondWith(file(request));
      return;
    }
    if (self.bgfetchServe === false) return;
    if (!/^(GET|HEAD)$/.test(request.method) || request.mode === "navigate" || /^(no-store|reload)$/.test(request.cache)) return;
    const url = request.url.replace(/#.*/, "");
    const record = stored?.get(url);
    // What a page was given as stored may not have been heard of here. Of others, an app's own worker is not kept from any.
    if (!record && !request.url.endsWith("#stored") && (stored || !alone || request.destination)) return;
    event.stopImmediatePropagation();
    event.respondWith(record ? answer(request, record) : (stored ? readAgain() : reading).then(() => {
      const found = stored?.get(url);
      return found ? answer(request, found) : fetch(request);
    }));
  });
}
