/** transformers.js takes a cache, and asks it for each of the model's files. */

import { ready } from "/bgfetch/bgfetch.js";
import "/bgfetch/element.js";
import { open } from "/runtimes/minilm.js";

const result = document.querySelector(".result");
await document.querySelector("model-download").whenReady();

const model = await open((await ready()).asCache("minilm"));
const [[, near, far]] = await model.similarities(["A cat sleeps.", "A kitten is asleep.", "Shares fell on Monday."]);
result.textContent = `How alike: ${near.toFixed(3)} for the cat and the kitten, ${far.toFixed(3)} for the cat and the shares.`;
