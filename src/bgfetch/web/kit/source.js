/** Where a record comes from: requests for spans of it, and whether an answer may be believed. */
"use strict";
{
  /** @typedef {import("./types").Body} Body */
  /** @typedef {import("./types").Transfer} Transfer */
  /** @type {import("./types").Kit & import("./types").Reply} */
  const kit = /** @type {any} */ (globalThis)[Symbol.for("bgfetch")];
  const { Failure, Retry, Changed, BadStatus } = kit;

  const STALL = 30_000; // ms without a byte
  const LOOPBACK = /^(127\.[\d.]+|localhost|\[::1\])$/;

  /** What the policy that this script was served with has forbidden: URLs, or origins of others. @type {Set<string>} */
  const blocked = new Set();
  addEventListener("securitypolicyviolation", (event) => void blocked.add(/** @type {any} */ (event).blockedURI));

  /** A URL to show: its query may be a secret. @param {string} url */
  const shown = (url) => url.replace(/[?#].*/, "");

  /** Not for a service worker to answer: sw.js knows the engine's requests by their fragment, which no server sees. @param {string} url */
  const ours = (url) => `${url.replace(/#.*/, "")}#bgfetch`;

  /** Send the request; an answer whose body can be used comes back. `last`: whatever the status is, it is final.
   * @param {Transfer} transfer @param {{ start?: number, end?: number, last?: boolean }} asked bytes start to end; neither: as the page made it @returns {Promise<Body>} */
  async function open(transfer, { start, end, last = false }) {
    const { run, it: { request, validator } } = transfer;
    const headers = new Headers(request.headers);
    if (start !== undefined) {
      headers.set("Range", `bytes=${start}-${end === undefined ? "" : end - 1}`); // and so the browser asks for no compression
      if (validator && near(transfer)) headers.set("If-Range", validator); // elsewhere it would need a permission
    }
    const control = new AbortController();
    let since = request.body ? Infinity : Date.now(); // how long an upload takes nobody knows
    const watch = setInterval(() => { if (Date.now() - since > STALL) control.abort(); }, 1000);
    const stop = () => control.abort();
    for (const signal of [run.signal, transfer.halt.signal]) signal.addEventListener("abort", stop);
    // WebKit forgets to end a fetch whose request it has collected as garbage.
    const ended = /** @type {Promise<never>} */ (new Promise((_, failed) => control.signal.addEventListener("abort", failed)));
    ended.catch(() => {});
    const close = () => {
      clearInterval(watch);
      for (const signal of [run.signal, transfer.halt.signal]) signal.removeEventListener("abort", stop);
      stop();
    };
    const lost = () => {
      const words = Date.now() - since > STALL ? "sent nothing for 30 s" : "was not reached, or the connection was lost";
      return new Retry(`${shown(request.url)} ${words}.`, { network: true });
    };
    try {
      run.check();
      run.enter("running");
      // The browser would check a part as if it were the whole; prove() in transfer.js does when all is there.
      const asked = kit.restore({ ...request, url: ours(request.url) }, { headers, cache: "no-store", signal: control.signal, integrity: "" });
      const response = await Promise.race([fetch(asked), ended])
        .catch(async () => { throw await refused(transfer, lost()); });
      transfer.met = true;
      const reader = response.body?.getReader();
      const body = {
        response, close,
        async read() {
          since = Date.now();
          try {
            return (await Promise.race([reader?.read(), ended]))?.value;
          } catch {
            throw lost();
          } finally {
            since = Infinity;
          }
        },
      };
      since = Infinity;
      judge(transfer, body, start, end, last);
      return body;
    } catch (error) {
      if (error instanceof BadStatus) transfer.halt.signal.removeEventListener("abort", stop); // what it says may be kept
      else close();
      throw error;
    }
  }

  /** Whether it comes from this origin, redirects included. @param {Transfer} transfer */
  const near = ({ it }) => [it.request.url, it.head?.url || it.request.url].every((url) => new URL(url).origin === location.origin);

  /** No answer: is the server away, or may this site not read what it says? A request that reads nothing tells.
   * @param {Transfer} transfer @param {Error} lost */
  async function refused(transfer, lost) {
    const { run, it: { request } } = transfer;
    const { protocol, hostname, origin } = new URL(request.url);
    await new Promise((next) => setTimeout(next)); // it is told after fetch() has failed
    if (blocked.has(origin) || blocked.has(request.url.replace(/#.*/, "")))
      return new Failure("fetch-error", `${shown(request.url)} is forbidden by the Content-Security-Policy that engine.js was served with.`);
    if (location.protocol === "https:" && protocol === "http:" && !LOOPBACK.test(hostname))
      return new Failure("fetch-error", `${shown(request.url)} is not encrypted, so a page that is may not fetch it.`);
    if (transfer.met || run.signal.aborted || (near(transfer) && request.redirect !== "error")) return lost;
    const there = await fetch(ours(request.url), { method: "HEAD", mode: "no-cors", credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(5000) }).then(() => true, () => false);
    // Twice, so that a connection that was cut once is not taken for a refusal.
    transfer.forbidden = there ? transfer.forbidden + 1 : 0;
    return transfer.forbidden > 1 ? new Failure("fetch-error", `${shown(request.url)} does not let this site read it (CORS or a redirect).`) : lost;
  }

  /** Throws what is to be done instead, where an answer cannot be used.
   * @param {Transfer} transfer @param {Body} body @param {number | undefined} start @param {number | undefined} end @param {boolean} last */
  function judge(transfer, body, start, end, last) {
    const { status, headers, ok } = body.response;
    const { request, entry, size, validator } = transfer.it;
    const name = shown(request.url);
    const ranged = start !== undefined;
    if (!last && (/^(408|425|429)$/.test(String(status)) || status >= 500))
      throw new Retry(`${name} answered ${status}.`, { after: kit.retryAfter(headers), status });
    if (ranged && status === 416 && size < 0) return; // empty, or no ranges
    if (ranged && size >= 0 && transfer.patient && (status === 416 || (entry && /^(404|410|412)$/.test(String(status)))))
      throw new Changed(`${name} answered ${status}: it is another file now, or gone.`, { after: kit.retryAfter(headers), status });
    if (!ok) throw new BadStatus(`${name} answered ${status || "with a redirect"}.`, body);
    if (request.method !== "GET") return;
    const encoding = headers.get("content-encoding") ?? "identity";
    if (encoding !== "identity") throw new Failure("fetch-error", `${name} came compressed (${encoding.slice(0, 20)}), although that was declined: neither its length nor its ranges can be trusted.`);
    if (/^\s*text\/html\b/i.test(headers.get("content-type") ?? "") && !kit.wantsPage(request)) throw page(request.url);
    if (!ranged || size < 0) return;
    const now = headers.get(validator.startsWith('"') ? "etag" : "last-modified"); // hidden by some other origins
    const same = !validator || !now || now === validator;
    if (status === 206) {
      const range = kit.contentRange(headers.get("content-range")); // hidden by some other origins
      if (range ? range.start !== start || (range.total >= 0 && range.total !== size) : near(transfer)) throw new Changed(`${name} sent another range than it was asked for.`);
      if (!same && !entry) throw new Changed(`${name} has changed.`);
    } else {
      const length = kit.length(headers);
      if (!same || (length >= 0 && length !== size)) throw new Changed(`${name} has changed.`);
      if (start === 0 && (end ?? size) >= size) return;
      transfer.ranges = false;
      throw new Changed("");
    }
  }

  /** @param {string} url */
  const page = (url) => new Retry(`${shown(url)} sent a web page instead of the file: does the network want a login, or is the address wrong?`, { limit: 4 });

  Object.assign(kit, { open, shown, ours, page });
}
