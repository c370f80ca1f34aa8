// The panels below the charts: quarantine with its replay, late rows, the audit, the contract; and an output's details.

import { get, post } from "./api.js";
import { COLOURS, colour, stacked } from "./charts.js";
import { between, byId, bytes, compact, el, fill, moment, number, span, table, when } from "./dom.js";
import { columns } from "./lineage.js";

let chosen = null;

/** Show what is refused: over time, by reason, and the newest records of the reason that is chosen. */
export function quarantine(report, course, bronzeRows) {
  const top = report.reasons.slice(0, COLOURS.length - 1).map((one) => one.reason);
  stacked(byId("refused"), course && { ...course, top });
  const share = bronzeRows ? ` (${((100 * report.records) / bronzeRows).toFixed(2)} %)` : "";
  byId("quarantine-hint").textContent = report.records ? `${number(report.records)} records${share}, each with every reason` : "";
  byId("replay").hidden = !report.records;
  if (!report.records) {
    fill(byId("reasons"), el("p", { class: "empty" }, "No record breaks the contract."));
    byId("samples").replaceChildren();
    return;
  }
  if (!report.reasons.some((one) => one.reason === chosen)) chosen = report.reasons[0].reason;
  const most = report.reasons[0].records;
  const choose = (reason) => {
    chosen = reason;
    quarantine(report, course, bronzeRows);
    byId("reasons").querySelector("[aria-pressed=true]")?.focus();
  };
  const items = report.reasons.map((one) => {
    const bar = el("span", { class: "bar-of", "aria-hidden": "true" });
    bar.style.width = `${Math.max(1, (100 * one.records) / most)}%`;
    const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.background = colour(COLOURS[top.includes(one.reason) ? top.indexOf(one.reason) : COLOURS.length - 1]);
    return el("li", {}, el("button", { type: "button", class: "reason", "aria-pressed": String(one.reason === chosen), onclick: () => choose(one.reason) },
      bar, el("span", { class: "reason-name" }, swatch, one.reason), el("span", { class: "count" }, number(one.records))));
  });
  const list = el("ul", { class: "reasons", "aria-label": "Reasons" }, items);
  const at = byId("reasons").querySelector("ul")?.scrollTop ?? 0;
  byId("reasons").replaceChildren(list);
  list.scrollTop = at;
  const reason = report.reasons.find((one) => one.reason === chosen);
  fill(byId("samples"), el("h3", {}, reason.reason), el("p", { class: "hint" }, `${number(reason.records)} records, ${between(reason.first, reason.last)}; the newest:`), reason.samples.map(sample));
}

function sample(one) {
  const reasons = one.reasons.map((reason) => el("li", {}, el("mark", {}, reason)));
  return el("article", { class: "record" },
    el("p", { class: "hint" }, `partition ${one.partition}, offset ${number(one.offset)}, ${moment(one.kafka_ts)}`),
    el("ul", { class: "marks", "aria-label": "Its reasons" }, reasons),
    el("pre", { tabindex: "0" }, marked(one.value, one.reasons)));
}

/** Return a record's text with the names of the fields marked that its reasons name. */
function marked(text, reasons) {
  if (text === null) return "(no value)";
  const fields = reasons.map((reason) => reason.split(":")[1]?.split(".").at(-1)).filter(Boolean);
  const found = fields.map((field) => `"${field}"`).filter((name) => text.includes(name));
  if (!found.length) return text || "(empty)";
  const parts = [];
  let rest = text;
  for (;;) {
    const next = found.map((name) => [rest.indexOf(name), name]).filter(([at]) => at >= 0).sort((one, other) => one[0] - other[0])[0];
    if (!next) break;
    const end = valueEnd(rest, next[0] + next[1].length);
    parts.push(rest.slice(0, next[0]), el("mark", {}, rest.slice(next[0], end)));
    rest = rest.slice(end);
  }
  return [...parts, rest];
}

/** Return where the value ends that follows a name in a record's text, as far as one can tell without reading it. */
function valueEnd(text, from) {
  const match = /^\s*:\s*("(?:[^"\\]|\\.)*"|[^,}\]]*)/.exec(text.slice(from));
  return match ? from + match[0].length : from;
}

