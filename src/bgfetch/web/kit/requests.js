/**
 * What a page asks for becomes records: the files of a manifest, each with its digests, or the requests as they are.
 * What a server says in a manifest is checked before anything is made of it.
 * @module
 */

/** @typedef {import("./types").Kit & Pick<import("./types").Reply, "entries" | "retryAfter">} Kit */
/** @typedef {import("./types").RecordDraft} Draft */
/** @typedef {import("./types").Entry} Entry */
/** @typedef {string | URL | Request | (string | URL | Request)[]} Requests */
/** @typedef {{ title?: string, icons?: object[], downloadTotal?: number, signal?: AbortSignal, headers?: HeadersInit, integrity?: string }} Options */

const PATIENCE = 10 * 60_000; // ms for a server that is still hashing
const MOST = 10_000; // files of one manifest

/** @param {string} url */
const shown = (url) => url.replace(/[?#].*/, "");
/** @param {string} words */
const refused = (words) => new DOMException(words, "NetworkError");

/** @param {Kit} kit @param {Requests} requests @param {Options} options @returns {Promise<Draft[]>} @throws TypeError, NetworkError */
export async function drafts(kit, requests, { headers, integrity, signal }) {
  const given = [requests].flat().map((each) => (each instanceof Request ? each : new Request(each, { headers, integrity })));
  if (!given.length) throw new TypeError("There is nothing to fetch.");
  for (const { url } of given) if (!/^https?:/.test(url)) throw new TypeError(`Only http and https can be fetched, not ${new URL(url).protocol}`);
  const [{ url }] = given;
  if (given.length > 1 || !/\/manifest\.json$|[?&]manifest(=|&|$)/.test(url.replace(/#.*/, "")))
    return Promise.all(given.map(async (request) => ({ request: await kit.store(request) })));
  const entries = checked(kit, await manifest(kit, given[0], signal), url);
  return Promise.all(entries.map(async (entry) => ({
    request: await kit.store(new Request(new URL(entry.url, url), { headers, credentials: given[0].credentials })), path: entry.path, manifest: url, entry,
  })));
}

/** @param {Kit} kit @param {any} manifest @param {string} at @returns {Entry[]} @throws NetworkError */
function checked(kit, manifest, at) {
  const count = Array.isArray(manifest?.files) ? manifest.files.length : 0;
  const entries = count > MOST ? [] : kit.entries(manifest);
  if (!entries.length || entries.length !== count) throw refused(`${shown(at)} is no manifest of models${count ? `: of ${count} files ${entries.length} are described as they must be` : ""}.`);
  const paths = new Set(entries.map(({ path }) => path));
  if (paths.size !== count) throw refused(`${shown(at)} names a file twice.`);
  for (const { path, url } of entries) {
    if (!/^(?!\/)(?!(.*\/)?\.{0,2}(\/|$))[^\\\x00-\x1f\x7f]+$/.test(path) || path !== path.normalize("NFC")) throw refused(`${shown(at)} has a file whose name is not allowed: ${JSON.stringify(path.slice(0, 80))}.`);
    if (!URL.canParse(url, at) || !/^https?:/.test(new URL(url, at).href)) throw refused(`${shown(at)} has an address that cannot be fetched, for ${JSON.stringify(path.slice(0, 80))}.`);
  }
  return entries;
}

/** @param {Kit} kit @param {Request} request @param {AbortSignal} [signal] */
async function manifest(kit, request, signal) {
  for (const end = Date.now() + PATIENCE; ; ) {
    const answer = await fetch(request.clone(), { cache: "no-cache", signal }).catch((error) => {
      throw signal?.aborted ? error : refused(`${shown(request.url)} cannot be reached, ${request.integrity ? "is not what its integrity promises, " : ""}or does not let this site read it.`);
    });
    if (answer.ok) return answer.json().catch(() => undefined);
    const wait = kit.retryAfter(answer.headers) || 1000;
    if (answer.status !== 503 || Date.now() + wait > end) throw refused(`${shown(request.url)} answered ${answer.status}.`);
    await new Promise((next) => setTimeout(next, wait)); // it is still hashing the folder
    signal?.throwIfAborted();
  }
}

/** Bytes of all, as far as is known without asking; 0 = not of all. @param {Draft[]} found */
export const total = (found) => found.every(({ entry }) => entry) ? found.reduce((sum, { entry }) => sum + (entry?.size ?? 0), 0) : 0;
