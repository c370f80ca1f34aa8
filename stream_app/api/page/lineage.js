// Of what the columns of an output are made, as the feed file declares it.

import { el, table } from "./dom.js";

/** Return a table of an output's columns, each with what it is made of; folded, since most look for the rows. */
export function columns(id, lineage) {
  const node = lineage?.nodes.find((one) => one.id === id);
  if (!node) return null;
  const edges = lineage.edges.filter((one) => one.target === id);
  const made = Object.entries(node.columns).map(([column, type]) => {
    const from = edges.flatMap((edge) => (edge.columns[column] ?? []).map((one) => said(edge, one)));
    return [el("code", {}, column), el("code", {}, type), from.join(", ") || "–"];
  });
  const deciding = edges.flatMap((edge) => edge.decided_by.map((one) => said(edge, one)));
  return el("details", {}, el("summary", {}, `Lineage of ${made.length} columns`),
    deciding.length ? el("p", { class: "hint" }, `Which rows there are is decided by ${deciding.join(", ")}.`) : null,
    table("Lineage", ["column", "type", "made of"], made));
}

function said(edge, one) {
  const source = edge.source.slice(edge.source.search(/[.:]/) + 1);
  const how = one.by || (one.how === "IDENTITY" ? "" : one.how.toLowerCase().replace("_", " "));
  return `${source}.${one.column}${how ? ` (${how})` : ""}`;
}
