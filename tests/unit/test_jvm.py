"""Java programs start from any folder, in any locale; where none can, one line says why."""

import locale
import os
import shlex
from pathlib import Path

import pyspark
import pytest

from stream_app.errors import ConfigError
from stream_app.runtime import jvm, submit
from stream_app.settings import load_settings


def test_java_gets_a_locale_of_utf_8_and_this_program_keeps_its_own() -> None:
    before = locale.setlocale(locale.LC_CTYPE)
    assert jvm.environment()["LC_ALL"] in {"C.UTF-8", "en_US.UTF-8"}
    assert locale.setlocale(locale.LC_CTYPE) == before


def test_log4j_is_told_a_uri_in_which_no_sign_has_a_meaning_for_it_or_for_a_shell() -> None:
    option = jvm.log_option(Path("/a b,c#?%20+&'\"$/ü/log4j2.properties"))
    expected = "file:///a%20b%2Cc%23%3F%2520%2B%26%27%22%24/%C3%BC/log4j2.properties"
    assert option == f"-Dlog4j2.configurationFile={expected}"


@pytest.mark.parametrize(
    ("folder", "master", "sign"),
    [
        ("/a:b", "local[*]", ":"),
        ("/a\nb", "local[2]", "\\n"),
        (os.fsdecode(b"/\xff"), "local", "\\udcff"),
        ("/a,b", "spark://host:7077", ","),
        ("/a#b", "spark://host:7077", "#"),
    ],
)
def test_a_checkout_from_which_java_cannot_run_is_refused(
    folder: str, master: str, sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "PROJECT", Path(folder))
    with pytest.raises(ConfigError, match="in its name, where a path ends for Java; move it") as refused:
        submit.become_spark_submit(load_settings(_env_file=None, spark_master=master).spark, "text")
    assert f"'{sign}'" in str(refused.value)


def test_what_only_a_cluster_cannot_take_is_no_hindrance_here() -> None:
    assert jvm.unfit(Path("/a b,c#[d] {e} *?%'ü/x")) == ""


def test_classes_are_looked_for_where_most_are_and_not_among_those_of_machine_learning() -> None:
    option, listed = shlex.split(submit.class_path_option())
    jars = [Path(jar) for jar in listed.split(os.pathsep)]
    folder = Path(pyspark.__file__).parent / "jars"
    theirs = [jar.name for jar in jars if jar.parent == folder]
    assert (option, jars[len(jars) - len(theirs) :]) == ("-cp", [folder / name for name in theirs]), "ours come first"
    expected = [path.name for path in folder.glob("*.jar") if not path.name.startswith("spark-mllib_")]
    assert sorted(theirs) == sorted(expected), "a jar is missing, or one is there twice"
    for name, pattern in zip(theirs, submit._FIRST, strict=False):
        assert Path(name).match(f"{pattern}.jar"), "a name of this Spark"


def test_what_the_environment_adds_to_the_class_path_is_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH"):
        monkeypatch.setenv(name, f"/of/{name}")
    added = shlex.split(submit.class_path_option())[1].split(os.pathsep)[-3:]
    assert added == ["/of/HADOOP_CONF_DIR", "/of/YARN_CONF_DIR", "/of/SPARK_DIST_CLASSPATH"]


def test_a_class_path_of_any_folder_is_read_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By spark-submit, which reads options as a shell does."""
    project = tmp_path / "a b\\ \"c\" $d 'e'"
    (project / ".jars" / "spark").mkdir(parents=True)
    (jar := project / ".jars" / "spark" / "x.jar").touch()
    monkeypatch.setattr(submit, "PROJECT", project)
    assert shlex.split(submit.class_path_option())[1].split(os.pathsep)[0] == str(jar)
