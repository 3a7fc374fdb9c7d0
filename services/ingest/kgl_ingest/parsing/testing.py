"""PDF files written by hand, byte by byte, so that tests know what is in them."""

from collections.abc import Callable


def pdf_of(*pages: str, title: str | None = None, compress: Callable[[bytes], bytes] | None = None) -> bytes:
    """One line of text per page, in Helvetica; `compress` packs each content stream for FlateDecode."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, line in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({line}) Tj ET".encode()
        packed = compress(stream) if compress else stream
        filter_entry = " /Filter /FlateDecode" if compress else ""
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode(),
            f"<< /Length {len(packed)}{filter_entry} >>\nstream\n".encode() + packed + b"\nendstream",
        ]
    if title:
        objects.append(f"<< /Title ({title}) >>".encode())
    return _file(objects, f" /Info {len(objects)} 0 R" if title else "")


def _file(objects: list[bytes], trailer: str) -> bytes:
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R{trailer} >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)
