// The model, off the page's own thread. In: {id, sentences}. Out: {kind: progress | ready | answer | failed, ...}.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import {loadBundle} from "./bundle.mjs";
import {siteFiles} from "./site-files.mjs";

const loaded = load();
let latest = 0; // a newer request makes the older ones pointless

self.addEventListener("message", async ({data: {id, sentences}}) => {
  latest = id;
  try {
    const predictor = await loaded;
    for (const [line, sentence] of sentences.entries()) {
      if (id !== latest) return;
      const start = performance.now();
      const [answer] = await predictor.predict([sentence]);
      self.postMessage({kind: "answer", id, line, answer, milliseconds: performance.now() - start});
      await new Promise((resolve) => setTimeout(resolve)); // lets a newer request in
    }
  } catch (error) {
    fail(error);
  }
});

async function load() {
  try {
    const {files, offline} = await siteFiles((done, total) => self.postMessage({kind: "progress", done, total}));
    ort.env.wasm.numThreads = 1; // more would need response headers that plain static hosts don't send
    ort.env.wasm.wasmBinary = files.get("ort/ort-wasm-simd-threaded.wasm");
    const {manifest, golden, predictor} = await loadBundle(ort, async (name) => bundleFile(files, name));
    await predictor.predict(golden.slice(0, 1).map(({input}) => input)); // the first run is many times slower
    self.postMessage({kind: "ready", manifest, golden, offline, bytes: payloadBytes(files)});
    return predictor;
  } catch (error) {
    fail(error);
    throw error;
  }
}

function bundleFile(files, name) {
  const bytes = files.get(`bundle/${name}`);
  if (!bytes) throw new Error(`${name}: named in the manifest but not in the site; export it again`);
  return bytes;
}

/** Return the bytes of graphs and assets, what Bundle.size_bytes counts. */
function payloadBytes(files) {
  const counted = [...files].filter(([name]) => /^bundle\/(assets\/|.*\.onnx$)/.test(name));
  return counted.reduce((sum, [, bytes]) => sum + bytes.length, 0);
}

const fail = (error) => self.postMessage({kind: "failed", message: error.message});
