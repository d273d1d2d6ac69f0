"""A real translation bundle in half a minute: a made-up grammar, its tokenizers, a small Transformer, exported."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from components.core.bundle import Bundle
from components.core.files import write_json, write_text
from components.core.task import TrainedModel
from components.core.tolerance import tolerance_for
from components.export.export import export_model
from components.inference import load_predictor
from components.tasks.translation import TASK, DataConfig, ModelConfig, SearchOptions

WHO = {
    "I": "私",
    "you": "君",
    "she": "彼女",
    "Tom": "トム",
    "the old teacher": "先生",
    "my sister": "妹",
    "the children": "子",
}
DOES = {
    "like": "がすき",
    "hate": "がきらい",
    "buy": "をかう",
    "look at": "をみる",
    "need": "がいる",
    "know": "をしる",
    "break": "をこわす",
}
WHAT = {
    "tea": "おちゃ",
    "books": "本",
    "dogs": "いぬ",
    "flowers": "はな",
    "fresh fish": "さかな",
    "newspapers": "しんぶん",
    "T-shirts": "Ｔシャツ",
}
WHEN = {
    "today": "きょう",
    "every morning": "まいあさ",
    "at 7": "７時に",
    "in winter": "ふゆに",
    "again": "また",
    "whenever possible": "いま",
}
SIZES = {"train": 800, "dev": 40, "test": 120}


def made_up_pairs(between: str = "") -> dict[str, list[tuple[str, str]]]:
    """Return distinct pairs, English and Japanese, of each split; `between` stands where Japanese words meet."""
    pairs = [
        (f"{who} {does} {what} {when}.", between.join((ja_who, "は", ja_when, ja_what, ja_does, "。")))
        for who, ja_who in WHO.items()
        for does, ja_does in DOES.items()
        for what, ja_what in WHAT.items()
        for when, ja_when in WHEN.items()
    ]
    random.Random(0).shuffle(pairs)
    ends = {"train": SIZES["train"], "dev": SIZES["train"] + SIZES["dev"], "test": sum(SIZES.values())}
    return {name: pairs[end - SIZES[name] : end] for name, end in ends.items()}


def tiny_translator(
    root: Path, tokenizer: Literal["sentencepiece", "word"] = "sentencepiece", precision: str = "int8", steps: int = 400
) -> Path:
    """Build a bundle below `root` and return its folder: trained for some steps, so that answers are of many kinds."""
    raw, prepared, out = root / "raw", root / "prepared", root / "bundle"
    for split, pairs in made_up_pairs(" " if tokenizer == "word" else "").items():
        for side, language in enumerate(("en", "ja")):
            write_text(raw / f"{split}.{language}", "".join(f"{pair[side]}\n" for pair in pairs))
    prepared.mkdir()
    sizes = {"min_frequency": 1} if tokenizer == "word" else {"vocabulary": 54}
    data = DataConfig.model_validate({"tokenizer": tokenizer, **sizes})
    TASK.prepare(raw, prepared, {"reader": "parallel_text"}, data)
    config = ModelConfig(architecture="transformer", width=32, heads=2, ffn=64, encoder_layers=1, decoder_layers=1)
    model = TrainedModel(config, _trained(config, prepared, steps))
    identity = {"recipe": "tiny", "variant": f"tiny-{precision}", "parent": "tiny", "precision": precision}
    out.mkdir()
    export_model(
        TASK,
        model,
        SearchOptions(beam=2, max_length=24),
        TASK.dataset(prepared, "dev"),
        prepared / "assets",
        tolerance_for(precision, {"agreement": 0.0, "quality_drop": 1.0}, "tiny"),
        {**identity, "runtime": "cpu"},
        out,
    )
    return _sealed(out, prepared)


def _trained(config: ModelConfig, prepared: Path, steps: int) -> torch.nn.Module:
    torch.manual_seed(1)
    model, train = TASK.build_model(config, prepared).train(), TASK.dataset(prepared, "train")
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        rows = range(step * 32 % len(train), min(step * 32 % len(train) + 32, len(train)))
        optimizer.zero_grad()
        TASK.step(model, train.collate([train[i] for i in rows])).loss.backward()
        optimizer.step()
    return model.eval()


def _sealed(out: Path, prepared: Path) -> Path:
    """Add golden examples, model card and lineage, as the package stage does."""
    manifest, test = Bundle.load(out).manifest, TASK.dataset(prepared, "test")
    inputs, references = test.inputs()[:16], test.references()[:16]
    rows = zip(inputs, references, load_predictor(out).predict(inputs), strict=True)
    write_json(out / "golden.json", {"examples": [{"input": i, "reference": r, "output": o} for i, r, o in rows]})
    about = {"license": "mit", "languages": ["en", "ja"], "credit": "sentences made up for the tests"}
    write_text(out / "MODEL_CARD.md", "# tiny\n")
    Bundle.save(out, replace(manifest, lineage={"about": about}))
    return out
