"""Which data set is taken, against a server of our own: nothing here leaves this machine."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from pyarrow import fs, parquet
from structlog.testing import capture_logs
from typing_extensions import override

from training.data.datasets import SAMPLE_NAME, DatasetFolder, resolve
from training.data.download import Download
from training.data.movielens.data_set import read_data_set
from training.data.movielens.problems import DataError

RATINGS = "userId,movieId,rating,timestamp\n7,20,4.0,100\n"
MOVIES = "movieId,title,genres\n20,Film (1999),Drama\n"


def write(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "ratings.csv").write_text(RATINGS)
    (folder / "movies.csv").write_text(MOVIES)
    return folder


def zipped(name: str = "ml-tiny") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{name}/ratings.csv", RATINGS)
        archive.writestr(f"{name}/movies.csv", MOVIES)
    return content.getvalue()


@dataclass
class Answer:
    """What the server answers, and whether it was asked; the last `missing` bytes never come."""

    body: bytes
    status: int = 200
    missing: int = 0
    stalls: bool = False
    asked: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(answer: Answer) -> Iterator[Download]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) - answer.missing])
            self.wfile.flush()
            answer.asked.set()
            if answer.stalls:
                answer.released.wait(30)

        @override
        def log_message(self, format: str, *args: object) -> None: ...  # not into the tests' output

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    sha256 = hashlib.sha256(answer.body).hexdigest()
    try:
        yield Download(f"http://127.0.0.1:{server.server_port}/ml-tiny.zip", sha256)
    finally:
        answer.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def nobody() -> Download:
    """A port that refuses connections."""
    with serving(Answer(b"")) as download:
        pass
    return download


def content(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_a_folder_with_two_layouts_says_which_was_taken(tmp_path: Path) -> None:
    for name in ("u.data", "u.item", "ratings.csv", "movies.csv"):
        (tmp_path / name).touch()
    source = resolve(tmp_path).source
    assert source.endswith("Read are ratings.csv and movies.csv; also there, and not read: u.data, u.item.")
    (tmp_path / "u.item").unlink()
    assert "not read" not in resolve(tmp_path).source


def test_the_chosen_folder_comes_first(tmp_path: Path, nobody: Download) -> None:
    write(tmp_path / "data" / "ml-tiny")
    chosen = write(tmp_path / "mine")
    found = resolve(chosen, root=tmp_path / "data", download=nobody)
    assert found == DatasetFolder("mine", chosen, f"mine in {chosen}.")


def test_a_chosen_folder_that_is_none_is_an_error(tmp_path: Path, nobody: Download) -> None:
    write(tmp_path / "data" / "ml-tiny")
    for folder in (tmp_path / "absent", tmp_path):
        with pytest.raises(
            DataError, match=f"--data-dir or MOVIEREC_DATA_DIR does not name a data set: {folder} is not a"
        ):
            resolve(folder, root=tmp_path / "data", download=nobody)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[fs.SubTreeFileSystem]:
    """The bucket `ours` of a server of S3's API; the environment leads there, as operators set it."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  # two seconds in every worker, for two tests

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    store, path = fs.FileSystem.from_uri("s3://ours?allow_bucket_creation=true")
    store.create_dir(path)
    yield fs.SubTreeFileSystem(path, store)
    server.stop()


