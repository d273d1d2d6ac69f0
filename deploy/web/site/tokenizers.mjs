// Sentence <-> token ids, as components/inference/tokenizers.py does it. Ids 0 to 3 mean the same everywhere.

import {SentencePiece} from "./sentencepiece.mjs";

export const [PAD, UNK, BOS, EOS] = [0, 1, 2, 3];
const SPECIAL_TOKENS = ["<pad>", "<unk>", "<s>", "</s>"];
// what Python's str.split() splits at; JavaScript's \s lacks U+001C-1F and U+0085 and has U+FEFF
const WHITESPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

/**
 * Return the tokenizer of a file: `.model` is SentencePiece, `.txt` a list of words.
 * @param {string} name
 * @param {Uint8Array} bytes
 */
export function loadTokenizer(name, bytes) {
  if (name.endsWith(".model")) return new SentencePieceTokenizer(bytes);
  if (name.endsWith(".txt")) return new WordTokenizer(bytes);
  throw new Error(`${name}: not a tokenizer; expected a .model (SentencePiece) or a .txt (one word a line)`);
}

class SentencePieceTokenizer {
  constructor(bytes) {
    this.model = new SentencePiece(bytes);
    const found = this.model.pieces.slice(0, SPECIAL_TOKENS.length).map((piece) => piece.text);
    if (String(found) !== String(SPECIAL_TOKENS)) throw new Error(`its first pieces are ${found}, not ${SPECIAL_TOKENS}`);
  }

  encode(sentence) {
    return this.model.encode(sentence);
  }

  decode(ids) {
    return this.model.decode(content(ids));
  }
}

/** Whole words, split at whitespace: line n of the file is the word with id n. */
class WordTokenizer {
  constructor(bytes) {
    this.words = new TextDecoder("utf-8", {fatal: true, ignoreBOM: true}).decode(bytes).split(/\r\n|\r|\n/);
    if (this.words.at(-1) === "") this.words.pop();
    this.ids = new Map(this.words.map((word, id) => [word, id]).slice(SPECIAL_TOKENS.length));
    const found = this.words.slice(0, SPECIAL_TOKENS.length);
    if (String(found) !== String(SPECIAL_TOKENS)) throw new Error(`its first lines are ${found}, not ${SPECIAL_TOKENS}`);
  }

  encode(sentence) {
    return sentence.split(WHITESPACE).filter(Boolean).map((word) => this.ids.get(word) ?? UNK);
  }

  decode(ids) {
    return content(ids).map((id) => this.words[id]).join(" ");
  }
}

/** Return the ids up to the first EOS, without PAD and BOS. */
function content(ids) {
  const end = ids.indexOf(EOS);
  return (end === -1 ? ids : ids.slice(0, end)).filter((id) => id !== PAD && id !== BOS);
}
