"""Signatures of versions in the OpenSSF Model Signing format: made, read and checked.

A signature is a Sigstore bundle (JSON) around a DSSE envelope around an in-toto statement
that lists files with their digests. Rules only: bytes in, bytes or errors out; nothing
here reads a model, a file or a clock. The one foreign library is ``cryptography``, which
is imported when a key is used; a device that checks signatures needs nothing else.

What "signature" means elsewhere in nbmodel, the tensors that a model takes and gives, is
``core.signature``.

Source: OpenSSF Model Signing specification 1.0; Sigstore bundle format 0.3; DSSE 1.0;
in-toto attestation framework, Statement v1.
"""
