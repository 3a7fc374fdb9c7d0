"""The examples of AWS's own documentation ("Signature Calculations", S3 API reference)."""

from datetime import UTC, datetime

import pytest

from kgl_servicekit.objects.s3_signature import NO_CONTENT, Signer

SIGNER = Signer("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
HOST = "examplebucket.s3.amazonaws.com"
AT = datetime(2013, 5, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        (
            "/test.txt",
            {},
            {"Range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("/", {"lifecycle": ""}, {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/",
            {"prefix": "J", "max-keys": "2"},
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_requests_are_signed_as_in_the_examples(
    path: str, query: dict[str, str], headers: dict[str, str], signature: str
) -> None:
    signed = SIGNER.signed("GET", HOST, path, query, headers, NO_CONTENT, AT)
    assert signed["authorization"].endswith(f"Signature={signature}")


def test_links_are_signed_as_in_the_example() -> None:
    link = SIGNER.link("GET", f"https://{HOST}", "/test.txt", {}, 86400, AT)
    assert link == (
        f"https://{HOST}/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_the_secret_is_not_shown() -> None:
    assert "bPxRfiCY" not in repr(SIGNER)
