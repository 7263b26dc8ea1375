"""From a published bundle to a folder that servers read: registered, promoted, pulled, rolled back."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from ranking_service.ranking import Ranker
from serving.bundle import SETTLE_SECONDS
from serving.bundle.signature import SIGNATURE_NAME, SigningKey, TrustedKeys
from serving.bundle.store import MAX_MANIFEST_BYTES, BundleError, BundleStore
from serving.shards import UserShard
from similarity_service.neighbours import SimilarityIndex
from tests.conftest import Trained
from tests.serving.republished import republished
from tests.serving.test_store import publish
from tests.training.release.candidate import holder_of, promote_candidate
from training import sync
from training.cli import release
from training.cli.train import app
from training.errors import root_cause
from training.release.champion import pull_champion
from training.release.local_store import local_store
from training.release.registry import (
    BUNDLE_TAG,
    CANDIDATE,
    CHAMPION,
    MODEL,
    PREVIOUS_TAG,
    PROMOTED_TAG,
    PUBLISHED_TAG,
    Registry,
    RegistryError,
)
from training.release.run_record import RunRecord
from training.release.tracking import track

NO_TRACKING_URI = (
    "MLFLOW_TRACKING_URI or --tracking-uri must begin with http:// or https:// and name a host, or with "
    "sqlite:/// and name a file, such as http://localhost:5000"
)


def register(root: Path, bundle: Path) -> Registry:
    """Records a run with a bundle, as `train` does."""
    track(root, RunRecord("two_stage_ranker", "n", {}, {}, {"bundle_id": bundle.name}, bundle=bundle), None)
    return Registry(local_store(root))


@pytest.fixture
def registry(root: Path, trained: Trained) -> Registry:
    return register(root, trained.root / "bundles" / trained.bundle_id)


def pulled(
    registry: Registry, root: Path, trusted: TrustedKeys | None = None, user_shard: UserShard | None = None
) -> str | None:
    """The bundle_id that `pull_champion` returns, where there is nothing to wait for."""

    def wait(seconds: float) -> None:
        pytest.fail(f"waits for {seconds} s")

    return pull_champion(
        registry, BundleStore(root, trusted=trusted, user_shard=user_shard), settle_seconds=60, wait=wait
    )


def test_the_champion_arrives_whole_and_is_served(
    registry: Registry, tmp_path: Path, trained: Trained
) -> None:
    serving = tmp_path / "serving"
    with pytest.raises(RegistryError, match="no version is the champion"):
        pulled(registry, serving)
    promote_candidate(registry)
    with pytest.raises(RegistryError, match="no champion before"):
        registry.previous()
    assert pulled(registry, serving) == trained.bundle_id
    store = BundleStore(serving)
    assert store.pointer().bundle_id == trained.bundle_id
    Ranker.load(store, trained.bundle_id)
    bundle = store.path(trained.bundle_id)
    assert (bundle / "candidate/ratings.npz").samefile(bundle / "gateway/ratings.npz")
    assert not (bundle / "exports").exists()
    assert pulled(registry, serving) is None


@pytest.mark.row(59)
def test_only_a_champion_that_is_signed_is_brought_down_where_a_key_is_set(
    root: Path, tmp_path: Path, trained: Trained
) -> None:
    key, source = SigningKey(bytes(32)), BundleStore(trained.root)
    signed = BundleStore(tmp_path / "signed")
    with signed.staging() as staging:
        shutil.copytree(source.path(trained.bundle_id), staging, dirs_exist_ok=True)
        signed.publish(staging, source.manifest(trained.bundle_id), key)
    registry = register(root, signed.path(trained.bundle_id))
    promote_candidate(registry)
    assert pulled(registry, tmp_path / "served", key.public) == trained.bundle_id
    BundleStore(tmp_path / "served", trusted=key.public).verify(trained.bundle_id)
    with pytest.raises(BundleError, match="is not that of a key that is trusted"):
        pulled(registry, tmp_path / "others", SigningKey(bytes(31) + b"1").public)
    assert list((tmp_path / "others/bundles").iterdir()) == []


@pytest.mark.row(59)
def test_an_unsigned_champion_is_refused_where_a_key_is_set(registry: Registry, tmp_path: Path) -> None:
    promote_candidate(registry)
    with pytest.raises(BundleError, match=f"^version 1: the bundle has no {SIGNATURE_NAME}$"):
        pulled(registry, tmp_path / "served", SigningKey(bytes(32)).public)
    assert list((tmp_path / "served/bundles").iterdir()) == []


def test_every_folder_gets_the_same_pointer(
    registry: Registry, root: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([10.0, 20.0, 30.0])
    monkeypatch.setattr("training.release.registry.time", SimpleNamespace(time=lambda: next(moments)))
    local = with_bundle(root, trained)
    other = another_bundle(local, trained.bundle_id)
    promote_candidate(registry)
    there_before = BundleStore(tmp_path / "there before")
    pulled(registry, there_before.root)
    promote_candidate(register(root, local.path(other)))
    registry.promote(registry.version_of(other))  # again: nothing changes
    expected = {"bundle_id": other, "previous": trained.bundle_id, "published_at": 20}
    started_later = BundleStore(tmp_path / "started later")
    for store in (there_before, started_later):
        assert pulled(registry, store.root) == other
        assert store.pointer().model_dump() == expected
        for bundle_id in (other, trained.bundle_id):
            assert store.manifest(bundle_id) == local.manifest(bundle_id)
    assert registry.seconds_to_settle(registry.version_of(other), now=20) == 0
    # Servers hold both.
    assert registry.seconds_to_settle(registry.version_of(trained.bundle_id), now=20) == 0
    registry.client.set_model_version_tag(MODEL, "1", BUNDLE_TAG, "third")
    assert registry.seconds_to_settle(registry.version_of("third"), now=30) == SETTLE_SECONDS - 10
    assert registry.seconds_to_settle(registry.version_of("third"), now=20 + SETTLE_SECONDS) == 0
    registry.client.set_model_version_tag(MODEL, "1", BUNDLE_TAG, trained.bundle_id)
    way_back = ["promote", "--previous", "--bundle-root", str(root)]
    assert CliRunner().invoke(app, way_back).exit_code == 0
    assert CliRunner().invoke(app, [*way_back, "--bundle-id", other]).exit_code == 2
    pulled(registry, started_later.root)
    expected = {"bundle_id": trained.bundle_id, "previous": other, "published_at": 30}
    assert started_later.pointer().model_dump() == expected


def test_a_lost_previous_bundle_stops_nobody(
    registry: Registry, root: Path, tmp_path: Path, trained: Trained
) -> None:
    version, _ = promote_candidate(registry)
    registry.client.set_model_version_tag(MODEL, version, PREVIOUS_TAG, "lost")
    assert pulled(registry, tmp_path / "serving") == trained.bundle_id
    assert BundleStore(tmp_path / "serving").pointer().previous is None


@pytest.mark.parametrize("promoted_at", ["by hand", "nan", "1e999"])
def test_a_promotion_time_that_is_none_spoils_nothing(
    registry: Registry, root: Path, tmp_path: Path, trained: Trained, promoted_at: str
) -> None:
    """Whoever may write tags could otherwise make the pointers of all folders unreadable."""
    version, _ = promote_candidate(registry)
    registry.client.set_model_version_tag(MODEL, version, PROMOTED_TAG, promoted_at)
    registry.client.set_model_version_tag(MODEL, version, PREVIOUS_TAG, "other")
    registry.client.set_model_version_tag(MODEL, version, PUBLISHED_TAG, promoted_at)
    before = time.time()
    assert pulled(registry, tmp_path / "serving") == trained.bundle_id
    assert before <= BundleStore(tmp_path / "serving").pointer().published_at <= time.time()
    assert registry.seconds_to_settle(holder_of(CANDIDATE, registry), now=time.time()) == 0
    register(root, trained.root / "bundles" / trained.bundle_id)
    promote_candidate(registry)
    champion = holder_of(CHAMPION, registry)
    assert champion.version != version
    assert float(champion.tags[PROMOTED_TAG]) >= before


def test_a_champion_that_was_made_by_hand_may_be_replaced(registry: Registry, trained: Trained) -> None:
    client = registry.client
    by_hand = client.create_model_version(MODEL, source="nowhere").version
    client.set_registered_model_alias(MODEL, CHAMPION, by_hand)
    assert registry.seconds_to_settle(holder_of(CANDIDATE, registry), now=0) == 0
    assert promote_candidate(registry)[1] == trained.bundle_id
    client.set_registered_model_alias(MODEL, CANDIDATE, by_hand)
    with pytest.raises(RegistryError, match=f"version {by_hand} has no tag bundle_id"):
        promote_candidate(registry)


def test_a_damaged_folder_heals(registry: Registry, tmp_path: Path, trained: Trained) -> None:
    promote_candidate(registry)
    store = BundleStore(tmp_path / "serving")
    pulled(registry, store.root)
    (store.path(trained.bundle_id) / "ranking" / "ranker.cbm").write_bytes(b"{")
    assert pulled(registry, store.root) == trained.bundle_id
    store.verify(trained.bundle_id)
    assert pulled(registry, store.root) is None


def artefacts(root: Path) -> Path:
    """Where the registry keeps its bundle."""
    (manifest,) = root.glob("mlruns/*/*/artifacts/bundle/manifest.json")
    return manifest.parent


def test_only_what_the_manifest_lists_is_fetched(
    registry: Registry, root: Path, tmp_path: Path, trained: Trained
) -> None:
    """Whatever lies beside it would fill the volume of every pod."""
    promote_candidate(registry)
    (artefacts(root) / "ranking" / "surplus").write_bytes(bytes(10))
    pulled(registry, tmp_path / "serving")
    bundle = BundleStore(tmp_path / "serving").path(trained.bundle_id)
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert found == {"manifest.json", *BundleStore(tmp_path / "serving").manifest(trained.bundle_id).files}


def test_what_several_processes_read_is_fetched_once(
    registry: Registry, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ratings, which are most of a large bundle, lie in three folders."""
    promote_candidate(registry)
    fetch, fetched = registry.client.download_artifacts, []

    def noted(run_id: str, path: str, folder: str) -> str:
        fetched.append(Path(path).name)
        return fetch(run_id, path, folder)

    monkeypatch.setattr(registry.client, "download_artifacts", noted)
    pulled(registry, tmp_path / "serving")
    assert fetched.count("ratings.npz") == fetched.count("movies.npz") == 1
    files = BundleStore(tmp_path / "serving").manifest(trained.bundle_id).files.values()
    assert len(fetched) == 1 + len({record.sha256 for record in files})


