// SentencePiece's text normalization: a table in the model (`precompiled_charsmap`) maps the longest known run of
// bytes to other bytes (NFKC and additions); then spaces are squeezed and written as U+2581.
//
// The table is a Darts-clone double array (a trie in 32-bit units) followed by the replacements, each ending in a zero
// byte. Source: sentencepiece, src/normalizer.cc; darts-clone, include/darts.h.

const SPACE = 0x20;
const SPACE_SYMBOL = [0xe2, 0x96, 0x81]; // U+2581 in UTF-8

export class Charsmap {
  /** @param {Uint8Array} blob `precompiled_charsmap` of a model: size of the trie in bytes, trie, replacements */
  constructor(blob) {
    if (blob.length === 0) {
      this.units = new Uint32Array(0);
      return;
    }
    const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
    const size = view.getUint32(0, true);
    this.units = Uint32Array.from({length: size / 4}, (_, i) => view.getUint32(4 + 4 * i, true));
    this.replacements = blob.subarray(4 + size);
  }

  /** Return the text as the model's pieces spell it: a leading U+2581, single ones between, none at the end. */
  normalize(text) {
    const bytes = new TextEncoder().encode(text); // a lone surrogate becomes U+FFFD
    const out = [...SPACE_SYMBOL];
    let afterSpace = true; // leading spaces go too
    for (let at = 0; at < bytes.length; ) {
      const [taken, length] = this.#longestMatch(bytes, at);
      at += length;
      let i = 0;
      while (afterSpace && taken[i] === SPACE) i++;
      if (i === taken.length) continue;
      for (; i < taken.length; i++) taken[i] === SPACE ? out.push(...SPACE_SYMBOL) : out.push(taken[i]);
      afterSpace = taken.at(-1) === SPACE;
    }
    return new TextDecoder().decode(Uint8Array.from(out)).replace(/\u2581+$/, "");
  }

  /** Return [replacement, length of what it replaces] at a position; one character as it is where nothing matches. */
  #longestMatch(bytes, start) {
    let [length, value] = [0, 0];
    let node = 0;
    let unit = this.units.length ? this.units[0] : 0;
    node ^= offset(unit);
    for (let at = start; this.units.length && at < bytes.length; at++) {
      node ^= bytes[at];
      unit = this.units[node];
      if (label(unit) !== bytes[at]) break;
      node ^= offset(unit);
      if (hasLeaf(unit)) [length, value] = [at - start + 1, this.units[node] & 0x7fffffff];
    }
    if (length) return [this.replacements.subarray(value, this.replacements.indexOf(0, value)), length];
    length = characterLength(bytes[start]);
    return [bytes.subarray(start, start + length), length];
  }
}

// a unit: bit 8 says that a value hangs below, bits 0-7 and 31 are the label, the rest the offset to the children
const hasLeaf = (unit) => (unit >>> 8) & 1;
const label = (unit) => (unit & 0x800000ff) >>> 0;
const offset = (unit) => (unit >>> 10) << ((unit & 0x200) >>> 6);
const characterLength = (byte) => (byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4);
