// An occlusion map (Zeiler & Fergus 2014, section 4.2): a square of what the model sees is hidden by the mean colour, and
// the probabilities of the top classes fall, or not; one square after the other. For networks without a class map.
const CELLS = 8; // of the map, along each side; a square hides two by two, so neighbours overlap by half
const SQUARES = (CELLS - 1) ** 2;

// For each class of `answer`, by how much its probability falls, at least 0: the mean of the squares that hide a cell.
// `{ data, dims }` as the output `maps`. `tell(squares)` is called before each, and may return true to stop: then null.
async function occlusion(answer, tell) {
  const size = answer.seen.dims[1], edges = Array.from({ length: CELLS + 1 }, (_, i) => Math.round((i * size) / CELLS));
  const classes = [...answer.top_indices.data].map(Number), before = answer.top_probabilities.data;
  const falls = new Float32Array(classes.length * CELLS * CELLS), covered = new Uint8Array(CELLS * CELLS);
  for (let square = 0; square < SQUARES; square++) {
    const row = Math.floor(square / (CELLS - 1)), column = square % (CELLS - 1);
    const box = [column, row, column + 2, row + 2].map((i) => edges[i]);
    if (await tell(square, box.map((edge) => edge / size))) return null;
    const { probabilities } = await answersTo(hidden(answer.seen.data, size, box));
    for (const cell of [0, 1, CELLS, CELLS + 1].map((i) => row * CELLS + column + i)) {
      covered[cell]++;
      classes.forEach((index, k) => { falls[k * CELLS * CELLS + cell] += before[k] - probabilities.data[index]; });
    }
  }
  return { data: falls.map((sum, i) => Math.max(sum / covered[i % (CELLS * CELLS)], 0)), dims: [1, classes.length, CELLS, CELLS] };
}

// A picture of which the model sees these pixels but for a box: it has the size to which the model resizes, so nothing
// is resized again, and around what the model sees, and in the box, the mean colour.
function hidden(seen, size, [left, top, right, bottom]) {
  const { stored, offset, mean } = told, pixels = new Uint8Array(3 * stored * stored);
  for (let i = 0; i < pixels.length; i++) pixels[i] = mean[i % 3];
  for (let y = 0; y < size; y++) {
    const cuts = y >= top && y < bottom ? [[0, left], [right, size]] : [[0, size]];
    for (const [start, end] of cuts) {
      pixels.set(seen.subarray(3 * (y * size + start), 3 * (y * size + end)), 3 * ((y + offset) * stored + offset + start));
    }
  }
  return { pixels, width: stored, height: stored };
}
