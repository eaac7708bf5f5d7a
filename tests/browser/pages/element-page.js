/** Makes elements in each state for test_element.py, and collects what the policy of the page forbids. */
import { ModelDownload } from "/bgfetch/element.js";
import { FakeManager } from "/fake.js";

const gone = new DOMException("12 GB are needed, 3 GB are free", "QuotaExceededError");
const running = { state: "running", downloaded: 9_800_000, rate: 2_100_000, eta: 6.2 };
const settled = { state: "settled", downloaded: 22_928_619 };

/** For each state, the manager that shows it. */
const STATES = {
  idle: () => new FakeManager(),
  checking: () => Object.assign(new FakeManager(), { availability: () => new Promise(() => {}) }),
  queued: () => new FakeManager({ availability: "downloading", registration: FakeManager.registration({ state: "queued" }) }),
  offline: () => new FakeManager({ availability: "downloading", registration: FakeManager.registration({ ...running, state: "waiting-network" }) }),
  retrying: () => new FakeManager({ availability: "downloading", registration: FakeManager.registration({ ...running, state: "waiting-retry", until: 1_800_000_000_000 }) }),
  downloading: () => new FakeManager({ availability: "downloading", registration: FakeManager.registration(running) }),
  unsized: () => new FakeManager({ total: 0, availability: "downloading", registration: FakeManager.registration(running, 0) }),
  paused: () => new FakeManager({ availability: "downloading", registration: FakeManager.registration({ ...running, state: "paused" }) }),
  verifying: () => new FakeManager({ availability: "downloading", registration: FakeManager.registration({ ...running, state: "verifying" }) }),
  ready: () => new FakeManager({ availability: "available", registration: FakeManager.registration({ ...settled, result: "success" }) }),
  failed: () => new FakeManager({ availability: "downloading", registration: FakeManager.registration({ ...running, state: "running" }) }),
  evicted: () => new FakeManager({ registration: FakeManager.registration({ ...settled, result: "success" }) }),
  unsupported: () => new FakeManager({ availability: "unavailable" }),
};

const events = [];
for (const kind of ["progress", "success", "fail", "abort", "pause", "quota", "update"])
  document.addEventListener(`bgfetch-${kind}`, ({ type, detail }) => events.push([type.slice(8), detail]));

const violations = [];
document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => violations.push(`${violatedDirective} ${blockedURI}`));

const nextState = (element, wanted) => new Promise((resolve) => {
  const look = () => element.state === wanted && (watcher.disconnect(), resolve());
  const watcher = new MutationObserver(look);
  watcher.observe(element, { attributeFilter: ["state"] });
  look();
});

/** An element in a state, in the page. */
async function show(state, attributes = {}, manager = STATES[state]()) {
  const element = document.createElement("model-download");
  element.backgroundFetch = manager;
  for (const [name, value] of Object.entries({ name: "fake", label: "MiniLM", src: "/model.bin", ...attributes })) element.setAttribute(name, value);
  document.querySelector("#place").append(element);
  if (!(state in STATES)) return element;
  await nextState(element, state === "failed" || state === "unsized" ? "downloading" : { offline: "queued", retrying: "queued" }[state] ?? state);
  if (state === "failed") element.registration.set({ state: "settled", result: "failure", failureReason: "fetch-error", failureDetail: "segment 3 has another sha256 <b>than said</b>" });
  return element;
}

const part = (element, name) => element.shadowRoot.querySelector(`[part~=${name}]`);
const texts = (element) => Object.fromEntries([...element.shadowRoot.querySelectorAll("[part]")]
  .filter((node) => !node.closest("[hidden]") && !node.children.length && node.textContent)
  .map((node) => [node.getAttribute("part"), node.textContent]));

Object.assign(window, { ModelDownload, FakeManager, STATES, events, violations, nextState, show, part, texts, gone });
