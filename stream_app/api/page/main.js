// Starts the page: asks what feeds there are, follows the events, and keeps all panels of the chosen feed up to date.

import { follow, get } from "./api.js";
import { lines } from "./charts.js";
import { byId, compact, el, fill, number, parted, rate, since, span } from "./dom.js";
import * as flow from "./flow.js";
import { records } from "./hints.js";
import * as panels from "./panels.js";
import * as sales from "./sales.js";

const REFRESH_MS = 5000, SOON_MS = 1000, SAMPLE_MS = 5000, RATE_SECONDS = 60, SHOWN_BATCHES = 240, AGAIN_MS = 2000;
const state = { feeds: [], feed: null, status: { is_running: false, sinks: [] }, batches: new Map(), history: null, quarantine: null, lineage: null };
let soon = null, trouble = null, sampledAt = 0, following = null;

const own = () => state.status.sinks.filter((one) => one.feed === state.feed.name);
const sink = (name) => own().find((one) => one.sink === name);
const batches = (name) => state.batches.get(`${state.feed.name}.${name}`) ?? [];

/** Return the rows a second of the last minute of batches, or since the one before; null without any. */
function rateOf(name) {
  const found = batches(name).filter((one) => one.rows !== null);
  if (found.length < 2) return null;
  const now = Date.now() / 1000;
  const recent = found.filter((one) => one.at > now - RATE_SECONDS);
  if (!recent.length) return 0;
  const before = found[found.indexOf(recent[0]) - 1]?.at ?? recent[0].at - 1;
  return recent.reduce((sum, one) => sum + one.rows, 0) / Math.max(1, now - before);
}

function figures() {
  const bronze = sink("bronze"), silver = sink("silver"), refused = sink("quarantine");
  const timed = state.feed.datasets.some((one) => one.rows_are !== "record");
  const speed = rateOf("bronze"), finals = own().filter((one) => one.complete_up_to && state.feed.datasets.some((d) => d.name === one.sink));
  const slowest = finals.map((one) => one.complete_up_to).sort()[0];
  const [finalAt, finalOn] = slowest ? parted(slowest) : ["–", ""];
  const newest = Object.values(silver.newest_taken).sort().at(-1);
  const behind = bronze.behind ?? 0, share = bronze.rows ? (100 * refused.rows) / bronze.rows : 0;
  const shown = [
    ["Records", compact(bronze.rows), "in bronze"], ["Throughput", state.status.is_running ? rate(speed) : "–", "records a second"],
    ["Lag", bronze.behind === null ? "–" : number(behind), "records wait"], ["Freshness", newest ? span(since(newest)) : "–", "since silver's newest"],
    ["Quarantine", `${share.toFixed(2)} %`, `${number(refused.rows)} records`], ["Final up to", finalAt, finals.length ? [finalOn, "UTC", "all windows"].filter(Boolean).join(", ") : timed ? "no window is final yet" : "no windows"],
  ];
  fill(byId("figures"), shown.map(([title, value, hint]) => el("div", { class: "figure" }, el("h2", {}, title), el("p", { class: "value" }, value), el("p", { class: "hint" }, hint))));
}

function notice() {
  const bronze = sink("bronze"), wrong = own().filter((one) => ["failed", "killed", "restarting"].includes(one.state) || one.last_error);
  const found = [];
  if (trouble) found.push(el("div", { class: "notice bad" }, el("strong", {}, trouble instanceof TypeError ? "The API does not answer. " : "The API cannot tell. "), trouble.message));
  if (!bronze) return fill(byId("notice"), found); // nothing was told yet
  if (!bronze.rows && bronze.state === "starting") {
    found.push(el("div", { class: "notice" }, el("strong", {}, "The service starts. "), "That takes up to a minute. The boxes below fill with the first batch."));
  } else if (!bronze.rows) {
    found.push(el("div", { class: "notice" }, el("strong", {}, "No records yet. "), state.status.is_running ? "The service runs and waits for its topic. " : "",
      records(state.feed, state.status.is_running), ". The boxes below fill with the first batch."));
  } else if (!state.status.is_running) {
    found.push(el("div", { class: "notice" }, el("strong", {}, "The service does not run. "), "This is what it left. Start it: ", el("code", {}, `make app FEEDS=${state.feed.name}`), "."));
  }
  for (const one of wrong) found.push(el("div", { class: "notice bad" }, el("strong", {}, `${one.sink} ${one.state}. `), one.last_error || "Its last service was killed; a start goes on where it was."));
  return fill(byId("notice"), found);
}

/** Draw the rates of batches: each point is a batch, by the time since the one before, if that one was told. */
function throughput() {
  const names = ["bronze", "silver", "quarantine"], points = new Map();
  for (const [i, name] of names.entries()) {
    const found = batches(name);
    for (let at = 1; at < found.length; at++) {
      if (found[at].rows === null || found[at - 1].batch + 1 !== found[at].batch) continue;
      const seconds = Math.max(0.5, found[at].at - found[at - 1].at), key = Math.round(found[at].at);
      if (!points.has(key)) points.set(key, [null, null, null]);
      points.get(key)[i] = found[at].rows / seconds;
    }
  }
  const times = [...points.keys()].sort((one, other) => one - other);
  lines(byId("throughput"), times, Object.fromEntries(names.map((name, i) => [name, times.map((time) => points.get(time)[i])])));
}

