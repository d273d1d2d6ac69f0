// The exported page in headless Chromium, driven as a person would: type, read, paste, lose the network, reload.
//
// node page.mjs SITE CHROMIUM PYTHON [SCREENSHOTS] < ["sentence", ...] > what was seen, as JSON

import {spawn} from "node:child_process";
import {createInterface} from "node:readline";
import {text} from "node:stream/consumers";
import {chromium} from "playwright-core";

const [site, executablePath, python, screenshots] = process.argv.slice(2);
const sentences = JSON.parse(await text(process.stdin));
const server = spawn(python, ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", site]);
let browser;
try {
  browser = await chromium.launch({executablePath, args: ["--no-sandbox"]}); // a container's root has none
  const seen = await visit(await browser.newContext(), await address(server));
  process.stdout.write(JSON.stringify(seen));
} finally {
  await browser?.close();
  server.kill();
}

async function visit(context, url) {
  const page = await context.newPage();
  const [problems, elsewhere] = [[], []];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  context.on("request", (request) => request.url().startsWith(url) || elsewhere.push(request.url()));

  await page.goto(url);
  await ready(page);
  const example = {input: await page.inputValue("#source"), answer: await answer(page)};
  if (screenshots) await takeScreenshots(page, "online");
  const singly = [];
  for (const sentence of sentences) {
    await page.fill("#source", sentence);
    await page.keyboard.press("Control+Enter");
    singly.push(await answer(page));
  }
  await page.fill("#source", sentences.join("\n")); // and no key: the page translates by itself after a pause
  const pasted = (await answer(page)).split("\n");
  const facts = Object.fromEntries(await page.$$eval("#facts div", (pairs) =>
    pairs.map((pair) => [...pair.children].map((child) => child.textContent))));
  const title = await page.title();

  const problemsOnline = problems.splice(0); // without a server Chromium logs each failed request as an error
  server.kill();
  await new Promise((resolve) => server.once("exit", resolve));
  await page.fill("#source", sentences[0]);
  await page.keyboard.press("Control+Enter");
  const offline = [await answer(page)];
  await page.reload();
  await ready(page);
  await page.fill("#source", sentences[1]);
  await page.keyboard.press("Control+Enter");
  offline.push(await answer(page));
  if (screenshots) await takeScreenshots(page, "offline");
  return {example, singly, pasted, offline, facts, title, elsewhere, problems: problemsOnline};
}

async function ready(page) {
  const settled = page.waitForSelector('[data-state="failed"], [data-state="ready"][data-offline="yes"]', {timeout: 60_000});
  if ((await (await settled).getAttribute("data-state")) === "failed") throw new Error(await page.textContent("#status"));
}

/** Return what stands in the output once it answers the present text. */
async function answer(page) {
  await page.waitForFunction(() => document.body.dataset.answered === document.getElementById("source").value);
  return page.textContent("#target");
}

async function takeScreenshots(page, name) {
  for (const colorScheme of ["light", "dark"])
    for (const width of [1100, 390]) {
      await page.emulateMedia({colorScheme});
      await page.setViewportSize({width, height: 800});
      await page.screenshot({path: `${screenshots}/${name}-${colorScheme}-${width}.png`, fullPage: true});
    }
}

/** Return the address that Python's http.server prints. */
async function address({stdout}) {
  for await (const line of createInterface({input: stdout})) {
    const found = line.match(/http:\/\/[\d.:]+\//);
    if (found) return found[0];
  }
  throw new Error("the static server ended before it served");
}
