"""BLEU with the signature that makes a score comparable."""

from __future__ import annotations

from components.evaluation.bleu import bleu_signature, corpus_bleu


def test_signature_names_the_tokens_that_were_counted() -> None:
    assert "tok:none" in bleu_signature("none")
    assert "tok:char" in bleu_signature("char")


def test_score_depends_on_what_counts_as_a_token() -> None:
    answers, references = ["猫 は 寝 て いる 。"], ["猫 は 寝 て いた 。"]
    assert round(corpus_bleu(references, references, "none"), 6) == 100.0
    assert corpus_bleu(answers, references, "none") < corpus_bleu(answers, references, "char") < 100.0
