"""Trust policies: whose signatures count for which model. Rules only.

::

    {"models": [{"name": "digits",   "keys": ["team.pem"]},
                {"name": "vision/*", "roots": ["ca.pem"], "signers": ["*@vision.example"]}],
     "allow_paths": false}

The first entry whose name matches a model decides; a model that none matches is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from nbmodel.core.digest import digest_of
from nbmodel.core.document import canonical_json
from nbmodel.errors import ConfigError, InputError, TrustError
from nbmodel.signing.bundle import Bundle
from nbmodel.signing.certificate import Certificate, read_certificates
from nbmodel.signing.check import Signed, Trusted, TrustedKey, check_version
from nbmodel.signing.key import read_public_key

_PEM = "-----BEGIN "
_RULE = ("name", "keys", "roots", "signers", "ignore_expiry", "files_only")
_POLICY = ("models", "allow_paths")


@dataclass(frozen=True, slots=True)
class Rule:
    """Whose signatures count for some models.

    Attributes:
        name: Pattern of their names; ``*`` stands for any characters, ``/`` among them.
        trusted: Whose signatures count.
        files_only: Whether signatures count that are over the files alone, as other tools
            make them: what a version says of its files is not signed then.
    """

    name: str
    trusted: Trusted
    files_only: bool = False


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Which versions may run.

    Attributes:
        rules: In order; the first whose pattern matches decides.
        allow_paths: Whether services may name what is in no package, and so has no signature:
            files by path, models that a server has itself, settings that may name code.
    """

    rules: tuple[Rule, ...]
    allow_paths: bool = False

    @property
    def digest(self) -> str:
        """Equal for policies that say the same."""
        return digest_of(
            canonical_json(
                {
                    "allow_paths": self.allow_paths,
                    "models": [
                        {
                            "name": rule.name,
                            "keys": [one.key.hint for one in rule.trusted.keys],
                            "roots": [one.fingerprint for one in rule.trusted.roots],
                            "signers": list(rule.trusted.signers),
                            "ignore_expiry": rule.trusted.ignores_expiry,
                            "files_only": rule.files_only,
                        }
                        for rule in self.rules
                    ],
                }
            )
        )

    def rule_for(self, model: str) -> Rule:
        """The rule of a model.

        Raises:
            TrustError: There is none.
        """
        for rule in self.rules:
            if fnmatchcase(model, rule.name):
                return rule
        names = ", ".join(rule.name for rule in self.rules)
        raise TrustError(
            f"the trust policy here says nothing of {model}: it is about {names[:300]}",
            reason="NoRule",
            hint="name the model, or `*`, in the trust policy of the runtime",
        )

    def check(
        self,
        model: str,
        what: str,
        *,
        digest: str,
        files: Mapping[str, str],
        bundles: Iterable[bytes],
        at: datetime,
    ) -> Signed:
        """Whose signature lets a version run.

        Args:
            model: Name of the model, as it is called here.
            what: The version, for messages: ``digits:3``.
            digest: Of its manifest.
            files: Path → sha256 of each of its files, 64 hex digits.
            bundles: Its signatures, as they came; one that counts is enough, and what comes
                after it is not looked at.
            at: The present time, aware.

        Raises:
            TrustError: None counts.
        """
        rule = self.rule_for(model)
        hint = f"nbmodel sign {what} --key KEY.pem, with a key that the policy names; then push "
        hint += "or deploy it again"
        troubles = []
        for raw in bundles:
            try:
                bundle = Bundle.from_bytes(raw)
                signed = check_version(bundle, rule.trusted, digest=digest, files=files, at=at)
                _check_scope(rule, signed, model, files)
            except TrustError as exc:
                troubles.append(exc)
            else:
                return signed
        if not troubles:
            raise TrustError(
                f"{what} is not signed, expected a signature by {rule.trusted}",
                reason="Unsigned",
                hint=hint,
            )
        # The one that came furthest says most.
        worst = max(troubles, key=lambda exc: _FURTHEST.index(exc.reason))
        raise TrustError(
            f"{what} may not run: {worst}",
            reason=worst.reason,
            hint=worst.hint or hint,
        ) from worst


#: Reasons by how far a signature came.
_FURTHEST = (
    "Malformed",
    "NotSupported",
    "OtherSigner",
    "NotValidNow",
    "WrongSignature",
    "OtherFiles",
    "OtherVersion",
)


