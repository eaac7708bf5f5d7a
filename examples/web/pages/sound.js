/** What the voice detector hears: sounds made on the spot, or the microphone, cut into frames at 16 kHz. */

import { noise, RATE, silence, tone, voice } from "/runtimes/sounds.js";

export const FRAME = 512;
const SECONDS = 3;
const SOUNDS = { noise, silence, tone, voice };

/**
 * Give `SECONDS` of a sound to `hear`, frame by frame.
 * @param {string} what "voice", "noise", "silence", "tone", or "microphone"
 * @param {number} frame samples a frame
 * @param {(frame: Float32Array) => Promise<unknown>} hear
 * @returns {Promise<number>} frames heard
 */
export async function listen(what, frame, hear) {
  const samples = what === "microphone" ? await record(SECONDS) : SOUNDS[what](SECONDS);
  let heard = 0;
  for (let at = 0; at + frame <= samples.length; at += frame) {
    await hear(samples.slice(at, at + frame));
    if (++heard % 4 === 0) await new Promise(requestAnimationFrame); // so that the curve is seen to grow
  }
  return heard;
}

/** @param {number} seconds @returns {Promise<Float32Array>} what the microphone hears; nothing leaves the page */
async function record(seconds) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext({ sampleRate: RATE });
  try {
    await context.audioWorklet.addModule("/recorder.js");
    const recorder = new AudioWorkletNode(context, "recorder", { processorOptions: { samples: seconds * RATE } });
    context.createMediaStreamSource(stream).connect(recorder);
    return await new Promise((resolve) => (recorder.port.onmessage = ({ data }) => resolve(data)));
  } finally {
    for (const track of stream.getTracks()) track.stop();
    await context.close();
  }
}