def test_beside_a_server_comes_what_it_reads(
    registry: Registry, root: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod of the similarity service holds nothing of users."""
    promote_candidate(registry)
    monkeypatch.setenv("MOVIEREC_BUNDLE_FOLDER", "similarity")
    for _ in range(2):  # the second finds that all that is needed is there
        assert sync.main(["--bundle-root", str(tmp_path), "--tracking-uri", local_store(root)]) == 0
    store = BundleStore(tmp_path)
    assert store.pointer().bundle_id == trained.bundle_id
    bundle = store.path(trained.bundle_id)
    assert {path.name for path in bundle.iterdir()} == {"manifest.json", "similarity"}
    SimilarityIndex.load(store, trained.bundle_id)
    monkeypatch.setenv("MOVIEREC_BUNDLE_FOLDER", "similar")
    with pytest.raises(SystemExit):
        sync.main(["--bundle-root", str(tmp_path)])
    monkeypatch.setenv("MOVIEREC_BUNDLE_FOLDER", "")
    assert sync.main(["--bundle-root", str(tmp_path), "--tracking-uri", local_store(root)]) == 0
    store.verify(trained.bundle_id)


@pytest.mark.parametrize("name", ["ranking/ranker.cbm", "manifest.json"])
def test_a_file_that_is_larger_than_it_should_be_is_not_fetched_whole(
    registry: Registry, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    promote_candidate(registry)
    large = artefacts(root) / name
    allowed = large.stat().st_size if name != "manifest.json" else MAX_MANIFEST_BYTES
    with large.open("ab") as file:
        file.truncate(16 * MAX_MANIFEST_BYTES)
    written: list[int] = []
    removed = shutil.rmtree

    def remove(path: Path, **options: Any) -> None:
        written.extend(found.stat().st_size for found in Path(path).glob(f"**/{Path(name).name}"))
        removed(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove)
    with pytest.raises(BundleError, match=f"{name} has more than {allowed} bytes"):
        pulled(registry, tmp_path / "serving")
    assert max(written) <= allowed + 1


def test_waiting_for_the_champion_ends_when_it_is_there(
    registry: Registry, root: Path, tmp_path: Path, trained: Trained
) -> None:
    serving = tmp_path / "serving"
    options = ["--bundle-root", str(serving), "--tracking-uri", local_store(root)]
    command = [sys.executable, "-m", "training.sync", *options, "--watch", "0.1", "--until-synced"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "no version is the champion" in process.stdout.readline()
        promote_candidate(registry)
        assert process.wait(timeout=60) == 0
    assert BundleStore(serving).pointer().bundle_id == trained.bundle_id


def test_a_tampered_champion_is_refused_and_the_old_one_stays(
    registry: Registry, root: Path, tmp_path: Path
) -> None:
    promote_candidate(registry)
    model = artefacts(root) / "ranking/ranker.cbm"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    serving = tmp_path / "serving"
    with pytest.raises(BundleError, match=r"ranking/ranker.cbm is not what was published"):
        pulled(registry, serving)
    assert [path.name for path in serving.iterdir()] == ["bundles"]
    assert not list((serving / "bundles").iterdir())


def test_a_rollback_that_the_registry_does_not_hear_of_says_what_is_left_to_do(
    root: Path, trained: Trained
) -> None:
    store = with_bundle(root, trained)
    other = another_bundle(store, trained.bundle_id)
    store.point_to(trained.bundle_id, published_at=0)
    store.point_to(other, published_at=1)
    options = ["--bundle-root", str(root), "--tracking-uri", "http://127.0.0.1:1"]
    result = CliRunner().invoke(app, ["rollback", *options])
    assert result.exit_code == 1
    assert store.pointer().bundle_id == trained.bundle_id
    assert f"python -m training promote --bundle-id {trained.bundle_id}" in result.output


def test_promotion_says_what_is_served_and_what_brings_the_champion_down(
    root: Path, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = with_bundle(root, trained)
    other = another_bundle(store, trained.bundle_id)
    for bundle_id in (trained.bundle_id, other):
        store.point_to(bundle_id, published_at=0)
        register(root, store.path(bundle_id))

    def said(*arguments: str) -> list[str]:
        result = CliRunner().invoke(app, [*arguments, "--bundle-root", str(root)])
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    assert said("rollback")[1] == "No version is the champion, so that nothing changes outside of this folder"
    promoted, what_is_served = said("promote")
    assert promoted == f"Version 2 is the champion: bundle {other}"
    assert what_is_served == (
        f"{root} still serves bundle {trained.bundle_id}: `python -m training.sync --bundle-root {root}` "
        "brings the champion down"
    )
    assert sync.main(["--bundle-root", str(root)]) == 0
    assert other in capsys.readouterr().out
    assert store.pointer().bundle_id == other
    assert said("promote", "--bundle-id", other)[1] == (
        f"{root} serves it; `python -m training.sync --bundle-root FOLDER` brings it down to others"
    )
    assert said("rollback")[1] == (
        "Version 1 is the champion: `python -m training.sync` brings it down to others"
    )
    assert store.pointer().bundle_id == trained.bundle_id
    assert holder_of(CHAMPION, Registry(local_store(root))).tags["bundle_id"] == trained.bundle_id
    elsewhere = ["promote", "--bundle-root", str(tmp_path / "none"), "--tracking-uri", local_store(root)]
    _, told, *_ = CliRunner().invoke(app, elsewhere).output.splitlines()
    assert told.startswith("Servers take it from their folder")
    assert not (tmp_path / "none").exists()


def test_a_folder_without_runs_has_nothing_to_promote_or_to_bring_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = CliRunner().invoke(app, ["promote", "--bundle-root", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith(
        f"no run was recorded in {tmp_path}/mlflow.db: nothing was published here yet"
    )
    assert sync.main(["--bundle-root", str(tmp_path)]) == 1
    assert "no run was recorded in" in capsys.readouterr().out
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ("--watch 0", "--watch must be a finite number of seconds above 0, not 0"),
        ("--watch -1", "--watch must be a finite number of seconds above 0, not -1"),
        ("--watch inf", "--watch must be a finite number of seconds above 0, not inf"),
        ("--watch nan", "--watch must be a finite number of seconds above 0, not nan"),
        ("--settle-seconds -1", "--settle-seconds must be finite and not below 0, not -1"),
        ("--until-synced", "--until-synced needs --watch"),
        (
            "--bundle-key nowhere.pem",
            "argument --bundle-key: cannot read nowhere.pem: No such file or directory",
        ),
        ("--tracking-uri localhost:5000", f"argument --tracking-uri: {NO_TRACKING_URI}"),
    ],
)
def test_options_without_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, rule: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        sync.main(["--bundle-root", str(tmp_path), *options.split()])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"python -m training.sync: error: {rule}\n")


@pytest.mark.row(55)
@pytest.mark.parametrize(
    "begin", ["http://svc:S3CRET@", "https://svc:S3@CRET@", "mysql+pymysql://svc:S3CRET@"]
)
def test_no_error_tells_a_password(begin: str) -> None:
    """urllib3 and SQLAlchemy quote what they cannot read."""
    error = RegistryError("outer")
    error.__cause__ = ValueError(f"Failed to parse: {begin}host:99999/api, or {begin}host")
    words = root_cause(error)
    scheme = begin.partition(":")[0]
    assert words == f"Failed to parse: {scheme}://host:99999/api, or {scheme}://host"


@pytest.mark.parametrize(
    "uri", ["http://svc:S3CRET@host:99999", "http://svc:S3 CRET@host", "http://svc:S3CRET@\nhost"]
)
def test_what_is_no_tracking_uri_is_not_quoted(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sync.main(["--bundle-root", "nowhere", "--tracking-uri", uri])
    said = capsys.readouterr().err
    assert NO_TRACKING_URI in said
    assert "S3" not in said


@pytest.mark.parametrize(
    ("watch", "status"),
    [(["--watch", "1"], 0), pytest.param([], 128 + signal.SIGTERM, marks=pytest.mark.long)],
)
def test_a_signal_ends_the_wait(
    root: Path, tmp_path: Path, trained: Trained, watch: list[str], status: int
) -> None:
    """It runs in a pod, which has to end when it is told to; without a handler, -15 would come out here."""
    store = with_bundle(tmp_path / "serving", trained)
    store.point_to(trained.bundle_id, published_at=0)
    second, third = (publish(store, text) for text in ("second", "third"))
    store.point_to(second, published_at=time.time())
    promote_candidate(register(root, store.path(third)))
    options = ["--bundle-root", str(store.root), "--tracking-uri", local_store(root), *watch]
    command = [sys.executable, "-m", "training.sync", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert line["event"] == "servers are still taking the bundle before"
        process.terminate()
        assert process.wait(20) == status
    assert store.pointer().bundle_id == second


def test_a_bundle_that_does_not_fit_is_not_fetched(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote_candidate(registry)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=7))
    with pytest.raises(OSError, match=r"the bundle needs \d{6,} bytes, 7 are free"):
        pulled(registry, tmp_path / "serving")
    assert not list((tmp_path / "serving" / "bundles").iterdir())


def with_bundle(root: Path, trained: Trained) -> BundleStore:
    """A store that holds the trained bundle."""
    store = BundleStore(root)
    with store.staging() as staging:
        shutil.copytree(trained.root / "bundles" / trained.bundle_id, staging, dirs_exist_ok=True)
        store.adopt(staging)
    return store


def another_bundle(store: BundleStore, bundle_id: str) -> str:
    """A second bundle, with one file less."""
    return republished(store, bundle_id, store, lambda staging: (staging / "candidate" / "als.json").unlink())


def test_what_becomes_the_candidate_during_the_wait_is_not_promoted(
    registry: Registry, root: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not checked, and servers may not have settled for it."""
    client, promote = registry.client, ["promote", "--bundle-root", str(root)]
    assert CliRunner().invoke(app, promote).exit_code == 0
    client.set_model_version_tag(MODEL, "1", PREVIOUS_TAG, "before")
    local = with_bundle(root, trained)
    checked = another_bundle(local, trained.bundle_id)
    register(root, local.path(checked))
    waits = []

    def publish_another(seconds: float) -> None:
        waits.append(seconds)
        third = client.create_model_version(MODEL, source="nowhere", tags={BUNDLE_TAG: "third"})
        client.set_registered_model_alias(MODEL, CANDIDATE, third.version)

    monkeypatch.setattr(release, "time", SimpleNamespace(time=time.time, sleep=publish_another))
    result = CliRunner().invoke(app, promote)
    assert result.exit_code == 0, result.output
    assert len(waits) == 1
    assert holder_of(CHAMPION, registry).tags[BUNDLE_TAG] == checked


def test_a_third_bundle_waits_for_the_second_to_settle(root: Path, tmp_path: Path, trained: Trained) -> None:
    store = with_bundle(tmp_path / "serving", trained)
    store.point_to(trained.bundle_id, published_at=0)
    second, third = (publish(store, text) for text in ("second", "third"))
    store.point_to(second, published_at=time.time())
    registry = register(root, store.path(third))
    promote_candidate(registry)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        store.roll_back(published_at=0)  # as if the time had passed

    assert pull_champion(registry, store, settle_seconds=60, wait=wait) == third
    assert len(waits) == 1
    assert 0 < waits[0] <= 60
