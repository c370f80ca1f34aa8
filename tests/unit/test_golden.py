"""No verdict changes in silence: what the contract of this number says of records of every type is kept in a file."""

import hashlib
from itertools import zip_longest

from stream_app.feeds.types import SCALARS
from stream_app.flows import rules
from tests import golden

FILE_OF = {4: "78698548862f9497de075db427d8cab05750506ac7b437241c12631c1c71a66c"}
"""The sha256 of the file by the contract's number. Keep the old ones: none is given twice."""


def test_a_verdict_changes_with_the_contract_s_number_alone() -> None:
    kept, feed, changed = golden.PATH.read_text().splitlines(), "", []
    for was, now in zip_longest(kept, golden.lines()):
        feed = now if now and now.startswith("# ") else feed
        if was != now:
            changed.append(f"{feed}\n  was {was}\n  is  {now}")
    assert not changed, (
        f"the contract judges otherwise in {len(changed)} lines, so raise CONTRACT in flows/rules.py with its "
        "sentence, type: python -m tests.golden, and note the new file's sha256 in FILE_OF under the new number:\n"
        + "\n".join(changed[:9])
    )


def test_the_file_of_verdicts_is_that_of_the_contract_s_number() -> None:
    """Lines of new records or new types may come without a new number: then note the file's sha256 in its place."""
    found = hashlib.sha256(golden.PATH.read_bytes()).hexdigest()
    assert FILE_OF.get(rules.CONTRACT) == found, (
        f"tests/fixtures/verdicts.txt is not the one of contract {rules.CONTRACT}: if a verdict changed, raise CONTRACT"
    )
    assert max(FILE_OF) == rules.CONTRACT


def test_the_file_of_verdicts_has_every_type() -> None:
    declared = {str(one["type"]).partition("(")[0] for one in golden.DECLARED}
    assert declared == {*SCALARS, "decimal", "array", "map", "struct"}