function overTime() {
  throughput();
  const { history, feed } = state;
  const samples = history?.samples ?? [], times = samples.map((one) => Date.parse(one.time) / 1000);
  const pick = (part, names) => Object.fromEntries(names.filter((name) => history?.flows.includes(`${feed.name}.${name}`)).map((name) => {
    const at = history.flows.indexOf(`${feed.name}.${name}`);
    return [name, samples.map((one) => one[part][at])];
  }).filter(([, values]) => values.some((value) => value !== null)));
  const timed = feed.datasets.filter((one) => one.rows_are !== "record").map((one) => one.name).slice(0, 4);
  lines(byId("lag"), times, pick("behind", ["bronze", "silver", "quarantine", ...timed]));
  lines(byId("freshness"), times, pick("lag_seconds", ["silver", ...timed]), { unit: " s" });
}

/** Return the history, which has a sample more every few seconds: more often there is nothing to ask for. */
async function sampled(of) {
  if (state.history?.flows[0].startsWith(`${of}.`) && Date.now() - sampledAt < SAMPLE_MS) return state.history;
  sampledAt = Date.now();
  return get(`api/history?feed=${of}`);
}

async function refresh() {
  const { feed } = state, of = `feed=${feed.name}`;
  try {
    const [status, history, refused, course, late] = await Promise.all([get(`api/status?${of}`), sampled(feed.name), get(`api/quarantine?${of}`), get(`api/quarantine/history?${of}`), get(`api/late?${of}`)]);
    trouble = null;
    if (feed !== state.feed) return; // another was chosen meanwhile
    Object.assign(state, { status, history, quarantine: refused[0] });
    figures();
    flow.update(own(), rateOf);
    overTime();
    panels.quarantine(refused[0], course[0], sink("bronze").rows);
    panels.late(late);
    await sales.refresh(feed, status.is_running);
  } catch (error) {
    trouble = error;
  }
  notice();
  document.body.dataset.ready = feed.name;
}

function refreshSoon() {
  soon ??= setTimeout(() => { soon = null; refresh(); }, SOON_MS);
}

/** Ask until there is an answer, or nobody wants it any longer: the API may be away for a moment. */
async function until(isWanted, asked) {
  for (;;) {
    try {
      return await asked();
    } catch (error) {
      if (!isWanted()) return [];
      fill(byId("notice"), el("div", { class: "notice bad" }, el("strong", {}, "The page cannot be shown yet. "), error.message));
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

async function choose(name) {
  state.feed = state.feeds.find((one) => one.name === name) ?? state.feeds[0];
  state.lineage = null;
  location.hash = state.feed.name;
  fill(byId("feeds"), state.feeds.map((one) => el("button", { type: "button", class: "tab", "aria-pressed": String(one === state.feed), onclick: () => choose(one.name) }, one.name)));
  document.title = `${state.feed.name} · Kafka medallion`;
  const opened = (node) => sink(node.name) && panels.details(state.feed.name, node, sink(node.name), state.lineage);
  flow.draw(state.feed, opened);
  const { name: of } = state.feed;
  followed(of);
  const isShown = () => of === state.feed.name; // else another was chosen meanwhile
  const [described, lineage, audits] = await until(isShown, () => Promise.all([get(`api/feeds/${of}`), get(`api/lineage?feed=${of}`), get("api/audit"), refresh()]));
  if (!isShown()) return;
  state.lineage = lineage;
  if (flow.hasMore(lineage)) {
    flow.draw(state.feed, opened, lineage);
    flow.update(own(), rateOf);
  }
  panels.contract(described);
  const audit = audits.find((run) => run.feed === of);
  if (audit?.state === "running") panels.audit(of, isShown, audit);
  else panels.verdict(audit);
}

function heard(kind, data) {
  if (kind === "batch") {
    const name = `${data.feed}.${data.sink}`, held = state.batches.get(name) ?? [];
    if (held.length && held.at(-1).batch >= data.batch) held.length = 0; // it was reset, or all is told again
    held.push({ batch: data.batch, at: Date.parse(data.time) / 1000, rows: data.rows });
    state.batches.set(name, held.slice(-SHOWN_BATCHES));
    if (data.feed === state.feed?.name) flow.pulse(data.sink);
  }
  if (state.feed) refreshSoon();
}

/** Follow the events of a feed, and of no other any longer. */
function followed(feed) {
  following?.abort();
  following = new AbortController();
  follow(feed, following.signal, heard, (live) => {
    byId("live").dataset.live = String(live);
    byId("live").lastElementChild.textContent = live ? "live" : "reconnecting";
  });
}

function theme() {
  const button = byId("theme"), names = ["system", "light", "dark"];
  const show = (name) => {
    document.documentElement.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    localStorage.setItem("theme", name);
    if (state.feed && own().length) refresh();
  };
  show(names.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "system");
  button.addEventListener("click", () => show(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]));
}

async function start() {
  theme();
  state.feeds = await until(() => true, () => get("api/feeds"));
  byId("replay").addEventListener("click", () => panels.replay(state.feed.name, state.quarantine?.reasons ?? [], refreshSoon));
  byId("audit-start").addEventListener("click", () => {
    const of = state.feed.name;
    panels.audit(of, () => of === state.feed.name);
  });
  await choose(location.hash.slice(1));
  setInterval(refresh, REFRESH_MS);
  addEventListener("resize", refreshSoon);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refreshSoon);
}

start();
