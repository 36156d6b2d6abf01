"""Public keys from PEM and from JSON Web Key Sets: which are taken, and what for."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from lastcall.public_keys import MAX_KEYS, keys_from_jwks, keys_from_pem
from tests.token_makers import ED25519, P256, P384, P521, RSA, jwk, jwks, pem

# Keys that nobody should use, so that we can refuse them.
SHORT_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505  (that is the point)
DSA = dsa.generate_private_key(1024)  # noqa: S505  (that is the point)
RSA_ALGORITHMS = {"RS256", "RS384", "RS512"}


def algorithms(document: bytes) -> list[set[str]]:
    return [set(key.checks) for key in keys_from_jwks(document)]


def test_each_kind_of_key_has_its_algorithms() -> None:
    every = (RSA, P256, P384, P521, ED25519)
    expected = [RSA_ALGORITHMS, {"ES256"}, {"ES384"}, {"ES512"}, {"EdDSA"}]

    assert algorithms(jwks(*(jwk(key) for key in every))) == expected
    pems = "some words\n" + "\n".join(pem(key) for key in every) + "more words"
    assert [set(key.checks) for key in keys_from_pem(pems)] == expected


def test_old_form_of_an_rsa_key_is_read() -> None:
    text = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
    assert len(keys_from_pem(text)) == 1


def test_signature_of_another_size_or_kind_is_none() -> None:
    for key in keys_from_pem(pem(RSA) + pem(P256) + pem(ED25519)):
        for check in key.checks.values():
            for signature in (b"", bytes(64), bytes(63), b"\xff" * 64, bytes(256)):
                assert not check(b"message", signature)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no public key in it"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "cannot be read"),
        (pem(SHORT_RSA), "1024 bits, but must have 2048 to 8192"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "of a kind that tokens are not signed with"),
        (
            DSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            "of a kind that tokens are not signed with",
        ),
    ],
)
def test_what_is_wrong_with_a_pem_file_is_said(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        keys_from_pem(text)


def test_private_key_is_none_and_is_not_shown() -> None:
    text = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ValueError, match="there is no public key in it") as refused:
        keys_from_pem(text)
    assert text.splitlines()[1] not in str(refused.value)


def test_jwk_has_its_name_and_may_narrow_its_algorithms() -> None:
    narrow, other = keys_from_jwks(
        jwks(jwk(RSA, kid="k1", alg="RS384", use="sig"), jwk(RSA, kid="k2", alg="PS256"))
    )

    assert (narrow.name, set(narrow.checks)) == ("k1", {"RS384"})
    assert (other.name, set(other.checks)) == ("k2", set())


@pytest.mark.parametrize(
    "unusable",
    [
        jwk(RSA, use="enc"),
        jwk(RSA, key_ops=["encrypt"]),
        jwk(RSA, n="!"),
        jwk(RSA, e=""),
        jwk(RSA, kid=5),
        jwk(P256, crv="P-384"),
        jwk(P256, crv="secp256k1"),
        jwk(P256, y="AAAA"),
        jwk(ED25519, crv="X25519"),
        jwk(ED25519, x="AAAA"),
        jwk(SHORT_RSA),
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "new"},
        {},
        5,
        None,
    ],
)
def test_what_cannot_be_used_is_left_out(unusable: Any) -> None:
    assert algorithms(jwks(unusable, jwk(P256))) == [{"ES256"}]
    with pytest.raises(ValueError, match="no usable key"):
        keys_from_jwks(jwks(unusable))


def test_key_for_verifying_is_taken() -> None:
    assert len(keys_from_jwks(jwks(jwk(RSA, key_ops=["verify"])))) == 1


def test_number_of_keys_is_bounded() -> None:
    assert len(keys_from_jwks(jwks(*[jwk(ED25519)] * (MAX_KEYS + 1)))) == MAX_KEYS


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": {}}', b"[" * 100_000])
def test_what_is_no_key_set_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON Web Key Set"):
        keys_from_jwks(document)


NAMES = ["kty", "kid", "use", "alg", "crv", "n", "e", "x", "y", "key_ops"]
VALUES = st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "sig", "verify"])


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES | st.text() | st.none())))
def test_any_key_set_is_read_or_refused(entries: list[dict[str, Any]]) -> None:
    try:
        keys = keys_from_jwks(jwks(*entries))
    except ValueError:
        return
    for key in keys:
        for check in key.checks.values():
            assert not check(b"message", b"signature")
