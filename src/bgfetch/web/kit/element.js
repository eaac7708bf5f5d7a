/**
 * `<model-download name="minilm" manifest="/models/minilm/manifest.json">`: a model's download as a person sees it. Size
 * before consent, one button, progress in words, and the same element again after a reload, in another tab, days later.
 *
 * Nothing that a server says is rendered as markup: the parts are made here, once, and only their text changes. No inline
 * style or script is used, so a strict Content-Security-Policy and Trusted Types need no exception.
 * @module
 */

/** @typedef {"idle"|"checking"|"queued"|"downloading"|"paused"|"verifying"|"ready"|"failed"|"evicted"|"unsupported"} State */
/** @typedef {import("./bgfetch.js").BackgroundFetch} BackgroundFetch */
/** @typedef {import("./bgfetch.js").Registration} Registration */
/** @typedef {Record<string, string>} Texts */

/** What it says, by key. `{size}`, `{done}`, `{rate}`, `{left}`, `{until}` and `{detail}` are filled in. @type {Texts} */
const ENGLISH = {
  download: "Download",
  pause: "Pause",
  resume: "Resume",
  retry: "Try again",
  mend: "Fetch what is missing",
  update: "Update",
  abort: "Abort",
  delete: "Delete",
  idle: "Not on this device yet",
  checking: "Looking at what is here…",
  queued: "Waiting for its turn",
  "waiting-network": "Waiting for the network; it goes on by itself",
  "waiting-retry": "The server did not answer; next try {until}",
  downloading: "Downloading",
  paused: "Paused",
  verifying: "Checking every byte…",
  ready: "Ready, on this device",
  failed: "The download failed",
  evicted: "The browser removed part of it to make room",
  unsupported: "This browser cannot keep models",
  aborted: "Aborted",
  "bad-status": "The server did not give the file",
  "fetch-error": "What arrived is not the file, or the server cannot be reached",
  "quota-exceeded": "Not enough room in this browser",
  "download-total-exceeded": "The file is larger than was said",
  newer: "Ready; a newer version is out",
  saver: "Data saver is on",
  progress: "{done} of {size}",
  unsized: "{done}",
  spoken: "{percent}, {done} of {size}",
  rate: "{rate}/s",
  left: "{left} left",
  bar: "Progress of {label}",
};

/** The buttons of each state: the main one, which stays the same element, and the one beside it. @type {Record<State, string[]>} */
const BUTTONS = {
  idle: ["download"],
  checking: [],
  queued: ["pause", "abort"],
  downloading: ["pause", "abort"],
  paused: ["resume", "abort"],
  verifying: ["", "abort"],
  ready: ["", "delete"],
  failed: ["retry", "delete"],
  evicted: ["mend", "delete"],
  unsupported: [],
};

/** @type {Record<string, State>} */
const STATES = {
  queued: "queued",
  running: "downloading",
  "waiting-network": "queued",
  "waiting-retry": "queued",
  paused: "paused",
  verifying: "verifying",
};

const CSS = `
:host { display: block; font: var(--bgfetch-font, inherit); --accent: var(--bgfetch-accent, light-dark(#1d4ed8, #93b4ff));
  --track: var(--bgfetch-track, light-dark(#dbe2ee, #333d52)); --gap: var(--bgfetch-gap, .75rem); }
:host([hidden]), [hidden] { display: none !important; }
[part=base] { display: grid; gap: calc(var(--gap) / 2) var(--gap); grid-template-columns: 1fr auto; align-items: center; }
[part=head] { display: flex; gap: var(--gap); align-items: center; overflow-wrap: anywhere; min-inline-size: 0; }
[part=label] { font-weight: 600; }
[part=actions] { display: flex; flex-wrap: wrap; gap: calc(var(--gap) / 2); justify-content: end; }
[part=facts] { display: flex; flex-wrap: wrap; gap: 0 calc(var(--gap) * 1.5); font-variant-numeric: tabular-nums; }
[part=bar], [part=facts], [part=error], slot:not([name=icon])::slotted(*) { grid-column: 1 / -1; overflow-wrap: anywhere; }
button { min-block-size: 44px; min-inline-size: 44px; padding: 0 1.1em; font: inherit; font-weight: 600; cursor: pointer;
  border-radius: var(--bgfetch-radius, .6rem); border: 1.5px solid var(--accent); background: none; color: var(--accent); }
button.main { background: var(--accent); color: var(--bgfetch-on-accent, light-dark(#fff, #0b1220)); }
button:disabled { cursor: default; opacity: .55; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
progress { appearance: none; inline-size: 100%; block-size: .55rem; border: 0; border-radius: 1rem; overflow: hidden; background: var(--track); }
progress::-webkit-progress-bar { background: none; }
progress::-webkit-progress-value { background: var(--accent); transition: inline-size .3s; }
progress::-moz-progress-bar { background: var(--accent); }
progress:indeterminate { background: linear-gradient(90deg, transparent 35%, var(--accent) 50%, transparent 65%) 50% / 300% var(--track); animation: wait 1.5s ease-in-out infinite alternate; }
progress:indeterminate::-moz-progress-bar { background: none; }
@keyframes wait { from { background-position: 75%; } to { background-position: 25%; } }
@media (prefers-reduced-motion: reduce) { progress:indeterminate { animation: none; } progress::-webkit-progress-value { transition: none; } }
@media (max-width: 30rem) { [part=base] { grid-template-columns: 1fr; } [part=actions] { justify-content: start; } }
@media (forced-colors: active) { progress { border: 1px solid; } }
[role=log] { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
`;

