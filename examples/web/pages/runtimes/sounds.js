/**
 * Sounds made on the spot, so that the demo needs no recording and no microphone: 16 kHz, mono, -1 to 1.
 * The "voice" is a formant synthesiser after Klatt (1980), small: a buzz with the pitch of a person, and three resonances that
 * move from vowel to vowel as a mouth would.
 */

export const RATE = 16_000;

/** Resonances of vowels, Hz: the first three formants (Peterson and Barney, 1952, men). */
const VOWELS = { a: [730, 1090, 2440], i: [270, 2290, 3010], u: [300, 870, 2240], e: [530, 1840, 2480], o: [570, 840, 2410] };

/** @param {number} seconds */
export function silence(seconds) {
  return new Float32Array(seconds * RATE);
}

/** Wind, a fan, a road: loud, and not a voice. @param {number} seconds */
export function noise(seconds) {
  let low = 0;
  return silence(seconds).map(() => (low += 0.1 * ((Math.random() * 2 - 1) * 0.5 - low)));
}

/** A melody-less tone. @param {number} seconds */
export function tone(seconds) {
  return silence(seconds).map((_, n) => 0.3 * Math.sin((2 * Math.PI * 440 * n) / RATE));
}

/** Syllables. @param {number} seconds @param {string} [syllables] vowels, in order, over and over */
export function voice(seconds, syllables = "aieou") {
  const samples = silence(seconds);
  const memory = [[0, 0], [0, 0], [0, 0]];
  const now = [...VOWELS.a];
  let phase = 0;
  for (let n = 0; n < samples.length; n++) {
    const time = n / RATE;
    const beat = time * 4.2; // syllables a second, as people speak
    const target = VOWELS[syllables[Math.floor(beat) % syllables.length]];
    const loud = Math.sin(Math.PI * (beat % 1)) ** 0.6;
    const pitch = 118 + 14 * Math.sin(2 * Math.PI * 0.9 * time) + 6 * Math.sin(2 * Math.PI * 5.3 * time);
    phase += pitch / RATE;
    const open = phase % 1; // a Rosenberg pulse: the glottis opens slowly and closes fast
    let sound = open < 0.4 ? 3 * (open / 0.4) ** 2 - 2 * (open / 0.4) ** 3 : open < 0.56 ? 1 - ((open - 0.4) / 0.16) ** 2 : 0;
    sound = sound - 0.35 + 0.03 * (Math.random() * 2 - 1);
    for (const [index, formant] of target.entries()) {
      now[index] += (formant - now[index]) * 0.0012;
      const radius = Math.exp((-Math.PI * (60 + 40 * index)) / RATE);
      const [first, second] = memory[index];
      const turn = 2 * radius * Math.cos((2 * Math.PI * now[index]) / RATE);
      const out = (1 - turn + radius * radius) * sound + turn * first - radius * radius * second;
      memory[index] = [out, first];
      sound = out;
    }
    samples[n] = sound * loud;
  }
  const loudest = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
  return samples.map((value) => (0.5 * value) / loudest);
}
