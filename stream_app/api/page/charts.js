// Time series by uPlot, and the stacked bars of quarantine by ECharts, in the colours of the page.

import { between, compact, ticks, when } from "./dom.js";

const drawn = new Map();
let bars = null;

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const COLOURS = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"];

const axis = (more) => ({ stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui", ...more });

/** Return the labels of the ticks of a chart, by the time that all of its points take. */
const timed = (chart, at) => ticks(at, at[1] - at[0], chart.data[0].at(-1) - chart.data[0][0]);

function options(width, series, stepped, unit) {
  return {
    width, height: 190, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"), cursor: { points: { size: 6 }, y: false }, legend: { live: true },
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
    axes: [axis({ space: 76, values: timed }), axis({ size: 54, values: (_, at) => at.map((tick) => compact(tick)) })],
    series: [{ value: (_, at) => (at ? when(new Date(at * 1000).toISOString()) : "–") }, ...series.map((name, i) => ({
      label: name, stroke: colour(COLOURS[i % COLOURS.length]), width: 1.75, spanGaps: true, points: { show: false },
      paths: stepped ? uPlot.paths.stepped({ align: -1 }) : undefined,
      value: (_, value) => (value === null || value === undefined ? "" : `${value >= 100 ? compact(Math.round(value)) : value.toFixed(1)}${unit}`),
    }))],
  };
}

/** Draw series over time: `times` in seconds, a list of values a name. */
export function lines(target, times, series, { stepped = false, unit = "" } = {}) {
  const names = Object.keys(series), data = [times, ...Object.values(series)];
  if (times.length < 2 || !names.length) {
    drawn.get(target)?.chart.destroy();
    drawn.delete(target);
    target.replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: "Not enough seen yet." }));
    return;
  }
  const key = `${names} ${document.documentElement.dataset.theme} ${matchMedia("(prefers-color-scheme: dark)").matches} ${target.clientWidth}`;
  const known = drawn.get(target);
  if (known?.key === key) {
    known.chart.setData(data);
  } else {
    known?.chart.destroy();
    target.replaceChildren();
    drawn.set(target, { key, chart: new uPlot(options(target.clientWidth, names, stepped, unit), data, target) });
  }
  const last = names.map((name, i) => `${name} ${compact(Math.round(data[i + 1].findLast((value) => value !== null) ?? 0))}${unit}`);
  target.setAttribute("role", "group");
  target.setAttribute("aria-label", `Newest values: ${last.join(", ")}`);
}

/** Draw the records that were refused over time, a colour a reason; the rarest reasons together. */
export function stacked(target, course) {
  if (!course || !course.buckets.length) {
    bars?.dispose();
    bars = null;
    target.hidden = true;
    return;
  }
  target.hidden = false;
  const totals = new Map();
  for (const one of course.buckets) totals.set(one.reason, (totals.get(one.reason) ?? 0) + one.records);
  const top = course.top;
  const rows = new Map();
  for (const one of course.buckets) {
    const name = top.includes(one.reason) ? one.reason : "others";
    if (!rows.has(name)) rows.set(name, new Map());
    rows.get(name).set(one.start, (rows.get(name).get(one.start) ?? 0) + one.records);
  }
  const first = Date.parse(course.buckets[0].start), last = Date.parse(course.buckets.at(-1).start), step = course.seconds * 1000;
  const starts = [], all = (last - first + step) / 1000;
  for (let at = first; at <= last; at += step) starts.push(new Date(at).toISOString().replace(".000Z", "Z"));
  const muted = colour("muted"), line = colour("line");
  const series = [...top, "others"].filter((name) => rows.has(name)).map((name, i) => ({
    name, type: "bar", stack: "all", barCategoryGap: "18%", itemStyle: { color: colour(name === "others" ? COLOURS.at(-1) : COLOURS[i]) }, emphasis: { disabled: true },
    data: starts.map((start) => rows.get(name).get(start) ?? 0),
  }));
  bars ??= echarts.init(target, null, { renderer: "canvas" });
  bars.setOption({
    animation: false, textStyle: { fontFamily: "system-ui", color: muted },
    grid: { left: 4, right: 4, top: 8, bottom: 2, containLabel: true },
    tooltip: { trigger: "axis", renderMode: "richText", backgroundColor: colour("card"), borderColor: line, textStyle: { color: colour("text"), fontSize: 12 } },
    xAxis: { type: "category", data: ticks(starts.map((start) => Date.parse(start) / 1000), course.seconds, all), axisLine: { lineStyle: { color: line } }, axisTick: { show: false }, axisLabel: { color: muted, fontSize: 11 } },
    yAxis: { type: "value", minInterval: 1, splitLine: { lineStyle: { color: line } }, axisLabel: { color: muted, fontSize: 11 } },
    series,
  }, { notMerge: true });
  bars.resize();
  target.setAttribute("role", "img");
  target.setAttribute("aria-label", `Refused records of ${between(starts[0], starts.at(-1))}, by reason: ${[...totals].slice(0, 5).map(([reason, count]) => `${reason} ${count}`).join(", ")}`);
}
