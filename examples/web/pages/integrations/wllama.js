/** wllama takes blobs; four parts of a file joined are one blob, and nothing is copied for it. */

import "/bgfetch/element.js";
import { open } from "/runtimes/gemma.js";

const result = document.querySelector(".result");
const form = document.querySelector("form");
const download = document.querySelector("model-download");
if (self !== top) document.documentElement.classList.add("framed"); // in the demo the page around has said all this
download.hidden = self !== top;

const registration = await download.whenReady();
form.hidden = false;
let model;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  result.textContent = "Starting the model…";
  try {
    model ??= await open(await Promise.all(registration.files.map(({ path }) => registration.blob(path))));
    const { value } = form.elements.beginning;
    await model.write(value, (text) => (result.textContent = value + text));
  } catch (error) {
    result.textContent = `It could not be run: ${error.message}`;
  } finally {
    button.disabled = false;
  }
});
