// The page's modules in Node: node answers.mjs BUNDLE < {"texts": [...], "sentences": [...]} > ids and answers as JSON.

import {readFile} from "node:fs/promises";
import {text} from "node:stream/consumers";
import * as ort from "onnxruntime-web";
import {loadBundle} from "../site/bundle.mjs";

ort.env.wasm.numThreads = 1;
const root = process.argv[2];
const {texts, sentences} = JSON.parse(await text(process.stdin));
try {
  const {predictor} = await loadBundle(ort, async (name) => new Uint8Array(await readFile(`${root}/${name}`)));
  const ids = texts.map((one) => ({source: predictor.source.encode(one), target: predictor.target.encode(one)}));
  const decoded = ids.map(({target}) => predictor.target.decode(target));
  const singly = [];
  for (const sentence of sentences) singly.push(...(await predictor.predict([sentence])));
  const together = await predictor.predict(sentences);
  process.stdout.write(JSON.stringify({ids, decoded, singly, together}), () => process.exit(0));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
