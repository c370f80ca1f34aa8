"""Every change to an output folder goes through Hadoop's FileSystem, so that no .crc beside a file is ever a stale one.

A rename by other means leaves an old checksum behind, and the next Spark read of the file fails (measured on 4.2.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from stream_app.storage.batch_files import sync

_ARROW = "ARROW:schema"


class Hadoop:
    """The file system of the output folders, reached through the session's JVM."""

    def __init__(self, spark: SparkSession) -> None:
        jvm: Any = spark._jvm
        # py4j looks a class up in every jar each time that its name is spelled out
        self._path_class: Any = jvm.org.apache.hadoop.fs.Path
        self._parquet: Any = jvm.org.apache.parquet.hadoop
        self._overwrite: Any = jvm.java.lang.Enum.valueOf(
            jvm.java.lang.Class.forName("org.apache.parquet.hadoop.ParquetFileWriter$Mode"), "OVERWRITE"
        )
        self._conf: Any = spark._jsparkSession.sessionState().newHadoopConf()
        self._fs: Any = jvm.org.apache.hadoop.fs.FileSystem.getLocal(self._conf)
        # Parquet pages and RocksDB's files carry their own; this file system is also that of the checkpoints
        self._fs.setWriteChecksum(False)

    def delete(self, path: Path) -> None:
        """Delete a file or a folder with all in it; nothing happens where there is none."""
        self._fs.delete(self._path(path), True)

    def publish(self, staged: Path, final: Path) -> None:
        """Give a finished file its final name, by one atomic rename, after its bytes have reached the disk.

        Raises FileExistsError rather than replace a file, OSError where the rename did not happen.
        """
        if final.exists():
            raise FileExistsError(str(final))
        sync(staged)
        self._fs.mkdirs(self._path(final.parent))
        if not self._fs.rename(self._path(staged), self._path(final)):
            msg = f"cannot rename {staged} to {final}"
            raise OSError(msg)
        sync(final.parent)

    def concat_parquet(self, parts: Sequence[Path], target: Path, says: Mapping[bytes, bytes]) -> None:
        """Copy the row groups of all parts, in order, into one file, without decoding them.

        The file has `says` as its metadata, beside pyarrow's own of the first part. All parts must have the first
        one's schema (parquet-mr checks it).
        """
        hadoop = self._parquet
        inputs = [hadoop.util.HadoopInputFile.fromPath(self._path(part), self._conf) for part in parts]
        first = hadoop.ParquetFileReader.open(inputs[0])
        try:
            metadata = first.getFooter().getFileMetaData()
            arrow = metadata.getKeyValueMetaData().get(_ARROW)
        finally:
            first.close()
        output = hadoop.util.HadoopOutputFile.fromPath(self._path(target), self._conf)
        writer = hadoop.ParquetFileWriter(output, metadata.getSchema(), self._overwrite, 128 << 20, 8 << 20)
        writer.start()
        for file in inputs:
            writer.appendFile(file)
        pairs = {key.decode(): value.decode() for key, value in says.items()}
        writer.end(pairs | ({_ARROW: arrow} if arrow else {}))

    def _path(self, path: Path) -> Any:
        return self._path_class("file", None, str(path.absolute()))  # as it is: a URI would encode "="
