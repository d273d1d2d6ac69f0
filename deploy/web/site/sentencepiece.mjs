// SentencePiece in JavaScript, as far as modelpress trains it (components/data/vocabulary.py): unigram or BPE, no bytes
// as a fallback, no user-defined pieces. Gives the ids that the C++ library gives; other models are refused.
//
// Source: sentencepiece, src/sentencepiece_model.proto, unigram_model.cc (EncodeOptimized), bpe_model.cc,
// sentencepiece_processor.cc.

import {Charsmap} from "./charsmap.mjs";
import {fieldsOf, textOf, floatOf} from "./protobuf.mjs";

const [NORMAL, UNKNOWN, CONTROL] = [1, 2, 3]; // kinds of pieces
const [UNIGRAM, BPE] = [1, 2]; // kinds of models
const UNKNOWN_PENALTY = 10;
const UNKNOWN_SURFACE = " \u2047 ";

export class SentencePiece {
  /** @param {Uint8Array} proto the bytes of a `.model` file */
  constructor(proto) {
    const model = fieldsOf(proto);
    this.pieces = (model.get(1) ?? []).map(readPiece);
    const trainer = fieldsOf(model.get(2)[0]);
    const normalizer = fieldsOf(model.get(3)[0]);
    this.kind = first(trainer, 3, UNIGRAM);
    refuseOtherModels(this.kind, this.pieces, trainer, normalizer);
    this.charsmap = new Charsmap(first(normalizer, 2, new Uint8Array(0)));
    this.unknown = this.pieces.findIndex((piece) => piece.kind === UNKNOWN);
    const normal = this.pieces.flatMap((piece, id) => (piece.kind === NORMAL ? [[piece.text, id]] : []));
    this.ids = new Map(normal);
    this.longest = normal.reduce((most, [text]) => Math.max(most, [...text].length), 1);
    this.unknownScore = Math.fround(Math.min(...normal.map(([, id]) => this.pieces[id].score)) - UNKNOWN_PENALTY);
  }

  get length() {
    return this.pieces.length;
  }

  /** Return the ids of a sentence; a run of unknown pieces is one id. */
  encode(text) {
    const characters = [...this.charsmap.normalize(text)];
    const ids = this.kind === UNIGRAM ? this.#bestPath(characters) : this.#merge(characters);
    return ids.filter((id, i) => id !== this.unknown || ids[i - 1] !== this.unknown);
  }

  /** Return the text of ids: U+2581 is a space, control pieces are nothing. */
  decode(ids) {
    let text = "";
    for (const id of ids) {
      const piece = this.pieces[id];
      if (piece.kind === CONTROL) continue;
      if (piece.kind === UNKNOWN) text += UNKNOWN_SURFACE;
      else text += (text === "" ? piece.text.replace(/^\u2581/, "") : piece.text).replaceAll("\u2581", " ");
    }
    return text;
  }

  /** Unigram: the segmentation of the highest summed score (Viterbi), in float32 as the library sums. */
  #bestPath(characters) {
    const best = Array.from({length: characters.length + 1}, () => ({score: 0, start: -1, id: -1}));
    const offer = (end, start, id, pieceScore) => {
      const score = Math.fround(pieceScore + best[start].score);
      if (best[end].start === -1 || score > best[end].score) best[end] = {score, start, id};
    };
    for (let start = 0; start < characters.length; start++) {
      let text = "";
      for (let end = start + 1; end <= Math.min(start + this.longest, characters.length); end++) {
        text += characters[end - 1];
        const id = this.ids.get(text);
        if (id !== undefined) offer(end, start, id, this.pieces[id].score);
        else if (end === start + 1) offer(end, start, this.unknown, this.unknownScore);
      }
    }
    const ids = [];
    for (let end = characters.length; end > 0; end = best[end].start) ids.push(best[end].id);
    return ids.reverse();
  }

  /** BPE: merge the neighbours whose union scores highest, the leftmost of equals, until no union is a piece. */
  #merge(characters) {
    const parts = [...characters];
    for (;;) {
      let [at, highest] = [-1, -Infinity];
      for (let i = 0; i + 1 < parts.length; i++) {
        const id = this.ids.get(parts[i] + parts[i + 1]);
        if (id !== undefined && this.pieces[id].score > highest) [at, highest] = [i, this.pieces[id].score];
      }
      if (at === -1) return parts.map((part) => this.ids.get(part) ?? this.unknown);
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
  }
}

function readPiece(bytes) {
  const fields = fieldsOf(bytes);
  const score = fields.has(2) ? floatOf(fields.get(2)[0]) : 0;
  return {text: textOf(fields.get(1)[0]), score, kind: first(fields, 3, NORMAL)};
}

function refuseOtherModels(kind, pieces, trainer, normalizer) {
  const refused = (why) => new Error(`this page can't read a SentencePiece model with ${why}`);
  if (kind !== UNIGRAM && kind !== BPE) throw refused(`model_type ${kind}; unigram and BPE are known`);
  const other = pieces.find((piece) => ![NORMAL, UNKNOWN, CONTROL].includes(piece.kind));
  if (other) throw refused(`pieces of kind ${other.kind} (${JSON.stringify(other.text)})`);
  if (first(trainer, 24, 0)) throw refused("treat_whitespace_as_suffix");
  if (trainer.has(44) && textOf(trainer.get(44)[0]) !== UNKNOWN_SURFACE) throw refused("an unk_surface of its own");
  for (const [number, name] of [[3, "add_dummy_prefix"], [4, "remove_extra_whitespaces"], [5, "escape_whitespaces"]])
    if (!first(normalizer, number, 1)) throw refused(`no ${name}`);
}

const first = (fields, number, missing) => fields.get(number)?.[0] ?? missing;
