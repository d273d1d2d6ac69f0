// What the page shows and does; the model itself is in worker.mjs.

const PAUSE = 250; // milliseconds without a key press before the text is translated
const at = (id) => document.getElementById(id);
const [source, target] = [at("source"), at("target")];
const worker = new Worker("worker.mjs", {type: "module"});
const offlineServing = navigator.serviceWorker?.register("service-worker.js").then(() => navigator.serviceWorker.ready);
const times = [];
let golden = [];
let [example, request, timer] = [0, 0, 0];
let [lines, asked, left] = [[], [], 0]; // the text's lines {text, answer}, those sent, how many answers are missing

const handlers = {
  progress({done, total}) {
    at("progress").value = done / total;
    say(done < total ? `Loading ${megabytes(done)} of ${megabytes(total)}` : "Starting the model");
  },
  ready(model) {
    document.body.dataset.state = "ready";
    golden = model.golden;
    show(model.manifest, model.bytes);
    say("Ready");
    if (model.offline) offlineServing?.then(sayOffline, () => {});
    for (const button of [at("example"), at("copy")]) button.disabled = false;
    source.value ? translate() : showExample();
  },
  answer({id, line, answer, milliseconds}) {
    if (id !== request) return;
    asked[line].answer = answer;
    left--;
    times.push(milliseconds);
    const median = times.toSorted((a, b) => a - b)[times.length >> 1];
    at("time").textContent = `${Math.round(milliseconds)} ms`;
    at("median").textContent = `${Math.round(median)} ms`;
    render();
  },
  failed({message}) {
    document.body.dataset.state = "failed";
    say(message);
  },
};

worker.addEventListener("message", ({data}) => handlers[data.kind](data));
worker.addEventListener("error", (event) => handlers.failed({message: event.message || "worker.mjs can't be loaded"}));
source.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(translate, PAUSE);
});
source.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) translate();
});
at("example").addEventListener("click", () => showExample());
at("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(target.textContent);
  at("copy").textContent = "Copied";
  setTimeout(() => (at("copy").textContent = "Copy"), 1500);
});

function showExample() {
  source.value = golden[example++ % golden.length]?.input ?? "";
  translate();
}

/** Send the lines that hold something; an answer comes for each in turn. */
function translate() {
  clearTimeout(timer);
  lines = source.value.split("\n").map((text) => ({text, answer: ""}));
  asked = lines.filter(({text}) => text.trim());
  left = asked.length;
  worker.postMessage({id: ++request, sentences: asked.map(({text}) => text)});
  const reference = golden.find(({input}) => input === source.value.trim())?.reference;
  at("reference").hidden = !reference;
  at("reference").lastElementChild.textContent = reference ?? "";
  if (left === 0) render();
  else document.body.dataset.busy = "";
}

function render() {
  target.textContent = lines.map(({answer}) => answer).join("\n");
  if (left > 0) return;
  delete document.body.dataset.busy;
  document.body.dataset.answered = lines.map(({text}) => text).join("\n"); // the text that the output belongs to
}

/** Fill in what the manifest says. */
function show(manifest, bytes) {
  document.title = at("model").textContent = manifest.variant;
  const {languages = [], credit, license} = manifest.lineage.about ?? {};
  at("reference").lastElementChild.lang = languages[1] ?? "";
  [[source, "source-language"], [target, "target-language"]].forEach(([box, label], side) => {
    if (!languages[side]) return;
    box.lang = languages[side]; // the font follows it: Japanese and Chinese share code points
    at(label).textContent = new Intl.DisplayNames("en", {type: "language"}).of(languages[side]);
  });
  at("facts").replaceChildren(
    fact("Size", megabytes(bytes)),
    fact("Precision", manifest.precision),
    fact("Parameters", new Intl.NumberFormat("en", {notation: "compact"}).format(manifest.parameters)),
    fact("Search", manifest.options.beam > 1 ? `beam ${manifest.options.beam}` : "greedy"),
    fact("This answer", "\u2013", "time"),
    fact("Median answer", "\u2013", "median"),
  );
  at("credit").textContent = [credit && `Trained on: ${credit}`, license].filter(Boolean).join(". Licence: ");
}

function fact(name, value, id) {
  const [pair, term, text] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
  [term.textContent, text.textContent] = [name, value];
  if (id) text.id = id;
  pair.append(term, text);
  return pair;
}

function sayOffline() {
  document.body.dataset.offline = "yes";
  say("Ready, also without a network");
}

function say(text) {
  at("status").textContent = text;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
