/**
 * In the worker: what a fetch of the browser's own (native.js) has brought, whether it went well or not, becomes checked
 * segments. Where all is there the registration settles, and the app hears of it in the one form in which it hears of all;
 * where not, the next page's engine fetches the rest.
 *
 * A handler that takes too long is killed. So what could not be hashed in time waits in a Cache of its own, out of which
 * nothing is ever handed out, until kit.quarantined() hashes it.
 */
"use strict";
if (!(/** @type {any} */ (globalThis)[Symbol.for("bgfetch")]?.quarantined)) {
  /** @typedef {import("./types").RecordRow} RecordRow */
  /** @type {import("./types").Kit} */
  const kit = /** @type {any} */ (globalThis)[Symbol.for("bgfetch")] ??= {};
  const self = /** @type {any} */ (globalThis);

  const NAME = /^bgfetch (\d+) /; // ids of fetches that native.js starts
  const TIME = 15_000; // ms of hashing in one handler; Chromium gives it 30 s at the least
  const FOLDER = `${location.origin}/.bgfetch/quarantine/`;
  const cache = () => caches.open("bgfetch-quarantine");

  /** Store those segments of a run that are what the manifest promises. @param {RecordRow} record @param {Blob} blob @param {number} start its place in the file */
  async function keep({ entry }, blob, start) {
    if (!entry || start % entry.segment_size) return;
    const held = await kit.held(entry.sha256);
    for (let at = 0; at < blob.size; at += entry.segment_size) {
      const index = (start + at) / entry.segment_size;
      if (held.has(index)) continue;
      const bytes = new Uint8Array(await blob.slice(at, at + entry.segment_size).arrayBuffer());
      if ((await kit.sha256(bytes)) === entry.segments[index]) await kit.put(entry.sha256, index, bytes);
    }
  }

  /** Take out one answer. @param {any} part a record of the browser's @param {RecordRow[]} records @param {number} uid
   * @param {number} deadline @param {boolean} wanted whether it may wait if there is no time */
  async function take(part, records, uid, deadline, wanted) {
    const range = /^bytes=(\d+)-(\d+)$/.exec(part.request.headers.get("range") ?? "");
    const record = records.find(({ request }) => request.url === part.request.url);
    const response = range && record && await part.responseReady.catch(() => undefined);
    if (response?.status !== 206) return; // it had not come to its end, or is no part of the file
    const blob = await response.blob().catch(() => undefined);
    const start = Number(range?.[1]);
    if (!blob || !record || blob.size !== Number(range?.[2]) + 1 - start) return;
    if (Date.now() < deadline) return keep(record, blob, start);
    if (wanted) await (await cache()).put(`${FOLDER}${uid}/${record.index}/${start}`, new Response(blob));
  }

  /** Whether all is there; then each record says so. @param {number} uid */
  async function whole(uid) {
    const records = await kit.records(uid);
    /** @param {RecordRow} record @returns {Partial<RecordRow>} */
    const plan = ({ entry }) => entry ? { content: entry.sha256, size: entry.size, segmentSize: entry.segment_size } : {};
    for (const record of records) if (!record.entry || (await kit.missing({ ...record, ...plan(record) })).length) return false;
    for (const record of records) {
      const { entry, request: { url } } = record;
      await kit.updateRecord(uid, record.index, { ...plan(record), head: entry && kit.headOf(entry, url), verified: "digest", result: "success" });
    }
    return true;
  }

  /** What is here is all that the browser has brought. @param {number} uid */
  async function conclude(uid) {
    const row = await kit.row(uid);
    if (!row) return kit.sweep();
    if (!row.result && await whole(uid)) {
      await kit.update(uid, { downloaded: row.downloadTotal, native: "" });
      await kit.settle(uid, "success");
    } else {
      await kit.update(uid, { native: "" });
      kit.tell({ type: "changed", uid });
    }
  }

  /** Hash what had to wait, and go on without the browser's own fetch. @param {number} uid */
  kit.quarantined = async (uid) => void await navigator.locks.request(`bgfetch-salvage ${uid}`, async () => {
    if (!(await kit.row(uid))?.native) return;
    if (await caches.has("bgfetch-quarantine")) {
      const store = await cache();
      const records = await kit.records(uid);
      for (const key of await store.keys()) {
        const [of, index, start] = key.url.slice(FOLDER.length).split("/").map(Number);
        const found = of === uid && await store.match(key);
        if (!found) continue;
        if (records[index]) await found.blob().then((blob) => keep(records[index], blob, start)).catch(() => {}); // no room: the engine says so
        await store.delete(key);
      }
    }
    await conclude(uid);
  });

  /** @param {any} event @param {number} uid */
  const salvage = (event, uid) => navigator.locks.request(`bgfetch-salvage ${uid}`, async () => {
    const row = await kit.row(uid);
    if (!row || row.native !== event.registration.id) return; // it was deleted, or the engine has it
    const records = await kit.records(uid);
    const deadline = Date.now() + TIME;
    for (const part of await event.registration.matchAll().catch(() => [])) await take(part, records, uid, deadline, !row.result).catch(() => {}); // no room
    const left = await caches.has("bgfetch-quarantine") && (await (await cache()).keys()).some(({ url }) => url.startsWith(`${FOLDER}${uid}/`));
    if (!left) await conclude(uid);
    else kit.tell({ type: "changed", uid }); // a page that is open hashes the rest
  });

  if ("ServiceWorkerGlobalScope" in self) {
    for (const end of ["success", "fail", "abort"]) self.addEventListener(`backgroundfetch${end}`, (/** @type {any} */ event) => {
      const uid = Number(NAME.exec(event.registration?.id)?.[1]);
      if (!event.isTrusted || !uid) return; // the app's own, or the kit's
      event.stopImmediatePropagation();
      event.waitUntil(salvage(event, uid).then(() => kit.deliver()));
    });
    self.addEventListener("backgroundfetchclick", (/** @type {any} */ event) => {
      if (event.isTrusted && NAME.test(event.registration?.id)) event.stopImmediatePropagation();
    });
    self.addEventListener("message", (/** @type {any} */ event) => {
      if (event.data?.bgfetch !== "salvage") return;
      event.stopImmediatePropagation();
      event.ports[0]?.postMessage(true);
    });
  }
}