def is_named(model: str, signed: str) -> bool:
    """Whether a model is the one that was signed, maybe below a namespace of a registry.

    Args:
        model: As it is called here, ``team/digits``.
        signed: As it was called when it was signed, ``digits``.
    """
    return model == signed or model.endswith(f"/{signed}")


def read_policy(data: object, read: Callable[[str], bytes]) -> TrustPolicy:
    """A trust policy.

    Args:
        data: The document, as parsed JSON. Keys and authorities are PEM text or names of files.
        read: Reads such a file; may raise InputError or OSError.

    Raises:
        ConfigError: It cannot be used; ``problems`` lists everything. What is not understood
            is never passed over: without it, more could run than is meant to.
    """
    problems: list[str] = []
    if not isinstance(data, Mapping):
        raise ConfigError(f"trust policy: expected an object, found {type(data).__name__}")
    problems += [f"unknown key {key!r}" for key in data if key not in _POLICY]
    entries = data.get("models")
    if not isinstance(entries, list) or not entries:
        problems.append('expected a list of at least one under "models"')
        entries = []
    rules = []
    for place, entry in enumerate(entries):
        try:
            rules.append(_read_rule(entry, read))
        except (InputError, OSError) as exc:
            problems.append(f"models[{place}]: {exc}")
    allow_paths = data.get("allow_paths", False)
    if not isinstance(allow_paths, bool):
        problems.append(f"allow_paths: expected true or false, found {allow_paths!r:.40}")
    if problems:
        raise ConfigError(f"trust policy: {'; '.join(problems)}", problems=problems)
    return TrustPolicy(tuple(rules), allow_paths)


def _read_rule(entry: object, read: Callable[[str], bytes]) -> Rule:
    if not isinstance(entry, Mapping):
        raise InputError(f"expected an object, found {type(entry).__name__}")
    for key in entry:
        if key not in _RULE:
            raise InputError(f"unknown key {key!r}, expected {', '.join(_RULE)}")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InputError("expected the name of a model, or a pattern, under 'name'")
    keys = [
        TrustedKey(file, read_public_key(pem, file)) for file, pem in _files(entry, "keys", read)
    ]
    roots: list[Certificate] = []
    for file, pem in _files(entry, "roots", read):
        roots += read_certificates(pem, file)
    if not keys and not roots:
        raise InputError("expected keys or roots, found neither: nothing could ever run")
    if roots and not any(one.is_root for one in roots):
        raise InputError("none of the roots is a certificate that signed itself")
    trusted = Trusted(
        tuple(keys), tuple(roots), tuple(_words(entry, "signers")), _flag(entry, "ignore_expiry")
    )
    return Rule(name, trusted, _flag(entry, "files_only"))


def _check_scope(rule: Rule, signed: Signed, model: str, files: Mapping[str, str]) -> None:
    """Whether enough is signed, and for this model."""
    statement = signed.statement
    if statement.manifest is not None and statement.model is not None:
        if not is_named(model, statement.model):
            raise TrustError(
                f"signed by {signed.by} as model {statement.model}, found as {model}",
                reason="OtherVersion",
            )
        return
    unsigned = statement.unsigned(files)
    if not rule.files_only:
        raise TrustError(
            f"signed by {signed.by} over its files alone, expected over the version: what it "
            "says of its tensors and labels is not signed",
            reason="OtherFiles",
            hint="sign it with `nbmodel sign`, or have the trust policy say "
            '"files_only": true for this model',
        )
    if unsigned:
        raise TrustError(
            f"signed by {signed.by}, but not {', '.join(unsigned[:3])}", reason="OtherFiles"
        )


def _files(
    entry: Mapping[str, Any], key: str, read: Callable[[str], bytes]
) -> list[tuple[str, bytes]]:
    """What to call each file of an entry, and its bytes."""
    found = []
    for place, text in enumerate(_words(entry, key)):
        if text.startswith(_PEM):
            found.append((f"{key}[{place}]", text.encode()))
        else:
            found.append((text, read(text)))
    return found


def _words(entry: Mapping[str, Any], key: str) -> list[str]:
    words = entry.get(key, [])
    if not isinstance(words, list) or not all(isinstance(one, str) and one for one in words):
        raise InputError(f"expected a list of text under {key!r}")
    return words


def _flag(entry: Mapping[str, Any], key: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise InputError(f"expected true or false under {key!r}, found {value!r:.40}")
    return value