/** @type {CSSStyleSheet | undefined} */
let sheet;

/** @param {string} tag @param {Record<string, string>} [attributes] @param {Node[]} children */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// In Node or a server's renderer there is no HTMLElement; importing this module must still be harmless.
const Base = globalThis.HTMLElement ?? /** @type {typeof HTMLElement} */ (class {});

export class ModelDownload extends Base {
  static observedAttributes = ["name", "src", "manifest", "label", "disabled", "lang"];

  /** Texts of every element; change a key and call `refresh()`, or set before the first one is made. */
  static texts = ENGLISH;

  /** The manager to use instead of what `ready()` of bgfetch.js gives. @type {BackgroundFetch | undefined} */
  backgroundFetch;

  /** What is going on or stored, once looked up. @type {Registration | undefined} */
  registration;

  /** @type {Texts} */ #texts = {};
  #size = 0;
  #newer = false;
  #failure = { reason: "", detail: "" };
  #spoken = "";
  #quarter = -1;
  #look = 0;
  /** @type {ElementInternals | undefined} */ #internals;
  /** @type {Record<string, HTMLElement>} */ #parts = {};
  /** @type {((registration: Registration) => void)[]} */ #waiting = [];

  constructor() {
    super();
    this.#internals = this.attachInternals?.();
    const root = this.attachShadow({ mode: "open" });
    sheet ??= new CSSStyleSheet();
    if (!sheet.cssRules.length) sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    root.append(...this.#build());
  }

  // ---- What a page sets; attributes and properties are one ----

  get name() { return this.getAttribute("name") ?? ""; }
  set name(value) { this.setAttribute("name", value); }
  get src() { return this.getAttribute("src") ?? ""; }
  set src(value) { this.setAttribute("src", value); }
  get manifest() { return this.getAttribute("manifest") ?? ""; }
  set manifest(value) { this.setAttribute("manifest", value); }
  get label() { return this.getAttribute("label") || this.name; }
  set label(value) { this.setAttribute("label", value); }
  get sha256() { return this.getAttribute("sha256") ?? ""; }
  set sha256(value) { this.setAttribute("sha256", value); }
  /** @returns {"auto"|"native"|"worker"} */
  get engine() {
    const engine = this.getAttribute("engine");
    return engine === "native" || engine === "worker" ? engine : "auto";
  }
  set engine(value) { this.setAttribute("engine", value); }
  get auto() { return this.hasAttribute("auto"); }
  set auto(value) { this.toggleAttribute("auto", value); }
  get disabled() { return this.hasAttribute("disabled"); }
  set disabled(value) { this.toggleAttribute("disabled", value); }
  /** @returns {State} */
  get state() { return /** @type {State} */ (this.getAttribute("state") ?? "checking"); }
  /** Texts of this element, before those of all. */
  get texts() { return { ...ModelDownload.texts, ...this.#texts }; }
  set texts(value) {
    this.#texts = value;
    this.#render();
  }

  connectedCallback() { void this.refresh(); }
  disconnectedCallback() {
    this.#look++;
    this.#follow(undefined);
  }

  /** @param {string} name @param {string | null} before @param {string | null} now */
  attributeChangedCallback(name, before, now) {
    if (!this.isConnected || before === now) return;
    if (name === "name" || name === "src" || name === "manifest") void this.refresh();
    else this.#render();
  }

  /** Look again at what is stored and running, as at the start. */
  async refresh() {
    const look = ++this.#look;
    this.#follow(undefined);
    this.#become("checking");
    try {
      const bf = await this.#manager();
      const availability = await bf.availability(this.name);
      const registration = availability === "unavailable" ? undefined : await bf.get(this.name);
      if (look !== this.#look) return;
      if (registration) this.#size = registration.downloadTotal || this.#size;
      if (availability === "unavailable") this.#become("unsupported");
      else if (availability === "available" && registration) this.#take(registration);
      else if (registration && !registration.result) this.#take(registration);
      else if (registration?.result === "success") this.#become("evicted", registration);
      else await this.#offer(bf, look);
    } catch (error) {
      if (look === this.#look) this.#fail("", String(/** @type {Error} */ (error)?.message ?? error));
    }
  }

  /** Resolves with the registration once the model is here and verified; stays open over failures, which can be retried. @returns {Promise<Registration>} */
  whenReady() {
    if (this.state === "ready" && this.registration) return Promise.resolve(this.registration);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Start, or go on; in the same task as the click, since Chromium starts a native fetch for a click only. */
  async download() {
    if (this.disabled) return;
    const { manifest, src, label } = this;
    this.#become("queued");
    try {
      const bf = await this.#manager();
      /** @type {Record<string, unknown>} */
      const options = { title: label, downloadTotal: this.#size };
      if (this.sha256) options.integrity = `sha256-${base64(this.sha256)}`;
      const what = manifest || src.trim().split(/\s+/);
      // What is here stays until the newer version is whole.
      const registration = await (this.#newer ? bf.fetch(this.name, what, options) : bf.ensure(this.name, what, options));
      this.#newer = false;
      this.#take(registration);
    } catch (error) {
      const { name, message } = /** @type {Error} */ (error);
      this.#fail(name === "QuotaExceededError" ? "quota-exceeded" : name === "AbortError" ? "aborted" : "", message);
    }
  }

  async pause() { await this.registration?.pause(); }
  async resume() { await this.registration?.resume(); }
  async abort() { await this.registration?.abort(); }
  async delete() {
    this.#follow(undefined);
    await (await this.#manager()).delete(this.name);
    await this.refresh();
  }

  // ---- What is known ----

  async #manager() {
    if (!this.backgroundFetch) {
      const { ready } = await import("./bgfetch.js");
      this.backgroundFetch ??= await ready({ engine: this.engine });
    }
    return this.backgroundFetch;
  }

  /** Nothing is here: say what it would cost. @param {BackgroundFetch} bf @param {number} look */
  async #offer(bf, look) {
    this.registration = undefined;
    this.#size = 0;
    const requests = this.manifest || this.src.trim().split(/\s+/);
    if (requests.length) this.#size = await bf.size(requests).catch(() => 0);
    if (look !== this.#look) return;
    this.#become("idle");
    if (this.auto) await this.download();
  }

  /** @param {Registration | undefined} registration */
  #follow(registration) {
    this.registration?.removeEventListener("progress", this.#onProgress);
    this.registration = registration;
    registration?.addEventListener("progress", this.#onProgress);
  }

  /** @param {Registration} registration */
  #take(registration) {
    this.#follow(registration);
    this.#quarter = -1;
    this.#onProgress();
  }

  #onProgress = () => {
    const registration = this.registration;
    if (!registration) return;
    this.#size = registration.downloadTotal || this.#size;
    if (registration.result === "success") return this.#succeed(registration);
    if (registration.result === "failure") return this.#fail(registration.failureReason, registration.failureDetail);
    this.#become(STATES[registration.state] ?? "downloading", registration);
    this.#emit("progress", registration);
  };

  /** @param {Registration} registration */
  #succeed(registration) {
    const news = this.state !== "ready";
    this.#become("ready", registration);
    if (!news) return;
    for (const resolve of this.#waiting.splice(0)) resolve(registration);
    this.#emit("success", registration);
    void this.#lookForNewer(registration);
  }

  /** @param {string} reason @param {string} detail */
  #fail(reason, detail) {
    this.#failure = { reason, detail: detail ?? "" };
    this.#become("failed");
    if (reason === "quota-exceeded") this.#emit("quota", this.registration);
    this.#emit(reason === "aborted" ? "abort" : "fail", this.registration);
  }

  /** A manifest that names other versions than those stored is news, not a reason to throw away what works. @param {Registration} registration */
  async #lookForNewer(registration) {
    if (!this.manifest) return;
    try {
      const { files } = await (await fetch(this.manifest, { cache: "no-cache" })).json();
      const here = new Set(registration.files.map(({ url }) => new URL(url, location.href).href));
      const base = new URL(this.manifest, location.href);
      this.#newer = files.some((/** @type {{url: string}} */ { url }) => !here.has(new URL(url, base).href));
    } catch {
      return; // Offline, or no manifest any more: what is here stays what it was.
    }
    if (!this.#newer) return;
    this.#render();
    this.#emit("update", registration);
  }

  /** @param {State} state @param {Registration} [registration] */
  #become(state, registration) {
    if (registration) this.registration = registration;
    const before = this.getAttribute("state");
    if (before !== state) {
      this.setAttribute("state", state);
      try {
        if (before) this.#internals?.states?.delete(before);
        this.#internals?.states?.add(state);
      } catch { /* older engines take dashed names only; the attribute says the same */ }
      if (state === "paused") this.#emit("pause", this.registration);
    }
    this.#render();
  }

  /** @param {string} kind @param {Registration | undefined} registration */
  #emit(kind, registration) {
    const { downloaded = 0, rate = 0, eta = 0 } = registration ?? {};
    const detail = { registration, downloaded, downloadTotal: this.#size, rate, eta, state: this.state,
      failureReason: this.#failure.reason, failureDetail: this.#failure.detail };
    this.dispatchEvent(new CustomEvent(`bgfetch-${kind}`, { bubbles: true, composed: true, detail }));
  }

  // ---- What is seen and heard ----

  #build() {
    const parts = this.#parts;
    const part = (/** @type {string} */ name, tag = "div", attributes = {}) =>
      (parts[name] = make(tag, { part: name, ...attributes }));
    const slot = (/** @type {string} */ name) => (parts[`slot-${name}`] = make("slot", name ? { name } : {}));
    part("words").append(part("label", "div", { id: "label" }), part("status", "div", { tabindex: "-1" }), part("facts"));
    part("head").append(slot("icon"), parts.words);
    part("actions").append(part("button", "button", { type: "button", class: "main" }), part("other", "button", { type: "button" }));
    parts.facts.append(part("size", "span"), part("rate", "span"), part("eta", "span"), part("note", "span"));
    part("base", "div", { role: "group", "aria-labelledby": "label" }).append(
      parts.head, parts.actions, part("bar", "progress", { max: "1" }),
      part("error"), slot("idle"), slot("ready"), slot("error"), slot(""));
    parts.button.addEventListener("click", this.#onClick);
    parts.other.addEventListener("click", this.#onClick);
    // A log is polite, and a reader says what is added to it even when the same words come twice.
    part("live", "div", { role: "log", "aria-live": "polite" });
    return [parts.base, parts.live];
  }

  /** @param {Event} event */
  #onClick = (event) => {
    const action = /** @type {HTMLElement} */ (event.currentTarget).dataset.action;
    if (action === "pause") void this.pause();
    else if (action === "resume") void this.resume();
    else if (action === "abort") void this.abort();
    else if (action === "delete") void this.delete();
    else if (action) void this.download();
  };

  #render() {
    const { state, registration } = this;
    const parts = this.#parts;
    const texts = this.texts;
    const active = STATES[registration?.state ?? ""] === state;
    const facts = this.#facts();
    const say = (/** @type {string} */ key) => (texts[key] ?? "").replace(/\{(\w+)\}/g, (_, name) => facts[name] ?? "");
    const show = (/** @type {string} */ name, text = "") => {
      parts[name].hidden = !text;
      if (parts[name].textContent !== text) parts[name].textContent = text;
    };
    show("label", this.label);
    show("status", say(this.#sentence()));
    show("size", active || state === "paused" ? say(this.#size ? "progress" : "unsized") : this.#size ? facts.size : "");
    show("rate", state === "downloading" && facts.rate ? say("rate") : "");
    show("eta", state === "downloading" && facts.left ? say("left") : "");
    const { saveData } = /** @type {{connection?: {saveData?: boolean}}} */ (navigator).connection ?? {};
    show("note", saveData && state === "idle" ? say("saver") : "");
    show("error", state === "failed" && this.#failure.reason !== "aborted" ? this.#failure.detail : "");
    for (const name of ["idle", "ready", "error"]) parts[`slot-${name}`].hidden = state !== (name === "error" ? "failed" : name);
    parts["slot-"].hidden = state !== "unsupported";
    this.#drawBar(active, say);
    this.#drawButtons(say);
    this.#speak(say);
  }

  /** The key of the words for the state: what is awaited, or what went wrong. */
  #sentence() {
    const { reason } = this.#failure;
    if (this.state === "failed") return reason && reason in this.texts ? reason : "failed";
    if (this.state === "queued") return this.registration?.state || "queued";
    return this.state === "ready" && this.#newer ? "newer" : this.state;
  }

  /** The numbers, in the words of the reader's language. @returns {Record<string, string>} */
  #facts() {
    const { downloaded = 0, rate = 0, eta = 0, until = 0 } = this.registration ?? {};
    const language = this.closest("[lang]")?.getAttribute("lang") || document.documentElement.lang || undefined;
    return {
      label: this.label,
      size: bytes(this.#size, language),
      done: bytes(downloaded, language),
      percent: new Intl.NumberFormat(language, { style: "percent" }).format(this.#size ? downloaded / this.#size : 0),
      rate: rate ? bytes(rate, language) : "",
      left: eta && Number.isFinite(eta) ? duration(eta, language) : "",
      until: until ? new Intl.DateTimeFormat(language, { timeStyle: "medium" }).format(until) : "",
    };
  }

  /** @param {boolean} active @param {(key: string) => string} say */
  #drawBar(active, say) {
    const bar = /** @type {HTMLProgressElement} */ (this.#parts.bar);
    bar.hidden = !active;
    // Numbers that change stand below the bar with room of their own; a size that does not, with the words.
    if (active) bar.after(this.#parts.facts);
    else this.#parts.words.append(this.#parts.facts);
    bar.setAttribute("aria-label", say("bar"));
    bar.setAttribute("aria-valuetext", say(this.#size ? "spoken" : "unsized"));
    if (this.#size && this.state !== "verifying") bar.value = Math.min(1, (this.registration?.downloaded ?? 0) / this.#size);
    else bar.removeAttribute("value");
  }

  /** @param {(key: string) => string} say */
  #drawButtons(say) {
    const { button, other, status } = this.#parts;
    const focused = this.shadowRoot?.activeElement;
    const actions = [...BUTTONS[this.state]];
    if (this.state === "ready" && this.#newer) actions[0] = "update";
    for (const [index, node] of [button, other].entries()) {
      const action = actions[index] ?? "";
      node.hidden = !action;
      node.dataset.action = action;
      /** @type {HTMLButtonElement} */ (node).disabled = this.disabled;
      if (node.textContent !== say(action)) node.textContent = say(action);
    }
    // A focused button that goes leaves its focus to the words, never to a button that would undo the work.
    if ([button, other].some((node) => node === focused && node.hidden)) status.focus();
  }

  /** Each state and each quarter once: a reader that hears every percent hears nothing else. @param {(key: string) => string} say */
  #speak(say) {
    if (this.state === "checking" || this.state === "idle") return;
    const share = this.#size ? (this.registration?.downloaded ?? 0) / this.#size : 0;
    const quarter = this.state === "downloading" ? Math.floor(share * 4) : -1;
    const news = this.#sentence() + (quarter > 0 ? quarter : "");
    if (news === this.#spoken || (quarter > 0 && quarter < this.#quarter)) return;
    this.#spoken = news;
    this.#quarter = quarter;
    const words = make("p");
    words.textContent = `${this.label}: ${say(this.#sentence())}${quarter > 0 ? `, ${say("spoken")}` : ""}`;
    this.#parts.live.replaceChildren(words);
  }
}

/** @param {number} count bytes @param {string} [language] */
function bytes(count, language) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const power = Math.min(3, Math.floor(Math.log10(Math.max(count, 1)) / 3));
  const value = count / 1000 ** power;
  return new Intl.NumberFormat(language, { style: "unit", unit: units[power], unitDisplay: power ? "short" : "long",
    maximumFractionDigits: power > 1 && value < 100 ? 1 : 0 }).format(value);
}

/** @param {number} seconds @param {string} [language] */
function duration(seconds, language) {
  const [value, unit] = seconds < 90 ? [seconds, "second"] : seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  return new Intl.NumberFormat(language, { style: "unit", unit: String(unit), unitDisplay: "long", maximumFractionDigits: 0 })
    .format(Math.ceil(Number(value)));
}

/** @param {string} hex */
function base64(hex) {
  return btoa(String.fromCharCode(...(hex.match(/../g) ?? []).map((pair) => parseInt(pair, 16))));
}

globalThis.customElements?.get("model-download") ?? globalThis.customElements?.define("model-download", ModelDownload);
