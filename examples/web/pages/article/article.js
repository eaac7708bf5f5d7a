/** Download a model with Background Fetch and run it: the whole flow in the standard's own words. */

const MODEL_URL = "/models/vad/silero_vad_v5.onnx";
const ID = "silero-vad";

const status = document.querySelector("#status");
const bar = document.querySelector("#bar");
const start = document.querySelector("#start");
const abort = document.querySelector("#abort");
const remove = document.querySelector("#delete");
const result = document.querySelector("#result");

/** Kept here, since a browser may collect a registration that nobody refers to, and its events with it. */
let download;

await navigator.serviceWorker.register("/article/worker.js", { scope: "/article/" });
const worker = await navigator.serviceWorker.ready;

navigator.serviceWorker.addEventListener("message", ({ data }) => {
  if (data?.id !== ID) return;
  if (data.message === "download-complete") void useModel();
  if (data.message === "download-failed") show(`The download failed: ${data.reason}.`);
  if (data.message === "download-aborted") show("Aborted.");
});
start.addEventListener("click", () => obtain().catch((error) => show(`It could not be started: ${error.message}`)));
abort.addEventListener("click", () => download?.abort());
remove.addEventListener("click", async () => {
  await (await caches.open("downloads")).delete(MODEL_URL);
  result.textContent = "";
  show("Deleted.");
});

// A page that comes back finds what it left: the model, a download that goes on, or nothing.
if (await caches.match(MODEL_URL)) show("The model is on this device.", { remove: true });
else if ("backgroundFetch" in worker && (download = await worker.backgroundFetch.get(ID))) follow(download);
else show("Not downloaded yet.");

async function obtain() {
  if (await caches.match(MODEL_URL)) return useModel();
  if (!("backgroundFetch" in worker)) return obtainClassically();
  download = await worker.backgroundFetch.get(ID);
  download ??= await worker.backgroundFetch.fetch(ID, MODEL_URL, {
    title: "Silero VAD",
    icons: [{ src: "/icon.svg", sizes: "64x64", type: "image/svg+xml" }],
    downloadTotal: await sizeOf(MODEL_URL),
  });
  follow(download);
}

/** What a browser without Background Fetch is left with: whoever closes the page begins again. */
async function obtainClassically() {
  show("Downloading; keep this page open.", { busy: true });
  const response = await fetch(MODEL_URL);
  if (!response.ok) return show(`The server answered ${response.status}.`);
  await (await caches.open("downloads")).put(MODEL_URL, response);
  await useModel();
}

async function sizeOf(url) {
  const head = await fetch(url, { method: "HEAD" });
  return head.ok ? Number(head.headers.get("Content-Length") ?? 0) : 0;
}

function follow(registration) {
  registration.addEventListener("progress", () => progress(registration));
  progress(registration);
}

function progress({ downloaded, downloadTotal, result: outcome, failureReason }) {
  if (outcome === "failure") return show(failureReason === "aborted" ? "Aborted." : `The download failed: ${failureReason}.`);
  if (outcome === "success") return show("Downloaded; the worker is putting it away…", { busy: true });
  show(downloadTotal ? `Downloading: ${Math.round((100 * downloaded) / downloadTotal)} %` : "Downloading…", { busy: true, abort: true });
  if (downloadTotal) bar.value = downloaded / downloadTotal;
  else bar.removeAttribute("value");
}

async function useModel() {
  show("Starting the model…", { busy: true });
  const response = await caches.match(MODEL_URL);
  const bytes = new Uint8Array(await response.arrayBuffer());
  show("The model is on this device.", { remove: true });
  try {
    const [{ open }, { silence, voice }] = await Promise.all([import("/runtimes/vad.js"), import("/runtimes/sounds.js")]);
    const vad = await open(bytes);
    const [quiet] = await vad.probabilities(silence(0.1));
    const spoken = Math.max(...(await vad.probabilities(voice(2))));
    result.textContent = `Probability of speech: ${quiet.toFixed(4)} in silence, ${spoken.toFixed(2)} in a voice.`;
  } catch (error) {
    result.textContent = `The model is here, ${bytes.length.toLocaleString()} bytes, but could not be run: ${error.message}`;
  }
}

function show(words, { busy = false, abort: abortable = false, remove: removable = false } = {}) {
  status.textContent = words;
  start.disabled = busy;
  start.textContent = removable ? "Run" : "Download and run";
  abort.hidden = !abortable;
  remove.hidden = !removable;
  bar.hidden = !busy;
}
