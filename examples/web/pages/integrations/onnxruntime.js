/** onnxruntime-web takes the model's bytes. */

import "/bgfetch/element.js";
import { open } from "/runtimes/vad.js";
import { silence, voice } from "/runtimes/sounds.js";

const result = document.querySelector(".result");
const registration = await document.querySelector("model-download").whenReady();

const vad = await open(await registration.bytes("silero_vad_v5.onnx"));
const [quiet] = await vad.probabilities(silence(0.1));
const spoken = Math.max(...(await vad.probabilities(voice(2))));
result.textContent = `Probability of speech: ${quiet.toFixed(4)} in silence, ${spoken.toFixed(2)} in a voice.`;
