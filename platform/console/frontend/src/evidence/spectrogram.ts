// A spectrogram on a canvas: 16 kHz, windows of 64 ms, 80 dB from black to white.
const RATE = 16_000;
const SIZE = 1024;
const FLOOR_DB = -80;
// A slice of columns is painted at a time, so that the page stays responsive.
const AT_ONCE = 40;

export async function paintSpectrogram(file: ArrayBuffer, canvas: HTMLCanvasElement): Promise<void> {
  const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(file);
  const samples = mixed(sound);
  const context = canvas.getContext("2d");
  if (!context) return;
  const { width, height } = canvas;
  const column = context.createImageData(1, height);
  for (let x = 0; x < width; x += 1) {
    const middle = Math.floor(((x + 0.5) * samples.length) / width);
    paint(column, levels(samples, middle - SIZE / 2), height);
    context.putImageData(column, x, 0);
    if (x % AT_ONCE === 0) await new Promise((go) => setTimeout(go));
  }
  canvas.dataset.painted = "";
}

function mixed(sound: AudioBuffer): Float32Array {
  const sum = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel += 1) {
    const one = sound.getChannelData(channel);
    for (let at = 0; at < sum.length; at += 1) sum[at] = (sum[at] ?? 0) + (one[at] ?? 0) / sound.numberOfChannels;
  }
  return sum;
}

/** Decibels of each band, the lowest first, of the window that begins at `start`. */
function levels(samples: Float32Array, start: number): Float64Array {
  const real = new Float64Array(SIZE);
  const imaginary = new Float64Array(SIZE);
  for (let at = 0; at < SIZE; at += 1) {
    const hann = 0.5 - 0.5 * Math.cos((2 * Math.PI * at) / SIZE);
    real[at] = hann * (samples[start + at] ?? 0);
  }
  transform(real, imaginary);
  return Float64Array.from({ length: SIZE / 2 }, (_, band) => {
    const power = (real[band] ?? 0) ** 2 + (imaginary[band] ?? 0) ** 2;
    return 10 * Math.log10(power / (SIZE / 4) ** 2 + 1e-12);
  });
}

/** The fast Fourier transform of Cooley and Tukey, in place. */
function transform(real: Float64Array, imaginary: Float64Array): void {
  for (let at = 1, mirrored = 0; at < SIZE; at += 1) {
    let bit = SIZE >> 1;
    for (; mirrored & bit; bit >>= 1) mirrored ^= bit;
    mirrored ^= bit;
    if (at < mirrored) {
      [real[at], real[mirrored]] = [real[mirrored] ?? 0, real[at] ?? 0];
    }
  }
  for (let length = 2; length <= SIZE; length <<= 1) {
    for (let step = 0; step < length / 2; step += 1) {
      const angle = (-2 * Math.PI * step) / length;
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      for (let even = step; even < SIZE; even += length) butterfly(real, imaginary, even, even + length / 2, cos, sin);
    }
  }
}

function butterfly(re: Float64Array, im: Float64Array, even: number, odd: number, cos: number, sin: number): void {
  const turnedRe = (re[odd] ?? 0) * cos - (im[odd] ?? 0) * sin;
  const turnedIm = (re[odd] ?? 0) * sin + (im[odd] ?? 0) * cos;
  re[odd] = (re[even] ?? 0) - turnedRe;
  im[odd] = (im[even] ?? 0) - turnedIm;
  re[even] = (re[even] ?? 0) + turnedRe;
  im[even] = (im[even] ?? 0) + turnedIm;
}

function paint(column: ImageData, bands: Float64Array, height: number): void {
  for (let y = 0; y < height; y += 1) {
    const band = Math.floor(((height - 1 - y) * bands.length) / height);
    const share = Math.min(1, Math.max(0, 1 - (bands[band] ?? FLOOR_DB) / FLOOR_DB));
    // From black over violet and orange to pale yellow, each step brighter than the one before.
    column.data[4 * y] = 255 * Math.min(1, 1.6 * share);
    column.data[4 * y + 1] = 255 * share ** 2.2;
    column.data[4 * y + 2] = 255 * (share < 0.5 ? 0.9 * share : 0.45 + 0.4 * Math.max(0, 2 * share - 1.6));
    column.data[4 * y + 3] = 255;
  }
}
