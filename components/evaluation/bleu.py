"""Corpus BLEU by sacreBLEU (Post 2018), with the signature that makes a score comparable."""

from __future__ import annotations

from sacrebleu.metrics.bleu import BLEU


def corpus_bleu(answers: list[str], references: list[str], tokenizer: str) -> float:
    """Return BLEU in percent; tokenizer "none" counts the tokens as they stand, split at spaces."""
    return float(_metric(tokenizer).corpus_score(answers, [references]).score)


def bleu_signature(tokenizer: str) -> str:
    """Return sacreBLEU's signature of such a score."""
    metric = _metric(tokenizer)
    metric.corpus_score(["a"], [["a"]])  # the signature counts references, so it needs to have seen some
    return str(metric.get_signature())


def _metric(tokenizer: str) -> BLEU:
    return BLEU(tokenize=tokenizer, force=True)  # force: the sentences are tokenized on purpose
