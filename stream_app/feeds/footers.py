"""What the footer of a Parquet file tells of a column of a feed."""

from __future__ import annotations

import pyarrow.parquet as pq


def statistics_of(footer: pq.FileMetaData, column: str) -> list[pq.Statistics | None]:
    """Return the statistics of a column of single values, for each row group.

    A footer counts leaves: a nested column has several, and the name of one may be that of another column.
    """
    leaves = [footer.schema.column(leaf).path for leaf in range(footer.num_columns)]
    place = leaves.index(column)
    return [footer.row_group(group).column(place).statistics for group in range(footer.num_row_groups)]


def newest_of(footer: pq.FileMetaData, column: str) -> int | None:
    """Return the greatest value of a column of times, in microseconds since the epoch; None where they do not tell."""
    try:
        found = statistics_of(footer, column)
    except ValueError:
        return None
    newest = [int(one.max_raw) for one in found if one is not None and one.has_min_max]
    return max(newest) if newest and len(newest) == len(found) else None