/** Let records be replayed: first what a replay would take, then the replay of just that. */
export async function replay(feed, reasons, done) {
  const dialog = byId("replaying"), body = el("div", {}), status = el("p", { role: "status" });
  const which = el("select", { id: "which" }, el("option", { value: "" }, "any reason"), reasons.map((one) => el("option", { value: one.reason }, one.reason)));
  const late = el("input", { type: "checkbox", id: "allow" });
  const go = el("button", { type: "button", class: "main", disabled: true }, "Replay");
  let shown = null;
  const asked = () => ({ feed, reason: which.value, allow_late: late.checked });
  const preview = async () => {
    go.disabled = true;
    status.textContent = "Judging the records in quarantine again…";
    try {
      shown = { ...asked(), ...(await post("api/replay/preview", asked())) };
      const { passing, failing } = shown;
      const names = [...new Set([...Object.keys(passing), ...Object.keys(failing)])];
      names.sort((one, other) => (passing[other] ?? 0) - (passing[one] ?? 0) || (failing[other] ?? 0) - (failing[one] ?? 0));
      const rows = names.map((name) => [name, number(passing[name] ?? 0), number(failing[name] ?? 0)]);
      body.replaceChildren(rows.length ? table("By reason", ["reason", "passes now", "fails still"], rows) : el("p", { class: "empty" }, "No record waits."));
      status.textContent = shown.records ? `${number(shown.records)} records pass by today's feed file.` : "None passes by today's feed file. Mend a rule in it first.";
      go.textContent = shown.records ? `Take ${number(shown.records)} records` : "Replay";
      go.disabled = !shown.records;
    } catch (error) {
      status.textContent = error.message;
    }
  };
  go.addEventListener("click", async () => {
    go.disabled = true;
    try {
      const { feed: of, reason, allow_late, token } = shown;
      const told = await post("api/replay", { feed: of, reason, allow_late, token });
      status.textContent = `${number(told.records)} records are in the ledger. Silver takes them ${told.is_running ? "now" : "with the next start"}.`;
      body.replaceChildren();
      done();
    } catch (error) {
      status.textContent = error.message;
    }
  });
  which.addEventListener("change", preview);
  late.addEventListener("change", preview);
  dialog.replaceChildren(
    el("h2", { id: "replay-title" }, `Replay of ${feed}`),
    el("p", {}, "Records in quarantine are judged again by today's feed file. Those that pass go to silver, and from there on."),
    el("div", { class: "fields" }, el("label", { for: "which" }, "Which"), which, el("label", { class: "check" }, late, " let lateness keep none out")),
    body, status, el("p", { class: "buttons" }, el("button", { type: "button", onclick: () => dialog.close() }, "Close"), go));
  dialog.showModal();
  await preview();
}

/** Show what came too late. */
export function late(reports) {
  const found = reports.filter((one) => one.rows);
  if (!found.length) {
    fill(byId("late"), el("p", { class: "empty" }, reports.length ? "Nothing came too late." : "The feed has no windows and no sessions."));
    return;
  }
  const rows = found.map((one) => {
    const newest = one.samples[0];
    const missed = newest?.window_start ? between(newest.window_start, newest.window_end) : "–";
    return [one.dataset, number(one.rows), missed, moment(newest?.kafka_ts)];
  });
  fill(byId("late"), table("Late rows", ["dataset", "rows", "newest missed", "Kafka time"], rows));
}

/** Start an audit of a feed, or take one that runs, and follow it to its verdict, for as long as the feed is shown. */
export async function audit(feed, isShown, run = null) {
  const target = byId("audit"), button = byId("audit-start");
  button.disabled = true;
  try {
    run ??= await post("api/audit", { feed });
    while (run.state === "running") {
      if (!isShown()) return;
      const bar = el("progress", { max: run.records || null, value: run.records ? run.judged : null, "aria-label": "Records judged" });
      fill(target, el("p", {}, `Judging every record of bronze again… ${run.records ? `${number(run.judged)} of ${number(run.records)}` : ""}`), bar);
      await new Promise((resolve) => setTimeout(resolve, 500));
      run = await get(`api/audit/${run.id}`);
    }
    if (isShown()) verdict(run);
  } catch (error) {
    if (isShown()) fill(target, el("p", { class: "wrong" }, error.message));
  }
  if (isShown()) button.disabled = false;
}

export function verdict(run) {
  const target = byId("audit");
  byId("audit-start").disabled = false;
  if (!run) return fill(target, el("p", { class: "empty" }, "No audit was started here yet."));
  if (run.state !== "done") return fill(target, el("p", { class: "wrong" }, run.error));
  const said = { right: "Nothing lost, nothing twice", wrong: "Something is wrong", "not audited": "Right, but not all could be looked at" }[run.verdict];
  const odd = run.report.checks.filter((check) => check.verdict !== "right");
  return fill(target,
    el("p", { class: `verdict ${run.verdict === "right" ? "right" : "wrong"}` }, said, el("span", { class: "hint" }, ` ${run.feed}, ${moment(run.finished)}`)),
    el("ul", {}, odd.map((check) => el("li", {}, check.sentence))),
    table("Counted", ["what", "count"], Object.entries(run.report.counts).map(([what, count]) => [what, number(count)])));
}

