/**
 * The bytes: segments in one Cache, each checked before it was put, so that what is there is what is held: no journal.
 * Responses, streams and blobs are made out of them without ever having the whole in memory. What has come of a segment
 * that takes long waits in a Cache of its own, unchecked: only an engine reads it, to go on there.
 */
"use strict";
if (!(/** @type {any} */ (globalThis)[Symbol.for("bgfetch")]?.held)) {
  /** @typedef {import("./types").RecordRow} RecordRow */
  /** @typedef {(index: number) => Promise<Response | undefined>} Missing */
  /** @type {import("./types").Kit} */
  const kit = /** @type {any} */ (globalThis)[Symbol.for("bgfetch")] ??= {};

  const FOLDER = `${location.origin}/.bgfetch/segments/`;
  const cache = () => caches.open("bgfetch-segments");
  /** @param {string} content @param {number} index */
  const key = (content, index) => `${FOLDER}${content}/${index}`;

  /** Content and number of each segment there is. @returns {Promise<[string, number, Request][]>} */
  async function keys() {
    const found = await (await cache()).keys();
    return found.map((request) => {
      const [content, index] = request.url.slice(FOLDER.length).split("/");
      return [content, Number(index), request];
    });
  }

  const PARTS = `${location.origin}/.bgfetch/parts/`;
  const parts = () => caches.open("bgfetch-parts");
  /** @param {string} content @param {number} index @param {number} start */
  const partKey = (content, index, start) => `${PARTS}${content}/${index}/${start}`;

  const gone = () => new DOMException("A part of what was stored is not there any more: the browser has removed it.", "NotFoundError");

  /** The first byte and the one after the last of a Range header's value; undefined: no range that we honour; null: 416.
   * @param {string} range @param {number} size @returns {[number, number] | undefined | null} */
  function span(range, size) {
    const found = /^bytes=(\d*)-(\d*)$/.exec(range.trim());
    if (!found || !(found[1] || found[2])) return undefined;
    const [, first, last] = found;
    if (first && last && Number(first) > Number(last)) return undefined;
    const start = first ? Number(first) : Math.max(0, size - Number(last));
    const end = first && last ? Math.min(size, Number(last) + 1) : size;
    return start < end ? [start, end] : null;
  }

  Object.assign(kit, /** @type {Partial<import("./types").Kit>} */ ({
    held: async (content) => (await kit.all()).get(content) ?? new Set(),

    async all() {
      /** @type {Map<string, Set<number>>} */
      const found = new Map();
      for (const [content, index] of await keys()) found.set(content, (found.get(content) ?? new Set()).add(index));
      return found;
    },

    async put(content, index, bytes) {
      const headers = { "Content-Length": String(bytes.byteLength), "Content-Type": "application/octet-stream" };
      await (await cache()).put(key(content, index), new Response(bytes, { headers }));
    },

    async parts(content) {
      /** @type {Map<number, number[]>} */
      const found = new Map();
      for (const { url } of await (await parts()).keys()) {
        const [of, index, start] = url.slice(PARTS.length).split("/");
        if (of === content) found.set(Number(index), [...found.get(Number(index)) ?? [], Number(start)]);
      }
      return found;
    },

    async putPart(content, index, start, bytes) {
      await (await parts()).put(partKey(content, index, start), new Response(bytes));
    },

    async recallParts(content, index, starts, bytes) {
      const store = await parts();
      let got = 0;
      for (const start of starts.sort((a, b) => a - b)) {
        const part = start === got ? await store.match(partKey(content, index, start)) : undefined;
        const found = new Uint8Array(await part?.arrayBuffer().catch(() => undefined) ?? []);
        if (!found.length || found.length > bytes.length - got) break;
        bytes.set(found, got);
        got += found.length;
      }
      return got;
    },

    async dropParts(content, index, starts) {
      const store = await parts();
      await Promise.all(starts.map((start) => store.delete(partKey(content, index, start))));
    },

    segment: async (content, index) => (await cache()).match(key(content, index)),

    stream(record, start = 0, end = Infinity, missing) {
      let index = Math.floor(start / (record.segmentSize || 1));
      let at = start;
      /** @type {ReadableStreamDefaultReader<Uint8Array> | undefined} */
      let reader;
      let skip = 0;
      return new ReadableStream({
        async pull(controller) {
          for (;;) {
            const stop = Math.min(end, record.size < 0 ? Infinity : record.size);
            if (at >= stop) { await reader?.cancel(); return controller.close(); }
            if (!reader) {
              const found = await kit.segment(record.content, index) ?? await missing?.(index);
              if (!found) { // while it is still fetched, `missing` may have learnt where it ends
                if (record.size >= 0 && at >= record.size) return controller.close();
                throw gone();
              }
              reader = /** @type {ReadableStream<Uint8Array>} */ (found.body ?? new Response("").body).getReader();
              skip = at - index++ * record.segmentSize;
            }
            const { done, value } = await reader.read();
            if (done) { reader = undefined; continue; }
            const chunk = value.subarray(Math.min(skip, value.length), Math.min(value.length, skip + stop - at));
            skip = Math.max(0, skip - value.length);
            at += chunk.length;
            if (chunk.length) return controller.enqueue(chunk);
          }
        },
        cancel: () => reader?.cancel(),
      }, { highWaterMark: 0 });
    },

    response(record, range, missing) {
      const headers = new Headers({ "Content-Type": record.entry?.type ?? "application/octet-stream" });
      for (const [name, value] of record.head?.headers ?? [])
        if (!/^(content-(length|range|encoding)|age|date|connection|keep-alive|transfer-encoding|set-cookie)$/i.test(name)) headers.set(name, value);
      headers.set("Accept-Ranges", "bytes");
      if (record.entry) headers.set("ETag", `"${record.entry.sha256}"`);
      const asked = range ? span(range, record.size) : undefined;
      if (asked === null) return new Response(null, { status: 416, headers: { "Content-Range": `bytes */${record.size}` } });
      const [start, end] = asked ?? [0, record.size];
      headers.set("Content-Length", String(end - start));
      if (asked) headers.set("Content-Range", `bytes ${start}-${end - 1}/${record.size}`);
      return new Response(kit.stream(record, start, end, missing), { status: asked ? 206 : 200, statusText: asked ? "Partial Content" : "OK", headers });
    },

    async blob(record) {
      const count = Math.ceil(record.size / record.segmentSize) || 0;
      const parts = await Promise.all(Array.from({ length: count }, async (_, index) => {
        const found = await kit.segment(record.content, index);
        if (!found) throw gone();
        return found.blob();
      }));
      const type = record.entry?.type ?? new Headers(record.head?.headers ?? []).get("content-type") ?? "application/octet-stream";
      return new Blob(parts, { type });
    },

    async missing(record, all) {
      const held = (all ?? await kit.all()).get(record.content) ?? new Set();
      return Array.from({ length: Math.ceil(record.size / record.segmentSize) || 0 }, (_, index) => index).filter((index) => !held.has(index));
    },

    async mend({ request, entry, content }, index) {
      if (!entry) return undefined;
      const start = index * entry.segment_size;
      const end = Math.min(entry.size, start + entry.segment_size);
      const headers = [...request.headers, /** @type {[string, string]} */ (["Range", `bytes=${start}-${end - 1}`])];
      const answer = await fetch(kit.restore(request, { headers, cache: "no-store", integrity: "" }));
      if (answer.status !== 206 || Number(answer.headers.get("content-length") ?? 0) > end - start) return undefined;
      const bytes = new Uint8Array(await answer.arrayBuffer());
      if ((await kit.sha256(bytes)) !== entry.segments[index]) return undefined;
      await kit.put(content, index, bytes).catch(() => {}); // there may be no room for it any more
      return new Response(bytes);
    },

    async sweep() {
      const found = await keys(); // first, so that what is referred to from now on is not taken for garbage
      const wanted = new Set((await kit.records()).flatMap(({ content, entry }) => [content, entry?.sha256])); // a native fetch has no content until it is whole
      const store = await cache();
      await Promise.all(found.filter(([content]) => !wanted.has(content)).map(([, , request]) => store.delete(request)));
      const halves = await parts();
      for (const request of await halves.keys()) if (!wanted.has(request.url.slice(PARTS.length).split("/")[0])) await halves.delete(request);
      if (!await caches.has("bgfetch-quarantine")) return;
      const waiting = await caches.open("bgfetch-quarantine");
      const active = new Set((await kit.rows()).filter(({ result }) => !result).map(({ uid }) => `${uid}`));
      for (const request of await waiting.keys()) if (!active.has(request.url.split("/").at(-3) ?? "")) await waiting.delete(request);
    },

    headOf: ({ type = "application/octet-stream", size, sha256 }, url) => ({
      status: 200, statusText: "OK", headers: [["content-type", type], ["content-length", `${size}`], ["etag", `"${sha256}"`]],
      url, type: "basic", redirected: false,
    }),

    async sha256(bytes) {
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
      return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    },

    async room() {
      const { quota, usage } = await navigator.storage?.estimate?.().catch(() => undefined) ?? {};
      if (quota === undefined) return 2 ** 40; // WebKitGTK does not say
      const room = Math.max(0, quota - (usage ?? 0));
      // Chromium shows at most 10 GiB, whatever there is; then only a try can tell (docs/conformance.md).
      return room >= 10 * 2 ** 30 - 1 ? 2 ** 40 : room;
    },
  }));
}
