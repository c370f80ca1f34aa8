"""What the DAG of the sales asks of the outputs, and what it makes of the answers."""

from __future__ import annotations

from typing import Any

# Silver has one sale of a vente_id in an hour: another one that was sent is a repeat of it.
PLACED = """
    WITH sent AS (
        SELECT partition, "offset", kafka_ts, TRY((decode(value)::JSON ->> 'vente_id')::BIGINT) AS vente_id
        FROM sales.bronze WHERE {sent}
    ),
    judged AS (
        SELECT partition, "offset", 'silver' AS layer FROM sales.silver WHERE {sent}
        UNION ALL SELECT partition, "offset", 'quarantine' FROM sales.quarantine WHERE {sent}
    ),
    kept AS (
        SELECT vente_id FROM sales.silver WHERE kafka_ts > (SELECT min(kafka_ts) FROM sent) - INTERVAL 2 HOUR
    ),
    placed AS (SELECT * FROM sent LEFT JOIN judged USING (partition, "offset"))
    SELECT count(*) AS bronze,
        count(*) FILTER (layer = 'silver') AS silver,
        count(*) FILTER (layer = 'quarantine') AS quarantine,
        count(*) FILTER (layer IS NULL AND vente_id IN (FROM kept)) AS repeats
    FROM placed
"""
# Both tables follow silver. At versions that have read the same of it they say the same, whatever comes meanwhile.
TOTALS = """
    WITH clean AS (FROM sales.ventes_clean AT (VERSION => {ventes_clean})),
    again AS (
        SELECT produit_nom, pays, sum(montant) AS amount, sum(quantite) AS pieces, count(*) AS sales
        FROM clean GROUP BY ALL
    ),
    held AS (
        SELECT produit_nom, pays, total_montant AS amount, total_quantite AS pieces, nombre_ventes AS sales
        FROM sales.ventes_aggreges AT (VERSION => {ventes_aggreges})
    )
    SELECT (SELECT count(*) FROM clean WHERE {sent}) AS taken,
        (SELECT coalesce(sum(sales), 0) FROM again) AS silver,
        (SELECT coalesce(sum(sales), 0) FROM held) AS totals,
        (SELECT count(*) FROM ((FROM again EXCEPT FROM held) UNION ALL (FROM held EXCEPT FROM again))) AS differing
"""
SOLD = """
    SELECT produit_nom AS product, count(*) AS sales, sum(quantite) AS pieces, sum(montant) AS amount
    FROM sales.silver WHERE {sent} GROUP BY ALL ORDER BY amount DESC
"""


def same_versions(histories: list[dict[str, Any]]) -> dict[str, int]:
    """Return the newest versions of the two tables that have read the same of silver; nothing where there are none."""
    by_offsets = {
        one["sink"].rpartition(".")[2]: {
            made["offsets"]: made["version"] for made in reversed(one["versions"]) if made["offsets"]
        }
        for one in histories
    }
    clean, totals = by_offsets["ventes_clean"], by_offsets["ventes_aggreges"]
    common = [offsets for offsets in clean if offsets in totals]
    return {"ventes_clean": clean[common[-1]], "ventes_aggreges": totals[common[-1]]} if common else {}


def where(sent: dict[str, Any]) -> str:
    """Return the SQL condition for the records that were sent: by their offsets, whoever else sends meanwhile."""
    ranges = [(partition, *one) for partition, many in sent["offsets"].items() for one in many]
    return " OR ".join(f'(partition = {p} AND "offset" BETWEEN {first} AND {last})' for p, first, last in ranges)


def quality(
    sent: dict[str, Any], held: dict[str, Any], totals: dict[str, Any], age: float, most: float, oldest: int
) -> list[dict[str, Any]]:
    """Return each check: its name, what was found, what is allowed, and whether it passed.

    `most` is the share of quarantine that is allowed, and `oldest` the age of silver's newest record in seconds.
    """
    count = sent["acknowledged"]
    judged = held["silver"] + held["quarantine"] + held["repeats"]
    share = held["quarantine"] / count
    found = (
        ("bronze holds them", f"{held['bronze']} of {count}", "all", held["bronze"] == count),
        ("silver has judged them", f"{judged} of {count}", "all", judged == count),
        ("quarantine share", f"{share:.1%}", f"at most {most:.1%}", share <= most),
        ("freshness of silver", f"{age:.0f} s", f"at most {oldest} s", age <= oldest),
        (
            "totals agree with silver",
            f"{totals['totals']} of {totals['silver']} sales, {totals['differing']} groups differ",
            "no difference",
            totals["differing"] == 0 and totals["taken"] == held["silver"],
        ),
    )
    return [{"check": name, "found": value, "allowed": allowed, "ok": ok} for name, value, allowed, ok in found]
