/** What a server's answer means for bytes that are wanted: pure functions of headers and bytes. Nothing else looks at them. */
"use strict";
{
  /** @type {any} */
  const kit = /** @type {any} */ (globalThis)[Symbol.for("bgfetch")] ??= {};

  /** A record ends with this. */
  class Failure extends Error {
    /** @param {Exclude<import("./types").FailureReason, "">} reason @param {string} words */
    constructor(reason, words) { super(words); this.reason = reason; }
  }

  /** It may go better next time. */
  class Retry extends Error {
    /** @param {string} words @param {{ after?: number, limit?: number, status?: number, network?: boolean }} [how]
     * after: ms at least; limit: tries without progress; status: what was answered; network: nothing was */
    constructor(words, { after = 0, limit = 10, status = 0, network = false } = {}) {
      super(words);
      this.after = after;
      this.limit = limit;
      this.status = status;
      this.network = network;
    }
  }

  /** It is another file now, in words; without words: the same file, for which there must be another plan. */
  class Changed extends Error {
    /** @param {string} words @param {{ after?: number, status?: number }} [how] status: what was answered, 0 = the file; after: ms */
    constructor(words, { after = 0, status = 0 } = {}) {
      super(words);
      this.after = after;
      this.status = status;
    }
  }

  /** The status is bad, and the page may read what was answered. */
  class BadStatus extends Error {
    /** @param {string} words @param {import("./types").Body} body */
    constructor(words, body) { super(words); this.body = body; }
  }

  /** What may stand in If-Range: a strong ETag, or a Last-Modified that is older than the answer (RFC 9110 8.8.2.2); else "".
   * @param {Headers} headers */
  function validator(headers) {
    const tag = headers.get("etag") ?? "";
    if (/^"[^"]*"$/.test(tag)) return tag;
    const modified = headers.get("last-modified") ?? "";
    const age = Date.parse(headers.get("date") ?? "") - Date.parse(modified);
    return !tag && (age >= 1000 || (Number.isNaN(age) && Date.now() - Date.parse(modified) > 60_000)) ? modified : "";
  }

  /** @param {string | null} value @returns {{ start: number, end: number, total: number } | undefined} end is one past the last; total -1 = not said */
  function contentRange(value) {
    const found = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(value ?? "");
    if (!found) return undefined;
    const [start, end, total] = [Number(found[1]), Number(found[2]) + 1, found[3] === "*" ? -1 : Number(found[3])];
    return start < end && (total < 0 || end <= total) ? { start, end, total } : undefined;
  }

  /** ms to wait, 1 s to 24 h; 0 = not said. @param {Headers} headers */
  function retryAfter(headers) {
    const value = headers.get("retry-after") ?? "";
    const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
    return Number.isNaN(wait) ? 0 : Math.min(Math.max(wait, 1000), 86_400_000);
  }

  /** @param {Headers} headers @returns {number} -1 = not said */
  const length = (headers) => /^\d{1,15}$/.test(headers.get("content-length") ?? "") ? Number(headers.get("content-length")) : -1;

  /** Whether a request may be answered with a page: it asks for one, or its URL does not say what it is.
   * @param {import("./types").StoredRequest} request */
  function wantsPage({ url, headers }) {
    const ending = /\.([a-z0-9_-]+)$/i.exec(new URL(url).pathname)?.[1]?.toLowerCase();
    return !ending || /^([sx]?html?|php|aspx?|jsp)$/.test(ending) || new Headers(headers).get("accept")?.includes("html");
  }

  /** Whether a body begins as a page does. @param {Uint8Array} bytes */
  const isPage = (bytes) => /^\uFEFF?\s*(<!--[^]*?-->\s*)?<(!doctype html|html|head|body)\b/i.test(new TextDecoder().decode(bytes.subarray(0, 512)));

  /**
   * The files of a manifest, whose form is checked: it is a server's word.
   * @param {any} manifest @returns {import("./types").Entry[]} those that are well-formed
   */
  function entries(manifest) {
    const hex = /^[0-9a-f]{64}$/;
    const files = manifest?.bgfetch === 1 && Array.isArray(manifest.files) ? manifest.files : [];
    return files.filter((/** @type {any} */ it) => typeof it?.path === "string" && typeof it.url === "string" && hex.test(it.sha256)
      && Number.isSafeInteger(it.size) && it.size >= 0 && Number.isSafeInteger(it.segment_size) && it.segment_size >= 16384 && it.segment_size <= 2 ** 28
      && Array.isArray(it.segments) && it.segments.length === Math.ceil(it.size / it.segment_size) && it.segments.every((/** @type {unknown} */ each) => typeof each === "string" && hex.test(each)));
  }

  /** Where an answer says that its manifest is, on its own origin; "" = it does not. @param {Headers} headers @param {string} url */
  function manifestOf(headers, url) {
    const found = /<([^>]*)>\s*;[^,]*rel="?describedby"?/i.exec(headers.get("link") ?? "");
    const at = found && URL.canParse(found[1], url) ? new URL(found[1], url) : undefined;
    return at?.origin === new URL(url).origin ? at.href : "";
  }

  /** 8 MiB, doubled while there are more than 4096, at most 64 MiB: as the manifest has it. @param {number} size */
  function segmentSize(size) {
    let bytes = 2 ** 23;
    while (size / bytes > 4096 && bytes < 2 ** 26) bytes *= 2;
    return bytes;
  }

  /** What a page promises of a body: digests of the strongest algorithm it names, one of which must be the body's; none = nothing
   * is promised. Source: Subresource Integrity, 3.3.2 and 3.3.3. @param {string} integrity @returns {{ algorithm: string, digests: string[] }} */
  function promised(integrity) {
    const found = [...integrity.matchAll(/(?<!\S)sha(256|384|512)-([\w+/-]+)=*(?=\?|\s|$)/gi)];
    const strongest = found.map(([, bits]) => bits).sort().at(-1);
    const digests = found.filter(([, bits]) => bits === strongest).map(([, , digest]) => digest.replaceAll("-", "+").replaceAll("_", "/"));
    return { algorithm: `SHA-${strongest}`, digests };
  }

  Object.assign(kit, { Failure, Retry, Changed, BadStatus, promised, validator, contentRange, retryAfter, length, wantsPage, isPage, entries, manifestOf, segmentSize });
}
