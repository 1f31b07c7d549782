"use strict";
// All is drawn from the entries, the filters, the order of the rows and the ticked detectors; nothing else is kept.
const byId = (id) => document.getElementById(id);
const { fields, entries, titles, colours, meaningful } = JSON.parse(byId("data").textContent);
for (const entry of entries) {
  entry.results = entry.results.map((row) => Object.fromEntries(fields.map((field, i) => [field, row[i]])));
}
const FILTERS = { attack: "", trained_on: "all but its family", knowledge: "oblivious", stratum: "success", condition: "8-bit" };
const COLUMNS = [ // key, title, whether the highest comes first
  ["detector", "Detector", false], ["family", "Looks at", false], ["worst", "Worst case", true], ["mean", "Mean", true],
  ["seconds", "Seconds for 1,000 images", false], ["auc", "Mean AUC", true], ["ahead", "Above the best trivial score", true],
  ["alarm", "Worst false alarm", false],
];
const MOST_LINES = 8, LINE_HEIGHT = 15, DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const order = { key: "worst", down: true };
let ticked = null; // a set of entries; null for the best of each family
let shown = []; // the table's rows, in order

const named = (name) => titles[name] ?? name;
const percent = (value, digits = 1) => (value == null ? "–" : (100 * value).toFixed(digits) + " %");
const few = (share) => percent(share, share < 0.01 ? 1 : 0);
const counted = (row) => `n = ${row.n}` + (row.unchanged ? ` (${few(row.unchanged)} of the attacked left unchanged)` : "");
const interval = (row) => `${percent(row.low)} to ${percent(row.high)}`
  + (row.observed_fpr == null ? "" : `, observed FPR ${percent(row.observed_fpr)}`);
