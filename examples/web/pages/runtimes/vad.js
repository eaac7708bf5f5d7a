/**
 * Silero VAD v5 with onnxruntime-web: is somebody speaking?
 * One WebAssembly thread: a frame takes less than a millisecond, so threads would only wait for each other.
 */

import * as ort from "/npm/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
ort.env.wasm.numThreads = 1;

/** Samples in a frame at 16 kHz: 32 ms. */
export const FRAME = 512;

/**
 * The model, ready to hear one stream after another.
 * @param {Uint8Array} bytes the ONNX file
 */
export async function open(bytes) {
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const rate = new ort.Tensor("int64", [16_000n], []);
  /** @returns {(frame: Float32Array) => Promise<number>} hears frames of one stream in order, and says how likely each is speech, 0 to 1 */
  function listener() {
    let state = new ort.Tensor("float32", new Float32Array(2 * 128), [2, 1, 128]);
    return async (frame) => {
      const answer = await session.run({ input: new ort.Tensor("float32", frame, [1, FRAME]), state, sr: rate });
      state = answer.stateN;
      return answer.output.data[0];
    };
  }
  /** @param {Float32Array} samples 16 kHz, -1 to 1 @returns {Promise<number[]>} a probability for each whole frame */
  async function probabilities(samples) {
    const hear = listener();
    const found = [];
    for (let at = 0; at + FRAME <= samples.length; at += FRAME) found.push(await hear(samples.slice(at, at + FRAME)));
    return found;
  }
  return { listener, probabilities };
}
