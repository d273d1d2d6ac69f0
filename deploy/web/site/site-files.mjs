// The site's files for its worker: from the browser's cache where they are the ones site.json names, else from the
// network and into the cache. Once all are there the site works offline.

import {sha256} from "./bundle.mjs";

const CACHE = "modelpress";

/**
 * Return every file of the site, verified, as {files: Map of name to bytes, offline: whether all of them are stored}.
 * @param {(done: number, total: number) => void} onProgress bytes at hand, bytes in all
 */
export async function siteFiles(onProgress) {
  const site = await (await fetch("site.json", {cache: "no-store"})).json();
  const total = Object.values(site.files).reduce((sum, file) => sum + file.bytes, 0);
  const cache = await caches.open(CACHE).catch(() => null); // a private window may refuse
  const files = new Map();
  let [done, stored] = [0, cache !== null];
  for (const [name, {sha256: digest, bytes}] of Object.entries(site.files)) {
    const found = (await fromCache(cache, name, digest)) ?? (await fromNetwork(name, digest));
    if (found.response) stored = (await store(cache, name, found.response)) && stored;
    files.set(name, found.bytes);
    onProgress((done += bytes), total);
  }
  const listed = new Response(JSON.stringify(site), {headers: {"Content-Type": "application/json"}});
  if (stored) stored = await store(cache, "site.json", listed);
  if (stored) await forgetOthers(cache, new Set(["site.json", ...files.keys()]));
  return {files, offline: stored};
}

async function fromCache(cache, name, digest) {
  const response = await cache?.match(name);
  if (!response) return null;
  const bytes = new Uint8Array(await response.arrayBuffer());
  return (await sha256(bytes)) === digest ? {bytes} : null;
}

async function fromNetwork(name, digest) {
  const response = await fetch(name, {cache: "no-cache"});
  if (!response.ok) throw new Error(`${name}: the server answers ${response.status}`);
  const copy = response.clone();
  const bytes = new Uint8Array(await response.arrayBuffer());
  if ((await sha256(bytes)) !== digest) throw new Error(`${name}: sha256 differs from site.json; export the site again`);
  return {bytes, response: copy};
}

const store = (cache, name, response) => cache.put(name, response).then(() => true, () => false);

/** Delete what an earlier export left below this site's address. */
async function forgetOthers(cache, names) {
  const root = new URL("./", self.location).href;
  for (const {url} of await cache.keys())
    if (url.startsWith(root) && !names.has(decodeURI(url.slice(root.length)))) await cache.delete(url);
}
