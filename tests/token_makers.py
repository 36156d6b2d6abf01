"""Tokens and keys as an identity provider makes them; by PyJWT, which is not ours."""

from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

SECRET = "long enough for all three, as PyJWT warns of shorter ones: " + 64 * "x"
NOW = 1_800_000_000.0

RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
BY_ALGORITHM: dict[str, PrivateKey] = {
    "RS256": RSA,
    "RS384": RSA,
    "RS512": RSA,
    "ES256": P256,
    "ES384": P384,
    "ES512": P521,
    "EdDSA": ED25519,
}


def token(
    claims: dict[str, Any],
    key: str | PrivateKey = SECRET,
    algorithm: str = "HS256",
    **header: Any,
) -> str:
    """A token with these claims."""
    return signed(msgspec.json.encode(claims), key, algorithm, **header)


def signed(
    payload: bytes, key: str | PrivateKey = SECRET, algorithm: str = "HS256", **header: Any
) -> str:
    """A token with this payload, whatever it is."""
    return jwt.api_jws.encode(payload, key, algorithm, header or None)


def pem(key: PrivateKey) -> str:
    """The public half of a key as PEM."""
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(key: PrivateKey, **more: Any) -> dict[str, Any]:
    """The public half of a key as a JSON Web Key, with *more* members or others."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        made = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        made = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        made = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {**made, **more}


def jwks(*keys: Any) -> bytes:
    """A JSON Web Key Set."""
    return msgspec.json.encode({"keys": keys})