def test_a_data_set_in_a_bucket_is_copied_each_time(
    bucket: fs.SubTreeFileSystem, tmp_path: Path, nobody: Download
) -> None:
    local = write(tmp_path / "local")
    (local / "notes.txt").touch()
    fs.copy_files(str(local), "all/mine", destination_filesystem=bucket)
    root = tmp_path / "data"
    found = resolve("s3://ours/all/mine/", root=root, download=nobody)
    folder = found.folder
    assert folder.is_relative_to(root)
    assert found == DatasetFolder("mine", folder, f"mine in {folder}.")
    assert content(folder) == ["movies.csv", "ratings.csv"]
    assert (folder / "ratings.csv").read_text() == RATINGS

    bucket.delete_file("all/mine/ratings.csv")
    ratings = pa.table({"userId": [7, 8], "movieId": [20, 20], "rating": [4.0, 5.0], "timestamp": [100, 200]})
    for user in range(2):  # as Spark writes them, in parts
        name = f"all/mine/ratings.parquet/part={user}/0.parquet"
        parquet.write_table(ratings.slice(user, 1), name, filesystem=bucket)
    with pytest.raises(DataError, match="is not a data set"):
        resolve("s3://ours/all", root=root)
    assert content(folder) == ["movies.csv", "ratings.csv"]  # what lies in it keeps its copy
    again = resolve("s3a://ours/all/mine", root=root, download=nobody)
    assert again == found
    assert content(folder) == ["movies.csv", "ratings.parquet"]
    _, cleaned = read_data_set(again.folder)
    assert cleaned.ratings.users.ids.tolist() == [7, 8]