const collator = new Intl.Collator("en", { numeric: true });
const unique = (values) => [...new Set(values)].sort(collator.compare);
function average(values) {
  const known = values.filter((value) => value != null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}
const maker = (create) => (tag, attributes = {}, ...children) => {
  const node = create(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const make = maker((tag) => document.createElement(tag));
const shape = maker((tag) => document.createElementNS(byId("chart").namespaceURI, tag));

// ---------------------------------------------------------------- filters

const here = () => entries.filter((entry) => entry.dataset === byId("dataset").value);
function fill() {
  const results = here().flatMap((entry) => entry.results);
  for (const [id, first] of Object.entries(FILTERS)) {
    const values = unique(results.map((row) => row[id])).filter((value) => value !== "no attack");
    if (id === "attack") values.unshift("");
    const kept = [byId(id).value, first, values[0]].find((value) => values.includes(value));
    byId(id).replaceChildren(...values.map((value) => new Option(named(value) || "all attacks", value)));
    byId(id).value = kept ?? "";
  }
}
const passes = (row) => row.tpr != null && ["knowledge", "stratum", "condition"].every((id) => row[id] === byId(id).value)
  && (row.trained_on === "no attack" || row.knowledge !== "oblivious" || row.trained_on === byId("trained_on").value);
function summary(entry) {
  const every = entry.results.filter(passes), attack = byId("attack").value;
  const rows = every.filter((row) => !attack || row.attack === attack);
  if (!rows.length) return null;
  const at = rows.reduce((low, row) => (row.tpr < low.tpr ? row : low));
  const [kind, alarm] = Object.entries(entry.alarms).sort((one, other) => other[1] - one[1])[0] ?? ["", null];
  return {
    entry, every, rows, at, kind, alarm, detector: entry.detector, family: entry.family, trivial: entry.family === "baseline",
    worst: at.tpr, mean: average(rows.map((row) => row.tpr)), seconds: entry.seconds_per_1000,
    auc: average(rows.map((row) => row.roc_auc)), ahead: rows.filter((row) => row.above_baseline > meaningful).length,
  };
}
const by = (key, down) => (one, other) => {
  const [a, b] = [one[key], other[key]];
  if (a == null || b == null) return (a == null) - (b == null); // the unknown comes last
  return (down ? -1 : 1) * (typeof a === "string" ? collator.compare(a, b) : Math.round(1000 * a) - Math.round(1000 * b));
};
// Where rates are equal as shown the trivial score comes first: nothing beats it.
const TIES = [(one, other) => other.trivial - one.trivial, by("worst", true), by("mean", true), by("seconds", false)];
const sorted = (rows, key, down) =>
  [...rows].sort((one, other) => [by("few", false), by(key, down), ...TIES].reduce((found, rule) => found || rule(one, other), 0));
function chosen() {
  if (ticked) return shown.filter((row) => ticked.has(row.entry));
  const ranked = sorted(shown, "worst", true);
  const best = ranked.filter((row, i) => ranked.findIndex((other) => other.family === row.family) === i);
  return shown.filter((row) => best.includes(row));
}

// ---------------------------------------------------------------- the table

const told = (value) => (typeof value === "object" ? JSON.stringify(value) : value);
const runOf = (entry) => `Measured by ${entry.measured_by}, version ${entry.version}; `
  + Object.entries(entry.settings).map(([name, value]) => `${name} ${told(value)}`).join(", ")
  + ". Seconds compare among these entries only.";
function noted(text) {
  const notes = [...byId("notes").children].map((note) => note.textContent);
  const number = 1 + (notes.includes(text) ? notes.indexOf(text) : notes.length);
  if (number > notes.length) byId("notes").append(make("li", { id: `note-${number}` }, text));
  return make("a", { href: `#note-${number}`, "aria-label": `note ${number}` }, number);
}
function cell(text, note = "", bar = null) {
  const td = make("td", { class: "number" }, text);
  if (bar != null) td.append(make("span", { class: "bar", style: `width: ${100 * bar}%` }));
  if (note) td.append(make("small", {}, note));
  return td;
}
function rowOf(row, attacks) {
  const { entry, at, rows } = row, tick = make("input", { type: "checkbox" });
  tick.onchange = () => {
    ticked = new Set(shown.filter((each) => each.tick.checked).map((each) => each.entry));
    drawBelow();
  };
  row.tick = tick;
  const notes = make("sup", {}, noted(runOf(entry)), ...(entry.footnote ? [" ", noted(entry.footnote)] : []));
  const head = make("th", { scope: "row" }, make("label", {}, tick, ` ${entry.detector}`), " ", notes);
  head.append(make("small", {}, `${entry.measured_by}, version ${entry.version}`));
  if (entry.potentially_unreliable) head.append(make("small", { class: "doubt" }, "potentially unreliable"));
  return make("tr", { class: row.trivial ? "trivial" : "" }, head, make("td", {}, named(row.family)),
    cell(percent(row.worst), `best attack so far: ${named(at.attack)}, ${counted(at)}, ${interval(at)}`, row.worst),
    cell(percent(row.mean), `${rows.length < attacks ? "only " : ""}over ${rows.length} of ${attacks} attacks`, row.mean), cell(row.seconds ?? "–"), cell(row.auc?.toFixed(3) ?? "–"),
    cell(`${row.ahead} of ${rows.length}`), cell(percent(row.alarm), row.kind));
}
function draw() {
  const wanted = byId("search").value.toLowerCase(), all = here().map(summary).filter(Boolean);
  const most = Math.max(0, ...all.map((row) => row.rows.length));
  for (const row of all) row.few = Number(2 * row.rows.length < most); // a worst case of a few attacks is no worst case
  shown = sorted(all.filter((row) => row.detector.toLowerCase().includes(wanted)), order.key, order.down);
  const attacks = unique(all.flatMap((row) => row.rows.map((result) => result.attack)));
  byId("notes").replaceChildren();
  byId("rows").replaceChildren(...shown.map((row) => rowOf(row, attacks.length)));
  for (const th of byId("head").children) {
    th.setAttribute("aria-sort", th.dataset.key !== order.key ? "none" : order.down ? "descending" : "ascending");
  }
  const best = (attack, trivial) => Math.max(0, ...all.filter((row) => row.trivial === trivial)
    .flatMap((row) => row.rows.filter((result) => result.attack === attack).map((result) => result.tpr)));
  const lost = attacks.filter((attack) => best(attack, false) <= best(attack, true)).length;
  byId("count").textContent = `${shown.length} of ${here().length} detectors, ${attacks.length} attacks. `
    + `On ${lost} of them no detector is above the best trivial score.`;
  drawBelow();
}

// ---------------------------------------------------------------- side by side

function grid(table, rows, columns, valueOf, frame) {
  const heads = columns.map((column) => make("th", { scope: "col", class: column.trivial ? "trivial" : "" }, make("span", {}, column.detector)));
  const body = rows.map(({ title, of, trivial, note }) => {
    const values = columns.map((column) => valueOf(of, column)), whole = (each) => Math.round(100 * (each?.value ?? -1));
    const highest = Math.max(...values.map(whole));
    const head = make("th", { scope: "row", class: trivial ? "trivial" : "" }, title);
    if (note) head.append(make("small", {}, note));
    return make("tr", {}, head, ...values.map((each) => {
      if (each?.value == null) return make("td", {}, "–");
      const look = `shade-${Math.round(20 * each.value)}${frame && whole(each) === highest ? " best" : ""}`;
      return make("td", { class: look, title: each.note }, whole(each));
    }));
  });
  table.replaceChildren(make("thead", {}, make("tr", {}, make("td"), ...heads)), make("tbody", {}, ...body));
}
function drawAttacks(columns) {
  const attacks = unique(columns.flatMap((column) => column.rows.map((result) => result.attack)));
  const at = (attack, column) => column.rows.find((result) => result.attack === attack);
  const idle = (attack) => { // runs of other sizes attack other images
    const shares = unique(columns.map((column) => at(attack, column)?.unchanged).filter((share) => share).map(few));
    return shares.length ? `${shares.join(" or ")} left unchanged` : "";
  };
  grid(byId("heat"), attacks.map((attack) => ({ title: named(attack), of: attack, note: idle(attack) })), columns, (attack, column) => {
    const found = at(attack, column);
    return found && { value: found.tpr, note: `${interval(found)}, ${counted(found)}` };
  }, true);
}
function drawPairs(columns) {
  const runs = columns.filter((column) => Object.keys(column.entry.catches ?? {}).length);
  const caught = (missing, other) => {
    const found = runOf(missing.entry) === runOf(other.entry) ? other.entry.catches[missing.detector] : null;
    return found && { value: found.share, note: `of ${found.missed} images that ${missing.detector} misses` };
  };
  const pairs = runs.flatMap((one) => runs.map((other) => ({ one, other, ...caught(one, other) })));
  const most = pairs.filter((pair) => pair.value != null).sort((one, other) => other.value - one.value)[0];
  byId("most").textContent = most
    ? `Of what ${most.one.detector} misses, ${most.other.detector} flags ${percent(most.value, 0)}.`
    : "It is known of detectors of one run, and only where twenty images are missed: tick two such.";
  grid(byId("pairs"), runs.map((row) => ({ title: row.detector, of: row, trivial: row.trivial })), runs, caught, false);
}
function drawMargins(columns) {
  const drawn = columns.filter((row) => row.every.some((each) => each.margin != null)).slice(0, MOST_LINES);
  const stopping = drawn.flatMap((row) => row.every.filter((each) => each.margin != null));
  const base = (attack) => attack.split(",")[0]; // "deepfool, margin 5" is DeepFool at another margin
  const margins = unique(stopping.map((each) => each.margin)).sort((one, other) => one - other);
  const at = (row, attack, margin) => row.every.find((each) => each.margin === margin && base(each.attack) === attack)?.tpr;
  let attacks = unique(stopping.map((each) => base(each.attack)));
  attacks = attacks.filter((attack) => drawn.every((row) => margins.every((margin) => at(row, attack, margin) != null)));
  if (attacks.includes(base(byId("attack").value))) attacks = [base(byId("attack").value)];
  const enough = margins.length > 1 && attacks.length;
  byId("over").textContent = !enough ? "The ticked detectors have no attack that was run at several margins."
    : `TPR at 5 % false positives, in the mean over ${attacks.map(named).join(", ")}: attacks that all of these detectors met at every margin.`
      + (columns.length > MOST_LINES ? ` The first ${MOST_LINES} of the ticked.` : "");
  const series = !enough ? [] : drawn.map((row, i) => ({
    row, colour: colours[row.family] ?? "currentColor", values: margins.map((margin) => average(attacks.map((attack) => at(row, attack, margin)))),
    dash: DASHES[drawn.slice(0, i).filter((other) => colours[other.family] === colours[row.family]).length % DASHES.length],
  }));
  const short = (margin) => (margin < 0.01 ? "0" : String(margin));
  byId("series").replaceChildren(make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Detector"),
    ...margins.map((margin) => make("th", { scope: "col", class: "number" }, `margin ${short(margin)}`)))),
  make("tbody", {}, ...series.map(({ row, colour, values }, i) => make("tr", { class: row.trivial ? "trivial" : "" },
    make("th", { scope: "row" }, make("span", { class: "key", style: `border-color: ${colour}` }, i + 1), ` ${row.detector}`),
    ...values.map((value) => cell(percent(value)))))));
  byId("series").hidden = !enough;
  byId("chart").toggleAttribute("hidden", !enough);
  if (enough) drawLines(series, margins, short);
}
function drawLines(series, margins, short) {
  const chart = byId("chart"), width = chart.clientWidth || chart.parentNode.clientWidth, height = 320;
  const [left, right, top, bottom] = [46, width - 26, 10, height - 42];
  const x = (margin) => left + ((margin - margins[0]) / (margins.at(-1) - margins[0])) * (right - left);
  const y = (rate) => bottom - rate * (bottom - top);
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const rule = (rate, dash) => shape("line", { class: "rule", x1: left, x2: right, y1: y(rate), y2: y(rate), "stroke-dasharray": dash });
  const text = (what, at) => shape("text", { "dominant-baseline": "middle", ...at }, what);
  const lines = series.flatMap(({ colour, dash, values }) => [
    shape("polyline", { points: values.map((value, i) => `${x(margins[i])},${y(value)}`).join(" "), stroke: colour, "stroke-dasharray": dash }),
    ...values.map((value, i) => shape("circle", { cx: x(margins[i]), cy: y(value), r: 4, fill: colour })),
  ]);
  // The lines' numbers stand at their ends, apart: first pushed down, then, from the bottom, up.
  const ends = series.map(({ values }, i) => ({ number: i + 1, y: y(values.at(-1)) })).sort((one, other) => one.y - other.y);
  ends.forEach((end, i) => { if (i) end.y = Math.max(end.y, ends[i - 1].y + LINE_HEIGHT); });
  ends.reduceRight((below, end) => (end.y = Math.min(end.y, below - LINE_HEIGHT)), bottom + LINE_HEIGHT);
  chart.replaceChildren(
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((rate) => [rule(rate, ""), text(percent(rate, 0), { x: left - 6, y: y(rate), "text-anchor": "end" })]),
    rule(0.05, "3 3"), text("chance", { x: left + 4, y: y(0.05) - 9 }), ...lines,
    ...margins.map((margin) => text(short(margin), { x: x(margin), y: bottom + 16, "text-anchor": "middle" })),
    text("logit margin at which the attack stops", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }),
    ...ends.map((end) => text(end.number, { x: right + 10, y: end.y })),
  );
}
function drawBelow() {
  const columns = chosen();
  for (const row of shown) row.tick.checked = columns.includes(row);
  drawAttacks(columns);
  drawPairs(columns);
  drawMargins(columns);
}

byId("dataset").replaceChildren(...unique(entries.map((entry) => entry.dataset)).map((name) => new Option(named(name), name)));
byId("head").replaceChildren(...COLUMNS.map(([key, title, down]) => {
  const button = make("button", { type: "button" }, title);
  button.onclick = () => { order.down = order.key === key ? !order.down : down; order.key = key; draw(); };
  return make("th", { scope: "col", "data-key": key, class: key === "detector" || key === "family" ? "" : "number" }, button);
}));
byId("filters").addEventListener("input", () => { fill(); draw(); });
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("best").onclick = () => { ticked = null; drawBelow(); };
byId("all").onclick = () => { ticked = new Set(shown.map((row) => row.entry)); drawBelow(); };
addEventListener("resize", drawBelow);
fill();
draw();
