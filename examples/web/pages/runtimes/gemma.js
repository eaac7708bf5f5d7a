/** Gemma 3 270M with wllama: write on. */

import { Wllama } from "/npm/@wllama/wllama/esm/index.min.js";

/** @param {Blob[]} parts of the GGUF file, in order; joining them copies nothing */
export async function open(parts) {
  // No cache of its own: bgfetch has the model, and where there is no OPFS (WebKitGTK) wllama would not start with one.
  const options = { suppressNativeLog: true, cacheManager: {} };
  const wllama = new Wllama({ default: "/npm/@wllama/wllama/esm/wasm/wllama.wasm" }, options);
  // Safari and WebKitGTK need another build, which wllama would fetch from a CDN.
  wllama.setCompat({ worker: "/npm/@wllama/wllama-compat/wasm/wllama.js", wasm: "/npm/@wllama/wllama-compat/wasm/wllama.wasm" });
  await wllama.loadModel([new Blob(parts)], { n_gpu_layers: 0, n_ctx: 512 });
  return {
    /** @param {string} beginning @param {(text: string) => void} [show] gets what is written so far @returns {Promise<string>} what follows */
    async write(beginning, show = () => {}) {
      const chunks = await wllama.createCompletion({
        prompt: beginning, max_tokens: 40, temperature: 0.6, stream: true, stop: ["\n\n", "<start_of_image>", "<end_of_turn>"],
      });
      let text = "";
      for await (const chunk of chunks) show((text += chunk.choices[0]?.text ?? ""));
      return text;
    },
  };
}
