"""Remotes of a registry: pushing, pulling, and knowing what is there without its files.

``survey`` reads what a remote has of a model, ``numbering`` and ``alias_tags`` say what that
means for the numbers and aliases here, ``seen`` keeps what was found; the verbs are ``push``,
``pull``, ``sync``, ``fetch`` and ``listing``.
"""
