// The flow as a picture: a button a dataset or a sink, in columns from the topic on, and lines between them.

import { brief, byId, compact, el, moment, rate, span } from "./dom.js";

const WIDTH = 216, HEIGHT = 52, GAP = 9, NARROW = 40, WIDE = 130;
const BELOW = 2; // rows from the topic to the first lookup: its line passes by bronze
const SVG = "http://www.w3.org/2000/svg";
const NOUN = { csv: "CSV files", lake: "lake by date", kafka: "topic", postgres: "table", delta: "Delta table" };

/** Return what the lineage has beside the outputs: the topics that sinks write, and the lookups with what they decide. */
function beside(feed, lineage) {
  const own = (id) => id.slice(feed.name.length + 1);
  const edges = lineage?.edges ?? [];
  const written = edges.filter((one) => one.target.startsWith("topic:"))
    .map((one) => ({ name: one.target.slice("topic:".length), what: "Kafka topic", isOutside: true, upstream: own(one.source) }));
  const lookups = (lineage?.nodes ?? []).filter((one) => one.kind === "lookup")
    .map((one) => ({ name: one.name, what: "lookup", isOutside: true, lookup: one.name, targets: edges.filter((edge) => edge.source === one.id).map((edge) => own(edge.target)) }));
  return { written, lookups };
}

/** Tell whether a picture with that lineage shows more than one without. */
export const hasMore = (lineage) => lineage.nodes.filter((one) => one.kind === "topic" || one.kind === "lookup").length > 1;

/** Lay out a feed: each output with its column, its row and what hangs on it; lookups are below the topic. */
function layout(feed, lineage) {
  const { written, lookups } = beside(feed, lineage);
  const outputs = [
    ...feed.datasets.map((one) => ({ ...one, what: one.rows_are === "record" ? "dataset" : `${one.rows_are}s` })),
    ...feed.sinks.map((one) => ({ ...one, what: NOUN[one.to] ?? one.to })),
    ...written,
  ];
  const topic = { name: feed.topic, what: "Kafka topic", isOutside: true, isFirst: true };
  const below = (name) => outputs.filter((one) => one.upstream === name);
  const placed = [];
  let row = 0;
  const place = (node, column) => {
    const children = node.isFirst ? below(null) : node.isOutside ? [] : below(node.name);
    const own = { node, column, children: children.map((child) => place(child, column + 1)) };
    own.row = own.children.length ? (own.children[0].row + own.children.at(-1).row) / 2 : row++;
    placed.push(own);
    return own;
  };
  const first = place(topic, 0);
  for (const [i, node] of lookups.entries()) {
    placed.push({ node, column: 0, row: first.row + i + BELOW, children: placed.filter((one) => node.targets.includes(one.node.name) && !one.node.isOutside) });
  }
  return placed.sort((one, other) => one.column - other.column || one.row - other.row);
}

function line(from, to, between) {
  const path = document.createElementNS(SVG, "path");
  const x = from.column * (WIDTH + between) + WIDTH, y = from.row * (HEIGHT + GAP) + HEIGHT / 2;
  const end = to.column * (WIDTH + between), at = to.row * (HEIGHT + GAP) + HEIGHT / 2;
  path.setAttribute("d", `M${x} ${y} C${x + between / 2} ${y} ${end - between / 2} ${at} ${end} ${at}`);
  if (from.node.lookup) path.classList.add("looked-up");
  else path.dataset.to = to.node.name;
  path.addEventListener("animationend", () => path.classList.remove("moving"));
  return path;
}

/** Draw a feed; `choose` is called with the output that is clicked. What the lineage adds is drawn where it is known. */
export function draw(feed, choose, lineage = null) {
  const placed = layout(feed, lineage);
  const columns = Math.max(...placed.map((one) => one.column)) + 1;
  const rows = Math.max(...placed.map((one) => one.row)) + 1;
  const room = (byId("boxes").clientWidth - 8 - columns * WIDTH) / (columns - 1);
  const between = Math.round(Math.min(WIDE, Math.max(NARROW, room)));
  const width = columns * (WIDTH + between) - between, height = rows * (HEIGHT + GAP) - GAP;
  const lines = document.createElementNS(SVG, "svg");
  lines.setAttribute("viewBox", `0 0 ${width} ${height}`);
  lines.setAttribute("width", width);
  lines.setAttribute("height", height);
  lines.setAttribute("aria-hidden", "true");
  for (const one of placed) lines.append(...one.children.map((child) => line(one, child, between)));
  const boxes = placed.map((one) => {
    const { node } = one;
    const box = el(node.isOutside ? "div" : "button", { class: `box${node.isOutside ? " outside" : ""}`, type: node.isOutside ? null : "button" },
      el("span", { class: "name" }, node.name), el("span", { class: "batch" }), el("span", { class: "said" }), el("span", { class: "what" }, node.what));
    box.style.left = `${one.column * (WIDTH + between)}px`;
    box.style.top = `${one.row * (HEIGHT + GAP)}px`;
    box.style.setProperty("--depth", one.column);
    if (node.lookup) box.dataset.lookup = node.lookup;
    if (node.isOutside) {
      box.title = node.name;
    } else {
      box.dataset.sink = node.name;
      box.addEventListener("click", () => choose(node));
    }
    return el("li", {}, box);
  });
  const list = el("ul", { class: "boxes", "aria-label": `Outputs of ${feed.name}` }, boxes);
  list.style.width = `${width}px`;
  list.style.height = `${height}px`;
  list.prepend(el("li", { class: "lines", "aria-hidden": "true" }, lines));
  byId("boxes").replaceChildren(list);
}

/** Show the state of each output on its box. */
export function update(statuses, rateOf) {
  for (const one of statuses.flatMap((status) => status.lookups)) {
    const said = document.querySelector(`[data-lookup="${one.lookup}"] .said`);
    if (said) said.textContent = `${compact(one.rows)} rows · ${span(one.age)}`;
  }
  for (const status of statuses) {
    const box = document.querySelector(`[data-sink="${status.sink}"]`);
    if (!box) continue;
    box.dataset.state = status.state;
    const speed = rateOf(status.sink);
    const parts = [status.state];
    if (status.state === "running" && speed !== null) parts[0] = `${rate(speed)}/s`;
    if (status.behind) parts.push(`${compact(status.behind)} behind`);
    else if (status.complete_up_to) parts.push(`to ${brief(status.complete_up_to)}`);
    else if (status.last_batch_age !== null) parts.push(span(status.last_batch_age));
    box.querySelector(".batch").textContent = status.last_batch === null ? "" : `#${status.last_batch}`;
    box.querySelector(".said").textContent = parts.join(" · ");
    box.title = status.last_error || `${status.sink}: ${status.state}${status.complete_up_to ? `, final up to ${moment(status.complete_up_to)}` : ""}`;
    const newest = status.last_batch === null ? "no batch yet" : `newest batch ${status.last_batch}, ${span(status.last_batch_age)} ago`;
    box.setAttribute("aria-label", `${status.sink}, ${status.state}, ${newest}, ${status.behind ?? 0} behind`);
  }
}

/** Let a batch be seen: its line lights up for a moment. */
export function pulse(sink) {
  const path = document.querySelector(`path[data-to="${sink}"]`);
  if (!path) return;
  path.classList.remove("moving");
  void path.getBoundingClientRect(); // or the animation would not begin again
  path.classList.add("moving");
}
