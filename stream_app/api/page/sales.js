// The sales of the feed `sales`: revenue by hour, the best products, and products by country, each as a chart and a table.

import { get } from "./api.js";
import { COLOURS, colour } from "./charts.js";
import { byId, compact, el, fill, number, table } from "./dom.js";
import { records } from "./hints.js";

const HOURS = 48, PRODUCTS = 10, ROWS = 1000;
const FEED = "sales"; // what the API's reports are of
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const drawn = new Map();
let tag = "";

/** Show the charts of a feed that has sales, as they are by now; hide them for any other. */
export async function refresh(feed, isRunning) {
  byId("sales").hidden = feed.name !== FEED;
  if (feed.name !== FEED) return;
  const [hours, best, pairs] = await Promise.all([
    get(`api/hourly_sales?limit=${HOURS}&numbers=float`), get(`api/top_products?limit=${PRODUCTS}&numbers=float`), get(`api/aggregated_sales?limit=${ROWS}&numbers=float`),
  ]);
  byId("sales-charts").hidden = !pairs.length;
  const missing = el("p", { class: "empty" }, "No sales yet. ", records(feed, isRunning), ".");
  fill(byId("sales-empty"), pairs.length ? null : missing);
  const sum = pairs.reduce((total, one) => total + one.total_montant, 0), count = pairs.reduce((total, one) => total + one.total_quantite, 0);
  byId("sales-hint").textContent = pairs.length ? `${money.format(sum)} in all, ${number(count)} pieces` : "";
  if (!pairs.length) return;
  const look = `${document.documentElement.dataset.theme} ${matchMedia("(prefers-color-scheme: dark)").matches} ${byId("sales-hours").clientWidth}`;
  const fresh = JSON.stringify([look, hours, best, pairs]);
  if (fresh === tag) return;
  tag = fresh;
  byHour([...hours].reverse());
  byProduct(best);
  byCountry(pairs);
}

function byHour(hours) {
  const running = new Date().toISOString().slice(0, 13).replace("T", " ");
  const days = new Set(hours.map((one) => one.heure.slice(0, 10))).size;
  const label = (one) => one.heure.slice(days > 1 ? 5 : 11, 16);
  const bars = hours.map((one) => ({ value: one.total_montant, itemStyle: { color: colour("c1"), opacity: one.heure.startsWith(running) ? 0.5 : 1 } }));
  draw("sales-hours", {
    xAxis: { type: "category", data: hours.map(label) }, yAxis: { type: "value" },
    series: [{ name: "revenue", type: "bar", data: bars, barCategoryGap: "22%" }],
  }, `Revenue by hour in UTC: ${hours.slice(-6).map((one) => `${label(one)} ${money.format(one.total_montant)}`).join(", ")}`);
  asTable("sales-hours", "Revenue by hour", ["hour, UTC", "revenue", "pieces"], [...hours].reverse().map((one) => [one.heure.slice(0, 16), money.format(one.total_montant), number(one.total_quantite)]));
}

function byProduct(best) {
  draw("sales-products", {
    xAxis: { type: "value" }, yAxis: { type: "category", inverse: true, data: best.map((one) => one.produit_nom) },
    series: [{ name: "revenue", type: "bar", data: best.map((one) => one.total_montant), itemStyle: { color: colour("c2") }, barCategoryGap: "28%" }],
  }, `The best products: ${best.slice(0, 5).map((one) => `${one.produit_nom} ${money.format(one.total_montant)}`).join(", ")}`);
  asTable("sales-products", "Best products", ["product", "revenue"], best.map((one) => [one.produit_nom, money.format(one.total_montant)]));
}

/** Draw a bar a product, of a part a country; the countries that bring least are together. */
function byCountry(pairs) {
  const ranked = (key) => {
    const sums = new Map();
    for (const one of pairs) sums.set(one[key], (sums.get(one[key]) ?? 0) + one.total_montant);
    return [...sums].sort((one, other) => other[1] - one[1]).map(([name]) => name);
  };
  const products = ranked("produit_nom").slice(0, PRODUCTS), all = ranked("pays");
  const top = all.length > COLOURS.length ? all.slice(0, COLOURS.length - 1) : all;
  const groups = all.length > top.length ? [...top, "others"] : top;
  const amount = (product, country) => pairs.reduce((sum, one) => sum + (one.produit_nom === product && (country === "others" ? !top.includes(one.pays) : one.pays === country) ? one.total_montant : 0), 0);
  draw("sales-countries", {
    legend: { type: "scroll", top: 0, textStyle: { color: colour("muted") }, itemWidth: 11, itemHeight: 11, pageTextStyle: { color: colour("muted") }, pageIconColor: colour("muted"), pageIconInactiveColor: colour("line") },
    xAxis: { type: "value" }, yAxis: { type: "category", inverse: true, data: products },
    series: groups.map((country, i) => ({ name: country, type: "bar", stack: "all", data: products.map((product) => amount(product, country)), itemStyle: { color: colour(COLOURS[i]) }, barCategoryGap: "28%" })),
  }, `Revenue by product and country: ${pairs.slice(0, 5).map((one) => `${one.produit_nom} in ${one.pays} ${money.format(one.total_montant)}`).join(", ")}`);
  asTable("sales-countries", "Products by country", ["product", "country", "revenue", "pieces"], pairs.slice(0, 100).map((one) => [one.produit_nom, one.pays, money.format(one.total_montant), number(one.total_quantite)]));
}

function draw(id, { legend, xAxis, yAxis, series }, said) {
  const target = byId(id), muted = colour("muted"), line = colour("line");
  const axis = (given) => ({
    ...given, axisTick: { show: false }, axisLine: { show: given.type === "category", lineStyle: { color: line } }, splitLine: { show: given.type === "value", lineStyle: { color: line } },
    axisLabel: { color: muted, fontSize: 11, ...(given.type === "value" ? { formatter: compact, hideOverlap: true } : { width: 130, overflow: "truncate" }) },
  });
  if (!drawn.has(id)) drawn.set(id, echarts.init(target, null, { renderer: "canvas" }));
  const chart = drawn.get(id);
  chart.resize();
  chart.setOption({
    animation: false, textStyle: { fontFamily: "system-ui", color: muted }, legend, xAxis: axis(xAxis), yAxis: axis(yAxis),
    grid: { left: 4, right: 14, top: legend ? 30 : 8, bottom: 2, containLabel: true },
    tooltip: { trigger: "axis", axisPointer: { type: "shadow" }, renderMode: "richText", confine: true, valueFormatter: (value) => money.format(value), backgroundColor: colour("card"), borderColor: line, textStyle: { color: colour("text"), fontSize: 12 } },
    series: series.map((one) => ({ ...one, emphasis: { disabled: true } })),
  }, { notMerge: true });
  target.setAttribute("role", "img");
  target.setAttribute("aria-label", said);
}

function asTable(id, caption, columns, rows) {
  fill(byId(`${id}-table`), table(caption, columns, rows));
}
