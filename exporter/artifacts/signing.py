"""Signatures of artifacts: that they are as somebody signed them, which a digest inside them cannot say.

They are Sigstore bundles as the OpenSSF `model-signing` library makes them, with an elliptic-curve key of one's own:
nothing is asked of the network. `model_signing verify key` of that library reads them as well.
"""

from pathlib import Path
from typing import Any

from exporter.errors import ArgumentError, ArtifactError, MissingDependencyError


def sign(artifact: Path, private_key: Path, signature: Path, password: str | None = None) -> None:
    """Signs every file of an artifact.

    Args:
        artifact: The artifact; links in it are followed.
        private_key: PEM file of an elliptic-curve key on P-256, P-384 or P-521.
        signature: Where the signature goes; what is there is replaced.
        password: Of the key, where it is encrypted.

    Raises:
        ArgumentError: There is no such artifact or key, or the key is of another kind or has another password.
        MissingDependencyError: `model-signing` is not installed.
        OSError: The file system refused.
    """
    library = _import_library()
    _check_exists(artifact, "artifact")
    _check_exists(private_key, "private key")
    try:
        signer = library.signing.Config().use_elliptic_key_signer(
            private_key=private_key, password=None if password is None else password.encode()
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ArgumentError(_explain_key("private", private_key, error)) from error
    signer.set_hashing_config(_take_every_file(library)).sign(artifact, signature)


def check_signature(artifact: Path, public_key: Path, signature: Path) -> None:
    """Checks that an artifact is, file by file, the one that was signed.

    Args:
        artifact: The artifact.
        public_key: PEM file with the other half of the key that signed it.
        signature: What `sign` wrote.

    Raises:
        ArgumentError: There is no such artifact, key or signature.
        ArtifactError: The artifact is another one than was signed, or another key signed it.
        MissingDependencyError: `model-signing` is not installed.
    """
    library = _import_library()
    for path, what in ((artifact, "artifact"), (public_key, "public key"), (signature, "signature")):
        _check_exists(path, what)
    try:
        verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (ValueError, TypeError, AttributeError) as error:
        raise ArgumentError(_explain_key("public", public_key, error)) from error
    try:
        verifier.set_hashing_config(_take_every_file(library)).verify(artifact, signature)
    # What a damaged signature makes of the library is not said in its documentation.
    except Exception as error:
        reason = str(error).removeprefix("Signature mismatch: ").strip("[]") or type(error).__name__
        raise ArtifactError(
            f"{artifact} is not what the owner of {public_key} signed with {signature}: {reason}. "
            "Get the artifact again from where it was signed, or ask for the right key."
        ) from error


def is_encrypted(private_key: Path) -> bool:
    """Says whether a PEM file needs a password, by the words in which it says so itself (RFC 7468, RFC 1421)."""
    text = private_key.read_bytes() if private_key.is_file() else b""
    return b"ENCRYPTED" in text


def _take_every_file(library: Any) -> Any:
    """By itself the library would pass over files that belong to git, and refuse links."""
    config = library.hashing.Config().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=True)
    return config.set_allow_symlinks(True).set_ignored_paths(paths=[], ignore_git_paths=False)


def _import_library() -> Any:
    try:
        import model_signing
        import model_signing.hashing
        import model_signing.signing
        import model_signing.verifying
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"Signatures need the package model-signing, and {error.name} is not installed: "
            "pip install 'keras-exporter[signing]'."
        ) from error
    return model_signing


def _check_exists(path: Path, what: str) -> None:
    if not path.exists():
        raise ArgumentError(f"There is no {what} {str(path)!r}. Give the path of one that exists.")


def _explain_key(kind: str, path: Path, error: Exception) -> str:
    return (
        f"{path} cannot be used as a {kind} key: {error}. Expected a PEM file with an elliptic-curve key; "
        "`openssl ecparam -name prime256v1 -genkey -noout -out private.pem` makes one, and "
        "`openssl ec -in private.pem -pubout -out public.pem` its public half."
    )
