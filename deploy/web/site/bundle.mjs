// From a bundle's files to something that answers, as components/core/bundle.py and components/inference/predictor.py
// do it: every file is held against the manifest's sha256 before it is parsed.

import {TranslationPredictor} from "./translation.mjs";

const SCHEMA_VERSION = 1;
const PREDICTORS = {translation: TranslationPredictor};

/**
 * Return {manifest, golden, predictor} of a bundle.
 * @param ort onnxruntime-web
 * @param {(name: string) => Promise<Uint8Array>} read gives a file of the bundle
 */
export async function loadBundle(ort, read) {
  const manifest = parseJson(await read("manifest.json"));
  if (manifest.schema_version !== SCHEMA_VERSION)
    throw new Error(`manifest schema ${manifest.schema_version}, this page reads ${SCHEMA_VERSION}`);
  const Predictor = PREDICTORS[manifest.predictor];
  if (!Predictor) throw new Error(`predictor ${manifest.predictor}: this page knows ${Object.keys(PREDICTORS)}`);
  const files = await verifiedFiles(manifest.files, read);
  const assets = [...files].filter(([name]) => name.startsWith("assets/")).map(([name, bytes]) => [name.slice(7), bytes]);
  const graph = files.get(manifest.graphs.translate.file);
  const session = await ort.InferenceSession.create(graph, {executionProviders: ["wasm"]});
  const golden = parseJson(files.get("golden.json")).examples;
  return {manifest, golden, predictor: new Predictor(ort, session, new Map(assets))};
}

async function verifiedFiles(digests, read) {
  const files = new Map();
  for (const [name, digest] of Object.entries(digests)) {
    const bytes = await read(name);
    if ((await sha256(bytes)) !== digest)
      throw new Error(`${name}: sha256 differs from the manifest; the bundle was changed after packaging`);
    files.set(name, bytes);
  }
  return files;
}

/** Return the hex SHA-256 of bytes. */
export async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) throw new Error("no crypto.subtle here: serve the page from https or localhost");
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const parseJson = (bytes) => JSON.parse(new TextDecoder().decode(bytes));
