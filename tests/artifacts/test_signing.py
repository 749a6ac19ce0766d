"""Signatures by the real library, with real keys, and what is said where they do not fit."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from exporter.artifacts.manifest import write_manifest
from exporter.artifacts.signing import check_signature, sign
from exporter.cli.commands import run_command
from exporter.errors import ArgumentError, ArtifactError
from exporter.storage.sidecars import name_signature

Keys = Mapping[str, Path]
MakeArtifact = Callable[[str], Path]

_PEM = serialization.Encoding.PEM
_PRIVATE = serialization.PrivateFormat.PKCS8
_PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """PEM files: two pairs, a private key with a password, one of another kind, and a text."""
    folder = tmp_path_factory.mktemp("keys")
    paths = {name: folder / f"{name}.pem" for name in ("mine", "mine-public", "other-public", "locked", "rsa", "text")}
    mine, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    open_, locked = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"open sesame")
    paths["mine"].write_bytes(mine.private_bytes(_PEM, _PRIVATE, open_))
    paths["mine-public"].write_bytes(mine.public_key().public_bytes(_PEM, _PUBLIC))
    paths["other-public"].write_bytes(other.public_key().public_bytes(_PEM, _PUBLIC))
    paths["locked"].write_bytes(mine.private_bytes(_PEM, _PRIVATE, locked))
    paths["rsa"].write_bytes(rsa.generate_private_key(65537, 2048).private_bytes(_PEM, _PRIVATE, open_))
    paths["text"].write_text("no key")
    return paths


@pytest.fixture
def make_artifact(tmp_path: Path) -> MakeArtifact:
    """Makes a sealed artifact that is a file or a directory with a link, as a SavedModel has one."""

    def make(kind: str) -> Path:
        path = tmp_path / ("model" if kind == "directory" else "model.h5")
        if kind == "directory":
            (path / "variables").mkdir(parents=True)
            (path / "saved_model.pb").write_bytes(b"graph")
            (path / "variables" / "data").write_bytes(b"weights")
            (path / "model.weights.h5").symlink_to("variables/data")
        else:
            path.write_bytes(b"graph and weights")
        write_manifest(path, path.name)
        return path

    return make


def _change(artifact: Path) -> None:
    changed = artifact / "variables" / "data" if artifact.is_dir() else artifact
    content = bytearray(changed.read_bytes())
    content[3] ^= 1
    changed.write_bytes(content)


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_what_was_signed_is_recognised_wherever_it_lies(
    kind: str, make_artifact: MakeArtifact, keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make_artifact(kind)
    assert run_command(["sign", str(artifact), "--key", str(keys["mine"])]) == 0
    signature = name_signature(artifact)
    assert capsys.readouterr().out == f"✓ {artifact} is signed: {signature}\n"
    moved = tmp_path / "elsewhere" / f"renamed{artifact.suffix}"
    moved.parent.mkdir()
    artifact.rename(moved)
    arguments = [
        "verify",
        "--files-only",
        str(moved),
        "--public-key",
        str(keys["mine-public"]),
        "--signature",
        str(signature),
    ]
    assert run_command(arguments) == 0
    assert capsys.readouterr().out.endswith(f", and as signed with the private half of {keys['mine-public']}\n")


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_one_changed_bit_is_another_artifact(kind: str, make_artifact: MakeArtifact, keys: Keys) -> None:
    artifact = make_artifact(kind)
    sign(artifact, keys["mine"], name_signature(artifact))
    _change(artifact)
    with pytest.raises(ArtifactError, match="Hash mismatch"):
        check_signature(artifact, keys["mine-public"], name_signature(artifact))


@pytest.mark.parametrize("name", ["extra", ".gitignore", ".git/config"])
def test_an_added_file_is_found_also_one_of_git(name: str, make_artifact: MakeArtifact, keys: Keys) -> None:
    artifact = make_artifact("directory")
    sign(artifact, keys["mine"], name_signature(artifact))
    (artifact / name).parent.mkdir(exist_ok=True)
    (artifact / name).write_text("added")
    with pytest.raises(ArtifactError, match=f"Extra files found in model 'model': {name}"):
        check_signature(artifact, keys["mine-public"], name_signature(artifact))


def test_another_key_did_not_sign_it(
    make_artifact: MakeArtifact, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make_artifact("file")
    sign(artifact, keys["mine"], name_signature(artifact))
    assert run_command(["verify", str(artifact), "--public-key", str(keys["other-public"])]) == ArtifactError.exit_code
    error = capsys.readouterr().err
    assert error.startswith(f"exporter: {artifact} is not what the owner of {keys['other-public']} signed with ")
    assert error.endswith("Get the artifact again from where it was signed, or ask for the right key.\n")


def test_a_damaged_signature_is_none(make_artifact: MakeArtifact, keys: Keys) -> None:
    artifact = make_artifact("file")
    signature = name_signature(artifact)
    sign(artifact, keys["mine"], signature)
    whole = signature.read_bytes()
    for content in (b"", b"{}", whole[:-30], whole.replace(b'"sig"', b'"six"'), b"\xff\xfe"):
        signature.write_bytes(content)
        with pytest.raises(ArtifactError):
            check_signature(artifact, keys["mine-public"], signature)


def test_the_command_of_the_library_reads_the_signature(make_artifact: MakeArtifact, keys: Keys) -> None:
    artifact = make_artifact("directory")
    signature = name_signature(artifact)
    sign(artifact, keys["mine"], signature)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(artifact), "--allow_symlinks"]
    options = ["--signature", str(signature), "--public_key", str(keys["mine-public"])]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    copy = artifact.with_name("copy")
    shutil.copytree(artifact, copy, symlinks=True)
    check_signature(copy, keys["mine-public"], signature)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("gone", "There is no private key '{path}'. Give the path of one that exists."),
        ("text", "{path} cannot be used as a private key: "),
        ("rsa", "{path} cannot be used as a private key: "),
        ("mine-public", "{path} cannot be used as a private key: "),
        ("locked", "{path} cannot be used as a private key: Password was not given but private key is encrypted"),
    ],
)
def test_a_key_that_cannot_sign(
    key: str, message: str, make_artifact: MakeArtifact, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, path = make_artifact("file"), keys.get(key, Path("gone.pem"))
    assert run_command(["sign", str(artifact), "--key", str(path)]) == ArgumentError.exit_code
    assert capsys.readouterr().err.startswith(f"exporter: {message.format(path=path)}")
    assert not name_signature(artifact).exists()


def test_a_password_opens_a_key(make_artifact: MakeArtifact, keys: Keys) -> None:
    artifact = make_artifact("file")
    sign(artifact, keys["locked"], name_signature(artifact), "open sesame")
    check_signature(artifact, keys["mine-public"], name_signature(artifact))
    with pytest.raises(ArgumentError, match="cannot be used as a private key"):
        sign(artifact, keys["locked"], name_signature(artifact), "guess")


@pytest.mark.parametrize("missing", ["artifact", "public key", "signature"])
def test_what_is_missing_is_named(missing: str, make_artifact: MakeArtifact, keys: Keys, tmp_path: Path) -> None:
    artifact = make_artifact("file")
    sign(artifact, keys["mine"], name_signature(artifact))
    paths = {"artifact": artifact, "public key": keys["mine-public"], "signature": name_signature(artifact)}
    paths[missing] = tmp_path / "gone"
    with pytest.raises(ArgumentError, match=f"There is no {missing} '"):
        check_signature(*paths.values())


def test_a_signature_without_a_key_proves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_command(["verify", "model", "--signature", "model.sig"])
    assert stopped.value.code == 2
    assert (
        "verify: --signature: needs the key that it is checked with: add --public-key FILE\n" in capsys.readouterr().err
    )


def test_without_the_library_the_extra_is_named(
    make_artifact: MakeArtifact, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    assert run_command(["sign", str(make_artifact("file")), "--key", str(keys["mine"])]) == 3
    assert capsys.readouterr().err == (
        "exporter: Signatures need the package model-signing, and model_signing is not installed: "
        "pip install 'keras-exporter[signing]'.\n"
    )
