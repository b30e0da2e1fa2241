"""No key, token or password lies in the repository, and the check would find one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from orchestrator.gateway.keys import new_key

ROOT = Path(__file__).resolve().parents[2]

#: What the keys of common systems look like. Each is written so that it does not find itself.
PATTERNS = {
    "private key": r"-----BEGIN (?:RSA |EC |DSA |OPENSSH |PGP |ENCRYPTED )?PRIVATE KEY-----\s*[A-Za-z0-9+/=]",
    "key of this gateway": r"\bjrn_[A-Za-z0-9_-]{43}\b",
    "AWS": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "Google": r"\bAIza[A-Za-z0-9_-]{35}\b",
    "GitHub": r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{40,}\b",
    "GitLab": r"\bglpat-[A-Za-z0-9_-]{20,}\b",
    "Slack": r"\bxox[abprs]-\d{10,}-[A-Za-z0-9-]{20,}",
    "Slack webhook": r"hooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{20,}",
    "Stripe": r"\b[rs]k_live_[A-Za-z0-9]{20,}\b",
    "Twilio": r"\bSK[0-9a-f]{32}\b",
    "SendGrid": r"\bSG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{40,}\b",
    "PyPI": r"\bpypi-[A-Za-z0-9_-]{80,}\b",
    "npm": r"\bnpm_[A-Za-z0-9]{36}\b",
    "OpenAI": r"\bsk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}\b",
    "signed token": r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}\b",
}
_ANY = re.compile("|".join(f"(?P<p{number}>{pattern})" for number, pattern in enumerate(PATTERNS.values())))
#: What looks like a key and is none, with the reason.
KNOWN: dict[tuple[str, str], str] = {}


def found_in(text: str) -> list[tuple[str, int]]:
    """Return the kinds of keys in a text with their lines."""
    names = list(PATTERNS)
    return [
        (names[int((match.lastgroup or "p0")[1:])], text.count("\n", 0, match.start()) + 1)
        for match in _ANY.finditer(text)
    ]


def kept_files() -> list[Path]:
    """Return the files that are tracked, or would be with the next commit."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_of_the_repository_holds_a_key() -> None:
    files = kept_files()
    assert len(files) > 300
    found = [
        (str(path.relative_to(ROOT)), kind, line)
        for path in files
        for kind, line in found_in(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert [each for each in found if each[:2] not in KNOWN] == []
    assert {each[:2] for each in found} == set(KNOWN), "what is known and gone may go from the list"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("private key", "-----BEGIN " + "PRIVATE KEY-----\nMIIE"),
        ("key of this gateway", f"key: {new_key()}"),
        ("AWS", "AKIA" + "Z" * 16),
        ("Google", "AIza" + "z" * 35),
        ("GitHub", "ghp_" + "z" * 36),
        ("GitLab", "glpat-" + "z" * 20),
        ("Slack", "xoxb-" + "1" * 12 + "-" + "z" * 24),
        ("Stripe", "sk_live_" + "z" * 24),
        ("Twilio", "SK" + "0" * 32),
        ("SendGrid", "SG." + "z" * 22 + "." + "z" * 43),
        ("PyPI", "pypi-" + "z" * 90),
        ("npm", "npm_" + "z" * 36),
        ("signed token", "eyJ" + "z" * 30 + ".eyJ" + "z" * 30 + "." + "z" * 30),
    ],
)
def test_a_key_would_be_found(kind: str, text: str) -> None:
    assert found_in(f"first line\n{text}\n") == [(kind, 2)]


def test_files_of_secrets_are_not_taken_along() -> None:
    ignored = ["keys.yaml", "deploy/keys.yaml", "secret.yaml", ".env", "gateway.key", "tls/server.pem"]
    done = subprocess.run(["git", "check-ignore", *ignored], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ignored
