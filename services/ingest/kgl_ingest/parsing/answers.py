"""What a child says about a document, checked before the parent believes it."""

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from kgl_ingest.parsing.parsed_text import TITLE_CHARACTERS, ParseFailed


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class _Summary(_Checked):
    """The document was parsed; its chunks and its text follow."""

    title: Annotated[str, Field(max_length=TITLE_CHARACTERS)]
    language: str | None
    chunk_count: Annotated[int, Field(ge=1)]
    text_length: Annotated[int, Field(ge=1, description="characters")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="of the chunks, hexadecimal")]


class _Failure(_Checked):
    """The parser found that it cannot read the document."""

    code: str
    sentence: str


_ANSWER: TypeAdapter[_Summary | _Failure] = TypeAdapter(_Summary | _Failure)


class AnswerInvalid(Exception):
    """The child answered what no parser of ours answers."""


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The result of parsing: `chunks` is JSON Lines, `text` is UTF-8, `text_length` counts characters."""

    title: str
    language: str | None
    chunk_count: int
    text_length: int
    sha256: str
    chunks: bytes
    text: bytes

    @classmethod
    def of_answer(cls, summary: bytes, chunks: bytes, text: bytes) -> Self:
        """Raises: ParseFailed when that is the answer, AnswerInvalid."""
        try:
            answer = _ANSWER.validate_json(summary)
        except ValidationError as error:
            raise AnswerInvalid from error
        if isinstance(answer, _Failure):
            raise ParseFailed(answer.code, answer.sentence)
        return cls(**answer.model_dump(), chunks=chunks, text=text)
