/**
 * Downloads by the browser's own Background Fetch: it goes on without any page. One registration with many range requests, so
 * that what is finished can be used when the rest is not; salvage.js in the worker takes it out and checks it.
 * Whatever goes wrong here, the worker engine finishes: it needs no permission and no click.
 * @module
 */

/** @typedef {import("./types").Kit} Kit */
/** @typedef {import("./types").RegistrationRow} Row */
/** @typedef {import("./types").RecordRow} RecordRow */

const REQUESTS = 128; // of one registration, about
const LARGEST = 2 ** 29; // bytes of one request: what is lost when a cut comes in it

/** Chromium lets go of a registration that nobody refers to, and its progress events end. @type {Map<number, any>} */
const held = new Map();

/** Whether the browser has an own Background Fetch, which no polyfill has replaced. */
export function present() {
  const made = /** @type {any} */ (globalThis).BackgroundFetchManager;
  return typeof made === "function" && Function.prototype.toString.call(made).includes("[native code]");
}

/** Whether the browser would start now without asking: a refusal is remembered for the whole site, for good.
 * Then the worker of this scope must have salvage.js. @param {ServiceWorkerRegistration} service */
export async function allowed(service) {
  const permission = await navigator.permissions.query(/** @type {any} */ ({ name: "background-fetch" })).catch(() => undefined);
  return permission?.state === "granted" && await answered(service);
}

/** @param {ServiceWorkerRegistration} service @returns {Promise<boolean>} */
function answered(service) {
  return new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => done(true);
    setTimeout(() => done(false), 3000);
    service.active?.postMessage({ bgfetch: "salvage" }, [port2]);
  });
}

/** Whether records can be fetched natively: each of a known size and digest, and from this origin (ranges elsewhere need a
 * permission that Chromium does not ask for). @param {import("./types").RecordDraft[]} drafts */
export const suits = (drafts) => drafts.every(({ request, entry }) => entry && request.method === "GET" && new URL(request.url).origin === location.origin);

/** Whether the server gives ranges of what the records promise. A native fetch whose first answer is bad downloads all of it,
 * and fails then. @param {import("./types").RecordDraft[]} drafts */
export async function preflight(drafts) {
  for (const { request, entry } of drafts.slice(0, 8)) {
    if (!entry?.size) continue;
    const headers = [...request.headers, /** @type {[string, string]} */ (["Range", "bytes=0-0"])];
    const answer = await fetch(request.url, { headers, credentials: request.credentials, cache: "no-store", signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.status !== 206 || answer.headers.get("Content-Range") !== `bytes 0-0/${entry.size}`) return false;
  }
  return true;
}

/** The spans to ask for: runs of segments that are missing. @param {Kit} kit @param {RecordRow[]} records @returns {Promise<[Request, number][]>} */
async function parts(kit, records) {
  /** @type {{ record: RecordRow, indexes: number[] }[]} */
  const wanted = [];
  for (const record of records) {
    const { sha256, size, segment_size } = /** @type {import("./types").Entry} */ (record.entry);
    wanted.push({ record, indexes: await kit.missing({ ...record, content: sha256, size, segmentSize: segment_size }) });
  }
  const count = wanted.reduce((sum, { indexes }) => sum + indexes.length, 0);
  return wanted.flatMap(({ record: { request, entry }, indexes }) => {
    const { size, segment_size } = /** @type {import("./types").Entry} */ (entry);
    const most = Math.max(1, Math.min(Math.ceil(count / REQUESTS), LARGEST / segment_size));
    /** @type {[number, number][]} */
    const spans = [];
    for (const index of indexes) {
      const last = spans.at(-1);
      if (last && last[1] === index && index - last[0] < most) last[1]++;
      else spans.push([index, index + 1]);
    }
    return spans.map(([first, end]) => /** @type {[Request, number]} */ ([
      new Request(request.url, { headers: [...request.headers, ["Range", `bytes=${first * segment_size}-${Math.min(size, end * segment_size) - 1}`]], credentials: request.credentials }),
      Math.min(size, end * segment_size) - first * segment_size,
    ]));
  });
}

/** Start it. False: the browser refused, or there is nothing that it need fetch. @param {Kit} kit @param {ServiceWorkerRegistration} service @param {Row} row */
export async function start(kit, service, row) {
  const asked = await parts(kit, await kit.records(row.uid));
  if (!asked.length) return false;
  const bytes = asked.reduce((sum, [, length]) => sum + length, 0);
  const manager = /** @type {any} */ (service).backgroundFetch;
  try {
    const fetching = await manager.fetch(row.native, asked.map(([request]) => request), { title: row.title || row.id, icons: row.icons, downloadTotal: bytes });
    const now = await kit.row(row.uid);
    if (!now || now.result || now.paused || now.native !== row.native) void fetching.abort(); // meanwhile
    else follow(kit, row, fetching, row.downloadTotal - bytes);
    return true;
  } catch {
    return false; // no permission, no room, five already
  }
}

/** Go on with what an earlier page has started. False: the browser has it no longer. @param {Kit} kit @param {ServiceWorkerRegistration} service @param {Row} row */
export async function join(kit, service, row) {
  if (held.has(row.uid)) return true;
  const fetching = await /** @type {any} */ (service).backgroundFetch?.get(row.native);
  if (!fetching) return false;
  follow(kit, row, fetching, Math.max(0, row.downloadTotal - fetching.downloadTotal));
  return true;
}

/** Pass its progress on, and end it when nothing comes any more: the browser itself would wait for ever.
 * @param {Kit} kit @param {Row} row @param {any} fetching @param {number} before bytes that were there */
function follow(kit, row, fetching, before) {
  const { uid, scope, id, uploadTotal, downloadTotal } = row;
  held.set(uid, fetching);
  // After a restart of the browser its own count begins at 0, although it has kept the bytes.
  let downloaded = row.downloaded;
  let [last, at, rate, first] = [before + fetching.downloaded, Date.now(), 0, true];
  const look = () => {
    const now = before + fetching.downloaded;
    const passed = Date.now() - at;
    if (fetching.result) return end();
    if (now !== last) {
      if (now > last) rate = first ? (now - last) / Math.max(passed, 500) * 1000 : rate * 0.6 + (now - last) / Math.max(passed, 1) * 400;
      [last, at, first] = [now, Date.now(), false];
      downloaded = Math.min(downloadTotal, Math.max(downloaded, now));
      void kit.update(uid, { downloaded, state: "running" });
    } else if (passed > patience.stall) {
      if (navigator.onLine) return void fetching.abort(); // the worker takes out what is whole, and the engine goes on
      rate = 0;
    }
    kit.tell({ type: "progress", uid, scope, id, uploadTotal, uploaded: 0, downloadTotal, downloaded, result: "", failureReason: "", failureDetail: "", state: navigator.onLine ? "running" : "waiting-network", until: 0, rate: Math.round(rate) });
  };
  const beat = setInterval(look, 1000);
  const end = () => { clearInterval(beat); held.delete(uid); fetching.removeEventListener("progress", look); };
  fetching.addEventListener("progress", look);
  look();
}

/** How long it waits; tests cannot. @type {{ stall: number }} ms without a byte */
export const patience = { stall: 60_000 };

/** Let go of it. @param {ServiceWorkerRegistration | undefined} service @param {Row} row */
export async function stop(service, row) {
  const fetching = held.get(row.uid) ?? await /** @type {any} */ (service)?.backgroundFetch?.get(row.native);
  held.delete(row.uid);
  await fetching?.abort();
}
