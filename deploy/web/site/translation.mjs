// Sentences in, sentences out, as components/inference/translation.py does it: tokenize, one run of a graph that holds
// the whole search, join the tokens.

import {EOS, PAD, loadTokenizer} from "./tokenizers.mjs";

const BATCH = 32;
const MAX_SOURCE = 100; // tokens; the model's table of positions ends a little later

export class TranslationPredictor {
  /**
   * @param ort onnxruntime-web
   * @param session its session of the graph "translate": `source` int64 (B, S) in, `target` int64 (B, T) out
   * @param {Map<string, Uint8Array>} assets the bundle's assets by file name
   */
  constructor(ort, session, assets) {
    const tokenizer = (side) => {
      const name = [...assets.keys()].find((file) => file.replace(/\.\w+$/, "") === side);
      return loadTokenizer(name ?? side, assets.get(name));
    };
    Object.assign(this, {ort, session, source: tokenizer("source"), target: tokenizer("target")});
  }

  /** Return the translations; the sentences run in batches of like length, which changes no order. */
  async predict(sentences) {
    return (await this.predictIds(sentences)).map((ids) => this.target.decode(ids));
  }

  /**
   * Return the target ids of each sentence, up to its end mark: none of a sentence without a token. Of one of more than
   * MAX_SOURCE tokens the first ones are read, with a warning.
   */
  async predictIds(sentences) {
    const encoded = sentences.map((text) => this.source.encode(text));
    const long = encoded.filter(({length}) => length > MAX_SOURCE).length;
    if (long) console.warn(`${long} inputs have more than ${MAX_SOURCE} tokens: only so many are read`);
    const sources = encoded.map((ids) => [...ids.slice(0, MAX_SOURCE), EOS]);
    const said = encoded.flatMap((ids, i) => (ids.length ? [i] : []));
    const order = said.sort((a, b) => sources[b].length - sources[a].length);
    const answers = Array.from(sources, () => []);
    for (let start = 0; start < order.length; start += BATCH) {
      const rows = order.slice(start, start + BATCH);
      const targets = await this.#run(rows.map((i) => sources[i]));
      rows.forEach((i, row) => (answers[i] = targets[row]));
    }
    return answers;
  }

  async #run(sources) {
    const width = sources[0].length; // the longest comes first
    const padded = sources.flatMap((ids) => [...ids, ...Array(width - ids.length).fill(PAD)]);
    const source = new this.ort.Tensor("int64", BigInt64Array.from(padded, BigInt), [sources.length, width]);
    const {target} = await this.session.run({source});
    const [data, steps] = [Array.from(target.data, Number), target.dims[1]];
    return sources.map((_, row) => untilEnd(data.slice(row * steps, (row + 1) * steps)));
  }
}

function untilEnd(ids) {
  const end = ids.indexOf(EOS);
  return end === -1 ? ids.filter((id) => id !== PAD) : ids.slice(0, end);
}
