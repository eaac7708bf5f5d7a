/**
 * The event log, as the Background Fetch panel of the developer tools shows it: the same names, for both engines, made from what
 * a registration tells a page. A server's words are shown as text, never as markup.
 */

const MOST = 400; // rows kept; a log of days must not fill the page

export class EventLog {
  /** @type {Map<string, {registration: object, requests: Map<string, string>, state: string}>} */
  #seen = new Map();
  #body;

  /** @param {HTMLTableElement} table */
  constructor(table) {
    this.#body = table.tBodies[0];
  }

  /** @param {string} event @param {string} [details] @param {""|"good"|"bad"} [kind] */
  add(event, details = "", kind = "") {
    this.#body.querySelector(".none")?.remove();
    const row = this.#body.insertRow(0);
    row.className = kind;
    for (const text of [new Date().toLocaleTimeString(undefined, { hourCycle: "h23" }), event, details]) row.insertCell().textContent = text;
    while (this.#body.rows.length > MOST) this.#body.deleteRow(-1);
  }

  clear() {
    this.#body.replaceChildren();
  }

  /** Write down what is new about a registration; call it at each of its events. */
  observe(registration) {
    const { id, files = [] } = registration;
    let seen = this.#seen.get(id);
    if (seen?.registration !== registration) {
      seen = { registration, requests: seen?.requests ?? new Map(), state: "" };
      this.#seen.set(id, seen);
      if (registration.result) seen.state = "settled"; // stored earlier, which is no event
      else if (!registration.downloaded) {
        seen.requests.clear();
        this.add("Background fetch registered", `${id}: total requests ${files.length || 1}`);
      }
    }
    if (seen.state === "settled") return;
    const ran = registration.result || registration.state === "verifying";
    if (ran && !seen.state) this.#state(id, { state: "running" }, seen); // it was faster than its events
    if (registration.state !== seen.state && !registration.result) this.#state(id, registration, seen);
    for (const file of files) this.#file(id, file, seen.requests);
    if (registration.result) this.#settled(registration, seen);
  }

  #state(id, registration, seen) {
    const words = {
      running: seen.state ? "Background fetch resumed" : "Background fetch started",
      paused: "Background fetch paused",
      verifying: "Verifying",
      "waiting-network": "Waiting for the network",
      "waiting-retry": "Waiting to try again",
    };
    const word = words[registration.state];
    if (word) this.add(word, id);
    if (registration.state !== "queued") seen.state = registration.state;
  }

  #file(id, file, requests) {
    const before = requests.get(file.path);
    if (!before && file.downloaded > 0) {
      requests.set(file.path, "started");
      this.add("Request processing started", `${id}: ${file.path}`);
    }
    if (before !== "completed" && file.size > 0 && file.downloaded >= file.size && file.verified) {
      requests.set(file.path, "completed");
      this.add("Request processing completed", `${id}: ${file.path}, ${file.size.toLocaleString()} bytes, verified by ${file.verified}`);
    }
  }

  #settled(registration, seen) {
    seen.state = "settled";
    const { id, result, failureReason, failureDetail } = registration;
    if (result === "success") this.add("Background fetch completed", `${id}: backgroundfetchsuccess`, "good");
    else if (failureReason === "aborted") this.add("Background fetch aborted", `${id}: backgroundfetchabort`, "bad");
    else this.add("Background fetch failed", `${id}: backgroundfetchfail, ${failureReason} ${failureDetail ?? ""}`, "bad");
  }
}