/** Render a feed's contract. */
export function contract(feed) {
  const { contract: declared } = feed;
  const rules = (field) => [
    field.length && `${field.length[0]} to ${field.length[1]} long`, field.range && `${field.range[0]} to ${field.range[1]}`,
    field.allowed && `one of ${field.allowed.length > 6 ? `${field.allowed.slice(0, 6).join(", ")} and ${field.allowed.length - 6} more` : field.allowed.join(", ")}`,
    field.pattern && `matches ${field.pattern}`, field.references && `known in ${field.references}`, field.pii && `pii: ${field.pii}`,
  ].filter(Boolean).join("; ");
  const path = (column, field) => (field.path ? field.path.join(".") : column);
  const fields = Object.entries(declared.fields).map(([column, field]) => [el("code", {}, column), el("code", {}, field.type), path(column, field), field.required === false ? "optional" : "required", rules(field)]);
  const derived = [
    ...Object.entries(declared.windows ?? {}).map(([name, one]) => [el("code", {}, name), "window", `${iso(one.window)}${one.slide ? ` every ${iso(one.slide)}` : ""}${one.key ? ` by ${[one.key].flat().join(", ")}` : ""}`, `watermark ${iso(one.watermark)}`]),
    ...Object.entries(declared.sessions ?? {}).map(([name, one]) => [el("code", {}, name), "session", `by ${one.keys.join(", ")}, to a pause of ${iso(one.gap)}`, `watermark ${iso(one.watermark)}`]),
    ...Object.entries(declared.totals ?? {}).map(([name, one]) => [el("code", {}, name), "total", `by ${one.keys.join(", ")}${one.top ? `, the first ${one.top.most} by ${one.top.by}` : ""}`, "running"]),
    ...feed.sinks.map((one) => [el("code", {}, one.name), one.to, `of ${one.of}`, one.guarantee]),
  ];
  const dedupe = declared.dedupe ? `, repeats by ${[declared.dedupe.key].flat().join(", ")} within ${iso(declared.dedupe.within)}` : "";
  byId("contract-hint").textContent = `topic ${feed.topic}, event time ${declared.event_time.field}, up to ${iso(declared.event_time.lateness)} late${dedupe}`;
  const across = Object.entries(declared.rules ?? {}).map(([name, rule]) => [el("code", {}, name), el("code", {}, rule.check), rule.severity ?? "quarantine"]);
  const lookups = Object.entries(declared.lookups ?? {}).map(([name, one]) => [el("code", {}, name), one.file ?? "PostgreSQL", `by ${one.key}`, (one.columns ? Object.keys(one.columns) : []).join(", ")]);
  fill(byId("contract"),
    table("Fields", ["column", "type", "in the record", "", "rules"], fields),
    across.length ? table("Rules across fields", ["rule", "check", "breaks"], across) : null,
    lookups.length ? table("Lookups", ["lookup", "from", "key", "columns"], lookups) : null,
    derived.length ? table("What is derived", ["name", "kind", "how", ""], derived) : null);
}

const iso = (text) => (text ? text.replace(/^P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?$/, (_, d, h, m, s) => [d && `${d} d`, h && `${h} h`, m && `${m} min`, s && `${s} s`].filter(Boolean).join(" ")) : "");

/** Show what an output is and holds. */
export async function details(feed, node, status, known) {
  const lineage = known ?? (await get(`api/lineage?feed=${feed}`).catch(() => null)); // not there yet: the page has just begun
  const dialog = byId("details"), rows = el("div", {}, el("p", { class: "hint" }, "Reading the newest rows…"));
  const newest = Object.entries(status.newest_taken ?? {}).map(([partition, at]) => `${partition}: ${when(at)}`).join(", ");
  const facts = [
    ["state", status.state + (status.restarts ? `, ${status.restarts} restarts` : "")], ["last error", status.last_error], ["batch", status.last_batch === null ? "none yet" : `${status.last_batch}, ${span(status.last_batch_age)} ago`],
    ["holds", status.files ? `${number(status.rows)} rows in ${number(status.files)} files, ${bytes(status.bytes)}` : ""], ["behind", status.behind === null ? "" : compact(status.behind)],
    ["waits for open transactions", status.held ? number(status.held) : ""], ["final up to", status.complete_up_to ? moment(status.complete_up_to) : ""], ["newest taken, by partition", newest],
    ["newest file", status.newest_file ?? ""], ["is in", node.place ?? ""], ["guarantee", status.guarantee],
  ].filter(([, value]) => value);
  dialog.replaceChildren(el("header", {}, el("h2", { id: "details-title" }, `${feed}.${node.name}`), el("button", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, "✕")),
    el("dl", {}, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])), rows, columns(`${feed}.${node.name}`, lineage));
  dialog.showModal();
  if (!node.rows) {
    rows.replaceChildren(el("p", { class: "hint" }, `It has the rows of ${node.of}.`));
    return;
  }
  try {
    const page = await get(`${node.rows.slice(1)}?limit=8`);
    const shown = Object.keys(page.rows[0] ?? {});
    const text = (value) => (value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value).slice(0, 120));
    rows.replaceChildren(shown.length ? table("Newest rows", shown, page.rows.map((row) => shown.map((column) => text(row[column])))) : el("p", { class: "empty" }, "It has no rows yet."));
  } catch (error) {
    rows.replaceChildren(el("p", { class: "wrong" }, error.message));
  }
}
