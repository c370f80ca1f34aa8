"""The files of the landing zone: where they are, and what their names say.

    <landing>/<topic>/date=2026-11-21/hour=01/<topic>_p0_1200-1999.jsonl.zst

The date and the hour are those of the run, in UTC. The numbers are the partition, and the offsets of the first record
and of the last. Offsets between them may have no record, as where a transaction was aborted. No two files share an
offset, and no file is ever changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stream_app.errors import ConfigError
from stream_app.storage.batch_files import replace_text
from stream_app.storage.layout import staging

_FOLDER = re.compile(r"date=(\d{4}-\d\d-\d\d)/hour=(\d\d)")
_NAME = re.compile(r"_p(\d{1,10})_(\d{1,19})-(\d{1,19})\.jsonl\.zst")
# A topic's name may have 249 signs and a file's 255; the numbers in it need up to 60.
_LONGEST_PREFIX = 180


@dataclass(frozen=True, order=True)
class LandedFile:
    """A file of the landing zone. Files order by partition and offsets."""

    partition: int
    first: int
    """The offset of its first record."""
    last: int
    """The offset of its last record."""
    hour: datetime
    """The hour in which the run began that wrote it, in UTC."""
    path: Path

    def __post_init__(self) -> None:
        """Refuse offsets that no file can have."""
        if not 0 <= self.first <= self.last:
            raise ConfigError(f"{self.path}: its name has no offsets such as 0-99; move it out of the landing zone")


@dataclass(frozen=True)
class Zone:
    """What a landing zone holds of one topic."""

    root: Path
    """LANDING_PATH."""
    topic: str

    @property
    def folder(self) -> Path:
        """The folder of the topic."""
        return self.root / self.topic

    @property
    def staging(self) -> Path:
        """The folder of files in the making; a run that dies leaves them there, and the next one deletes them."""
        return staging(self.folder)

    @property
    def about(self) -> Path:
        """The file that says which topic it is, by the id that the broker gave it."""
        return self.folder / "_topic.json"

    @property
    def about_groups(self) -> Path:
        """The file that says how far runs have come here, by group: files may be gone, and gaps have none."""
        return self.folder / "_groups.json"

    def file(self, time: datetime, partition: int, first: int, last: int) -> LandedFile:
        """Return the file of those offsets, of a run that began at that time."""
        hour = time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        name = f"{self.topic[:_LONGEST_PREFIX]}_p{partition}_{first}-{last}.jsonl.zst"
        return LandedFile(partition, first, last, hour, self.folder / f"{hour:date=%Y-%m-%d/hour=%H}" / name)

    def files(self) -> list[LandedFile]:
        """Return every file, by partition and offsets. Names that no run gives are passed over.

        Raises ConfigError where two files hold the same offsets.
        """
        found = sorted(filter(None, map(self.parse, self.folder.glob("date=*/hour=*/*.jsonl.zst"))))
        for one, other in overlaps(found):
            problem = f"{one.path} and {other.path} hold the same offsets; move one out of the landing zone"
            raise ConfigError(problem)
        return found

    def parse(self, path: Path) -> LandedFile | None:
        """Return the file of that path, or None where no run gives such a name."""
        folder, prefix = _FOLDER.fullmatch("/".join(path.parts[-3:-1])), self.topic[:_LONGEST_PREFIX]
        name = _NAME.fullmatch(path.name.removeprefix(prefix))
        if not (folder and name and path.name.startswith(prefix)):
            return None
        try:
            hour = datetime.fromisoformat(f"{folder[1]}T{folder[2]}:00:00+00:00")
        except ValueError:  # digits that are no date
            return None
        return LandedFile(int(name[1]), int(name[2]), int(name[3]), hour, path)

    def claim(self, topic_id: str) -> None:
        """Note which topic the folder is of. Raise ConfigError where it is of one that was deleted since.

        A topic that was made again counts its offsets from 0, so its records would be taken for landed ones.
        """
        known = self.topic_id()
        if known is None:
            replace_text(self.about, json.dumps({"topic": self.topic, "id": topic_id}))
        elif known != topic_id:
            problem = f"{self.folder} is of a topic {self.topic} that was deleted since, and made again"
            raise ConfigError(f"LANDING_PATH: {problem}; move that folder away, or give another LANDING_PATH")

    def topic_id(self) -> str | None:
        """Return the id of the topic that the folder is of; None for a folder of none."""
        try:
            return str(json.loads(self.about.read_text())["id"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{self.about}: is damaged; it says which topic {self.folder} is of") from None

    def passed(self, group: str) -> dict[int, int]:
        """Return by partition where runs of that consumer group have come to in this landing zone."""
        return self._groups().get(group, {})

    def note_passed(self, group: str, ends: Mapping[int, int]) -> None:
        """Note where a run of that consumer group has come to."""
        groups = self._groups()
        groups[group] = groups.get(group, {}) | dict(ends)
        replace_text(self.about_groups, json.dumps(groups))

    def _groups(self) -> dict[str, dict[int, int]]:
        try:
            noted = json.loads(self.about_groups.read_text())
            return {group: {int(partition): int(at) for partition, at in own.items()} for group, own in noted.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            raise ConfigError(f"{self.about_groups}: is damaged; delete it, and the next run makes it again") from None


def overlaps(files: Sequence[LandedFile]) -> Iterator[tuple[LandedFile, LandedFile]]:
    """Yield neighbours that hold the same offsets, of files in their order."""
    widest: LandedFile | None = None
    for file in files:
        if widest and widest.partition == file.partition and file.first <= widest.last:
            yield widest, file
        if widest is None or (widest.partition, widest.last) < (file.partition, file.last):
            widest = file


def behind(files: Iterable[LandedFile]) -> dict[int, int]:
    """Return the offset behind the last one that files hold of each partition."""
    ends: dict[int, int] = {}
    for file in files:
        ends[file.partition] = max(ends.get(file.partition, 0), file.last + 1)
    return ends
