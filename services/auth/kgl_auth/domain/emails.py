"""E-mail addresses as names of accounts."""

from email_validator import EmailNotValidError, validate_email


def account_name(typed: str) -> str:
    """The form under which an account is found: nobody has two accounts that differ in case alone.

    Whatever is typed can be looked up: Postgres refuses the character NUL, so it becomes another one.
    """
    return typed.strip().lower().replace("\0", "\ufffd")


def checked_email(typed: str) -> str:
    """The account name of a well-formed address; ValueError with a sentence otherwise. No look-up is made."""
    try:
        valid = validate_email(
            typed.strip(), check_deliverability=False, globally_deliverable=False, test_environment=True
        )
    except EmailNotValidError as wrong:
        raise ValueError(str(wrong)) from wrong
    return account_name(valid.normalized)
