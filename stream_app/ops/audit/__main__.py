"""make audit [FEED=] - prove from the files that nothing of bronze is lost, doubled or altered.

Every record of bronze is judged again by the contract's definition: it is exactly silver's row of its place, exactly
quarantine's with every reason, or repeats a row that silver kept. The CSV and lakes equal silver row by row; windows,
sessions and the tables of PostgreSQL are computed anew, less the rows that are kept as late, which must be silver's and
late indeed. What a layer has not taken yet is counted as pending, and is no loss.

Exit 0: all is right. 1: something is WRONG, the line names the records. 2: a setting or a feed file is wrong.
3: all that was looked at is right, but not all could be looked at: a line NOT AUDITED says what.
"""

from stream_app.ops.audit import audit
from stream_app.ops.command import run

if __name__ == "__main__":
    run("audit", audit)
