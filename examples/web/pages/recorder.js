/** An AudioWorklet that hands over the first so many samples. */
registerProcessor("recorder", class extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.samples = new Float32Array(processorOptions.samples);
    this.filled = 0;
  }

  process([[channel]]) {
    if (!channel) return true;
    const room = this.samples.length - this.filled;
    this.samples.set(channel.subarray(0, room), this.filled);
    this.filled += Math.min(room, channel.length);
    if (this.filled < this.samples.length) return true;
    this.port.postMessage(this.samples, [this.samples.buffer]);
    return false;
  }
});
