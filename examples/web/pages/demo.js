/** The demo: three models, one element each, and what they can do once they are here. */

import { ready } from "/bgfetch/bgfetch.js";
import "/bgfetch/element.js";
import { EventLog } from "/log.js";
import { FRAME, listen } from "/sound.js";

const RUNTIMES = { vad: "onnxruntime-web", minilm: "@huggingface/transformers", gemma: "@wllama/wllama" };
const $ = (selector, from = document) => from.querySelector(selector);
const log = new EventLog($("table"));
const size = (bytes) => {
  const [value, unit] = bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${value.toLocaleString(undefined, { maximumFractionDigits: 1 })} ${unit}`;
};

const have = await (await fetch("/have.json")).json();
const bf = await ready();
$("#engine").textContent = bf.engine === "native" ? "Background Fetch of this browser"
  : "BackgroundFetchManager" in self ? "Worker of this page" : "Worker of this page (no Background Fetch here)";
$("#clear").addEventListener("click", () => log.clear());
for (const card of document.querySelectorAll("[data-model]")) begin(card, card.dataset.model);
void room();

/** One card: its element is watched, and what runs the model appears when it is ready. */
function begin(card, model) {
  const download = $("model-download", card);
  if (!have.models.includes(model)) {
    download.hidden = true;
    return would(card, model === "gemma" ? "" : "The package that has this model is not installed on the server, so there is nothing to download.");
  }
  card.hidden = false;
  for (const kind of ["progress", "success", "fail", "abort", "pause", "quota", "update"])
    download.addEventListener(`bgfetch-${kind}`, ({ detail }) => heard(card, model, kind, detail));
  // The element was upgraded before this module ran; what it has found by then is told here.
  if (download.registration) heard(card, model, "progress", { registration: download.registration, state: download.state });
  new MutationObserver(() => settle(card, model, download)).observe(download, { attributeFilter: ["state"] });
  settle(card, model, download);
}

function heard(card, model, kind, detail) {
  if (detail.registration) log.observe(detail.registration);
  if (kind === "quota") log.add("Quota exceeded", `${model}: ${detail.failureDetail}`, "bad");
  if (kind === "update") log.add("A newer version is out", model);
}

/** What the state of the download means for the rest of its card. */
function settle(card, model, download) {
  const here = download.state === "ready";
  const runs = have.runtimes.includes(RUNTIMES[model]);
  $(".run", card).hidden = !here || !runs;
  $(".would", card).hidden = !here || runs;
  if (here && !runs) would(card, `The model is here and verified. It would now run with ${RUNTIMES[model]}, which is not installed on the server (npm could not be reached).`);
  $(".integrity", card).hidden = !here;
  if (here) checked(card, download.registration);
  if (here && runs) prepare[model](card, download.registration);
  void room();
}

function would(card, words) {
  $(".would", card).hidden = !words;
  $(".would", card).textContent = words;
}

/** What was checked of each file, and against what. */
function checked(card, registration) {
  const words = { digest: "SHA-256 of every segment, as the manifest says", validators: "length and validators", length: "length" };
  $(".integrity ul", card).replaceChildren(...(registration.files ?? []).map((file) => {
    const item = document.createElement("li");
    const code = document.createElement("code");
    code.textContent = new URL(file.url, location.href).searchParams.get("sha256") ?? "no digest known";
    item.append(`${file.path}: ${size(file.size)}, ${words[file.verified] ?? file.verified ?? "length"}`, code);
    return item;
  }));
}

async function room() {
  const stored = (await bf.list()).reduce((sum, one) => sum + (one.downloaded ?? 0), 0);
  $("#stored").textContent = size(stored);
  const { quota = 0, usage = 0 } = (await bf.estimate()) ?? {};
  $("#room").textContent = quota ? `at least ${size(Math.max(0, quota - usage))}` : "this browser does not say";
}

// ---- What runs: each model is opened once, when it is first asked for ----

const opened = new Map();
const once = (model, open) => opened.get(model) ?? opened.set(model, open()).get(model);

const prepare = {
  vad(card, registration) {
    const model = () => once("vad", async () => (await import("/runtimes/vad.js")).open(await registration.bytes("silero_vad_v5.onnx")));
    for (const button of card.querySelectorAll("[data-hear]"))
      button.onclick = () => busy(card, () => hear(card, model, button.dataset.hear));
  },
  minilm(card) {
    $("[data-run]", card).onclick = () => busy(card, async (result) => {
      const model = await once("minilm", async () => (await import("/runtimes/minilm.js")).open(bf.asCache("minilm")));
      const [[, alike]] = await model.similarities([$("[name=one]", card).value, $("[name=two]", card).value]);
      say(result, alike.toFixed(2), alike > 0.6 ? " They mean much the same." : alike > 0.3 ? " They have something in common." : " They are about different things.");
    });
  },
  gemma(card) {
    const frame = $("iframe", card);
    if (frame.dataset.src) frame.src = frame.dataset.src;
    delete frame.dataset.src;
  },
};

async function hear(card, model, what) {
  const result = $(".result", card);
  const vad = await model();
  const found = [];
  const listener = vad.listener();
  const most = await listen(what, FRAME, async (frame) => {
    found.push(await listener(frame));
    draw($(".chart", card), found);
    return found.length;
  });
  const highest = Math.max(...found);
  const share = found.filter((value) => value > 0.5).length / most;
  say(result, highest.toFixed(2), ` at most; ${share > 0.3 ? "somebody speaks." : highest > 0.5 ? "perhaps a word." : "nobody speaks."} The first frame: ${found[0].toFixed(4)}.`);
  $(".chart", card).setAttribute("aria-label", `Probability of speech over time: at most ${highest.toFixed(2)}, above one half for ${Math.round(share * 100)} %`);
}

/** @param {SVGElement} chart @param {number[]} found 0 to 1 each */
function draw(chart, found) {
  const last = found.slice(-120);
  $("g", chart).replaceChildren(...last.map((value, at) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const height = Math.max(2, 116 * value);
    for (const [name, number] of Object.entries({ x: at * 5, y: 120 - height, width: 4, height })) bar.setAttribute(name, number);
    bar.classList.toggle("speech", value > 0.5);
    return bar;
  }));
}

/** Run one thing at a time on a card, and say what went wrong where its result would be. */
async function busy(card, work) {
  const result = $(".result", card);
  const buttons = [...card.querySelectorAll(".run button")];
  const pressed = document.activeElement;
  for (const button of buttons) button.disabled = true;
  result.textContent = "Running…";
  try {
    await work(result);
  } catch (error) {
    result.textContent = `It could not be run: ${error.message}`;
  } finally {
    for (const button of buttons) button.disabled = false;
    pressed?.focus();
  }
}

function say(result, number, words) {
  const strong = document.createElement("strong");
  strong.textContent = number;
  result.replaceChildren(strong, words);
}
