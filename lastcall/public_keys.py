"""Public keys that tokens are signed for: RSA, elliptic curves, Ed25519, as PEM or as JWKs.

The one module that needs the package `cryptography`; it is imported where such keys are configured.
"""

import re
from functools import partial

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from lastcall.token_keys import TokenKey, from_base64url

MAX_KEYS = 100
"""Keys taken from one set: a token that names no key is tried with each of them."""
RSA_BITS = range(2048, 8193)
"""Shorter ones can be broken, and longer ones make a check too slow."""

_PEM = re.compile(r"-----BEGIN ((?:RSA )?PUBLIC KEY)-----[^-]+-----END \1-----")
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "RS256": hashes.SHA256(),
    "RS384": hashes.SHA384(),
    "RS512": hashes.SHA512(),
}
_CURVES: dict[str, tuple[str, hashes.HashAlgorithm, ec.EllipticCurve]] = {
    "P-256": ("ES256", hashes.SHA256(), ec.SECP256R1()),
    "P-384": ("ES384", hashes.SHA384(), ec.SECP384R1()),
    "P-521": ("ES512", hashes.SHA512(), ec.SECP521R1()),
}
"""A curve has one algorithm (RFC 7518, 3.4)."""


class _Jwk(msgspec.Struct, frozen=True):
    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    key_ops: list[str] | None = None
    crv: str = ""
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""


class _JwkSet(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


def keys_from_pem(text: str) -> list[TokenKey]:
    """The public keys in *text*, one block after the other.

    Raises:
        ValueError: there is none, or one that cannot be used; the words say why.
    """
    blocks = [match[0] for match in _PEM.finditer(text)]
    if not blocks:
        raise ValueError("there is no public key in it (-----BEGIN PUBLIC KEY-----)")
    return [_key(_load_pem(block)) for block in blocks]


def keys_from_jwks(document: bytes) -> list[TokenKey]:
    """The usable keys of a JSON Web Key Set (RFC 7517); what is for something else is left out.

    Raises:
        ValueError: it is no such set, or has no usable key.
    """
    try:
        entries = msgspec.json.decode(document, type=_JwkSet).keys
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError("not a JSON Web Key Set") from error
    keys = []
    for entry in entries[:MAX_KEYS]:
        try:
            keys.append(_from_jwk(msgspec.json.decode(entry, type=_Jwk)))
        except (msgspec.DecodeError, RecursionError, ValueError, UnsupportedAlgorithm):
            continue
    if not keys:
        raise ValueError("no usable key in it")
    return keys


def _load_pem(block: str) -> object:
    try:
        return load_pem_public_key(block.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("a public key in it cannot be read") from error


def _from_jwk(jwk: _Jwk) -> TokenKey:
    if jwk.use not in {None, "sig"} or "verify" not in (jwk.key_ops or ["verify"]):
        raise ValueError("it is not for signatures")
    key = _key(_public_key(jwk))
    if jwk.alg is None:
        return TokenKey(key.checks, jwk.kid)
    return TokenKey({jwk.alg: key.checks[jwk.alg]} if jwk.alg in key.checks else {}, jwk.kid)


def _public_key(jwk: _Jwk) -> object:
    if jwk.kty == "RSA":
        return rsa.RSAPublicNumbers(_number(jwk.e), _number(jwk.n)).public_key()
    if jwk.kty == "EC" and jwk.crv in _CURVES:
        _, _, curve = _CURVES[jwk.crv]
        return ec.EllipticCurvePublicNumbers(_number(jwk.x), _number(jwk.y), curve).public_key()
    if jwk.kty == "OKP" and jwk.crv == "Ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(from_base64url(jwk.x))
    raise ValueError("a kind of key that we have no algorithm for")


def _number(text: str) -> int:
    return int.from_bytes(from_base64url(text))


def _key(key: object) -> TokenKey:
    """The checks that a key can do.

    Raises:
        ValueError: none of ours.
    """
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in RSA_BITS:
            raise ValueError(
                f"an RSA key in it has {key.key_size} bits, "
                f"but must have {RSA_BITS[0]} to {RSA_BITS[-1]}"
            )
        return TokenKey({name: partial(_is_rsa, key, used) for name, used in _RSA_HASHES.items()})
    if isinstance(key, ed25519.Ed25519PublicKey):
        return TokenKey({"EdDSA": partial(_is_ed25519, key)})
    if isinstance(key, ec.EllipticCurvePublicKey):
        for algorithm, used, curve in _CURVES.values():
            if key.curve.name == curve.name:
                return TokenKey({algorithm: partial(_is_ecdsa, key, used)})
    raise ValueError("a key in it is of a kind that tokens are not signed with here")


def _is_rsa(
    key: rsa.RSAPublicKey, used: hashes.HashAlgorithm, message: bytes, signature: bytes
) -> bool:
    try:
        key.verify(signature, message, padding.PKCS1v15(), used)
    except InvalidSignature:
        return False
    return True


def _is_ecdsa(
    key: ec.EllipticCurvePublicKey, used: hashes.HashAlgorithm, message: bytes, signature: bytes
) -> bool:
    # Two numbers of the curve's size, not the DER that the library speaks (RFC 7518, 3.4).
    size = (key.curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        return False
    r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(used))
    except InvalidSignature:
        return False
    return True


def _is_ed25519(key: ed25519.Ed25519PublicKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True