def test_a_bucket_that_holds_no_data_set_is_an_error(
    bucket: fs.SubTreeFileSystem, tmp_path: Path, nobody: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("ours/all", "theirs/all"):
        expected = (
            f"--data-dir or MOVIEREC_DATA_DIR does not name a data set: {tmp_path}/s3/[0-9a-f]+/"
            f"{Path(path).name} is not a"
        )
        with pytest.raises(DataError, match=expected):
            resolve(f"s3://{path}", root=tmp_path)
    for address in (
        "s3://",
        "s3://key:secret@",
        "s3://ours/../..",
        "s3://ours//all",
        "s3://key:se cret@ours/all",
    ):
        with pytest.raises(
            DataError, match=r"^--data-dir or MOVIEREC_DATA_DIR must be a folder, or s3://BUCKET/PREFIX$"
        ):
            resolve(address, root=tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", nobody.url.rpartition("/")[0])
    with pytest.raises(DataError, match=r"^s3://ours/all cannot be copied to .*onnect") as caught:
        resolve("s3://ours/all", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_key_that_leads_out_of_the_data_set_is_refused(
    bucket: fs.SubTreeFileSystem, tmp_path: Path
) -> None:
    write(tmp_path / "local")
    fs.copy_files(str(tmp_path / "local"), "all", destination_filesystem=bucket)
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415  # as moto, with which it comes

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_object(Bucket="ours", Key="all/ratings.parquet/../../../out.parquet", Body=b"planted")
    with pytest.raises(DataError, match=r"out\.parquet does not lie in the data set$"):
        resolve("s3://ours/all", root=tmp_path / "data")
    assert list(tmp_path.rglob("out.parquet")) == []


def test_a_folder_at_hand_comes_second(tmp_path: Path, nobody: Download) -> None:
    folder = write(tmp_path / "ml-tiny")
    found = resolve(None, root=tmp_path, download=nobody)
    assert found == DatasetFolder("ml-tiny", folder, f"ml-tiny, found in {folder}.")


def test_an_incomplete_folder_at_hand_is_an_error(tmp_path: Path, nobody: Download) -> None:
    (write(tmp_path / "ml-tiny") / "movies.csv").unlink()
    with pytest.raises(DataError, match=r"is not a data set: .* Complete the folder, or remove it"):
        resolve(None, root=tmp_path, download=nobody)
    assert content(tmp_path) == ["ml-tiny"]


def test_the_download_comes_third_and_stays(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with serving(Answer(zipped())) as download:
        found = resolve(None, root=root, download=download)
    folder = root / "ml-tiny"
    assert found == DatasetFolder("ml-tiny", folder, f"ml-tiny, downloaded from {download.url} to {folder}.")
    assert content(root) == ["ml-tiny"]
    assert read_data_set(folder)[1].counts.kept == 1
    assert resolve(None, root=root, download=download).source == f"ml-tiny, found in {folder}."


@pytest.mark.parametrize(
    ("body", "status", "sha256", "words"),
    [
        (zipped(), 200, "0" * 64, "is not the file it was"),
        *((zipped(), status, None, f"{status}.*MOVIEREC_DATA_DIR") for status in (403, 404, 500, 503)),
        (b"no zip file", 200, None, None),
        (zipped("other"), 200, None, None),
    ],
    ids=["checksum", "403", "404", "500", "503", "no zip file", "another name"],
)
def test_what_is_not_the_data_set_is_an_error(
    tmp_path: Path, body: bytes, status: int, sha256: str | None, words: str | None
) -> None:
    with serving(Answer(body, status=status)) as download, pytest.raises(DataError, match=words):
        resolve(None, root=tmp_path, download=Download(download.url, sha256 or download.sha256))
    assert content(tmp_path) == []


def test_no_connection_leads_to_the_sample(tmp_path: Path, nobody: Download) -> None:
    with capture_logs() as logs:
        found = resolve(None, root=tmp_path, download=nobody)
    assert logs[-1]["error"] == f"[Errno {errno.ECONNREFUSED}] Connection refused"
    assert (found.name, found.folder) == (SAMPLE_NAME, tmp_path / SAMPLE_NAME)
    assert f"generated in {found.folder}, since {nobody.url} could not be reached" in found.source
    assert "invented" in found.source
    assert content(tmp_path) == [SAMPLE_NAME]


@pytest.fixture
def copied_sample(generated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample is copied, not made: that takes a second each time."""
    monkeypatch.setattr(
        "training.data.kept_sample.write_sample",
        lambda folder: shutil.copytree(generated, folder, dirs_exist_ok=True),
    )


@pytest.mark.usefixtures("copied_sample")
@pytest.mark.parametrize("stalls", [False, True], ids=["lost", "silent"])
def test_a_lost_connection_and_silence_lead_to_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stalls: bool
) -> None:
    monkeypatch.setattr("training.data.download._READ_SECONDS", 0.2 if stalls else 30)
    with serving(Answer(zipped(), missing=10, stalls=stalls)) as download:
        found = resolve(None, root=tmp_path, download=download)
    assert found.name == SAMPLE_NAME
    assert download.url in found.source
    assert content(tmp_path) == [SAMPLE_NAME]


@pytest.mark.usefixtures("copied_sample")
def test_the_sample_is_used_again_only_if_it_is_whole(tmp_path: Path, nobody: Download) -> None:
    first = resolve(None, root=tmp_path, download=nobody)
    seal, ratings = first.folder / "sample.json", first.folder / "ratings.csv"
    whole = ratings.read_bytes()
    again = resolve(None, root=tmp_path, download=nobody)
    assert "found in" in again.source

    ratings.write_bytes(whole[: len(whole) // 2])
    assert "generated in" in resolve(None, root=tmp_path, download=nobody).source
    assert ratings.read_bytes() == whole

    seal.write_text(json.dumps({**json.loads(seal.read_text()), "version": "0"}))
    assert "generated in" in resolve(None, root=tmp_path, download=nobody).source

    seal.unlink()
    assert "generated in" in resolve(None, root=tmp_path, download=nobody).source
    assert content(tmp_path) == [SAMPLE_NAME]


def test_a_killed_download_leaves_nothing_that_is_taken(tmp_path: Path) -> None:
    answer = Answer(zipped(), missing=10, stalls=True)
    with serving(answer) as download:
        code = (
            "import sys; from pathlib import Path; from training.data.datasets import resolve; "
            "from training.data.download import Download; "
            "resolve(None, root=Path(sys.argv[1]), download=Download(*sys.argv[2:]))"
        )
        command = [sys.executable, "-c", code, str(tmp_path), download.url, download.sha256]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            assert answer.asked.wait(20)
            process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "ml-tiny").exists()
    with serving(Answer(zipped())) as download:
        assert "downloaded" in resolve(None, root=tmp_path, download=download).source
