/** all-MiniLM-L6-v2 (int8) with transformers.js: how alike are two sentences? */

import { env, pipeline } from "/npm/@huggingface/transformers/dist/transformers.min.js";

/**
 * @param {{match(key: string): Promise<Response | undefined>, put(): Promise<void>}} cache what `bf.asCache(id)` gives
 */
export async function open(cache) {
  env.customCache = cache; // every file of the model comes out of what was downloaded and verified
  env.useCustomCache = true;
  env.useBrowserCache = false;
  env.allowLocalModels = true;
  env.allowRemoteModels = false; // a file that is missing is an error, not a request to a hub
  env.localModelPath = "/models/";
  env.useWasmCache = false;
  env.backends.onnx.wasm.wasmPaths = WASM;
  env.backends.onnx.wasm.numThreads = 1;
  const extract = await pipeline("feature-extraction", "minilm", { dtype: "q8", device: "wasm" });
  return {
    /** @param {string[]} sentences @returns {Promise<number[][]>} the cosine of each with each, -1 to 1 */
    async similarities(sentences) {
      const vectors = (await extract(sentences, { pooling: "mean", normalize: true })).tolist();
      return vectors.map((one) => vectors.map((other) => one.reduce((sum, value, at) => sum + value * other[at], 0)));
    },
  };
}

// The copy of onnxruntime-web that this version of transformers.js was built with.
const WASM = "/npm/@huggingface/transformers/node_modules/onnxruntime-web/dist/";
