"""Translation: a sentence in one language to a sentence in another, by a Transformer or a recurrent encoder-decoder.

Metric: corpus BLEU (sacreBLEU) on the dataset's own tokens, always named by its protocol: `bleu_greedy` and
`bleu_beam4` run free, `bleu_teacher_forced` sees the reference's tokens before each it predicts.
Expect on small-parallel-enja, dev: Transformer beam 4 about 39, teacher-forced about 44; attention RNN greedy about 30.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from components.core.config import Config
from components.core.task import GraphSpec, LoopSpec, Metric, StepOutput, Task
from components.data.parallel_dataset import ParallelDataset, prepare_pairs
from components.data.readers import READERS, choose_reader
from components.evaluation.bleu import bleu_signature, corpus_bleu
from components.inference.tokenizers import BOS, EOS, PAD
from components.models.decoding import RANKING, SEARCH, BeamBody, Finish, GreedyBody, Shrink, Start
from components.models.fast_ops import smoothed_cross_entropy
from components.models.multiply_adds import multiply_adds
from components.models.positions import check_width
from components.models.rnn import RecurrentSeq2Seq
from components.models.transformer import Transformer

PerLayer = int | tuple[int, ...]
TRANSFORMER_ALONE = (
    "head_width", "heads", "source_heads", "decoder_heads", "ffn", "decoder_ffn", "encoder_layers", "decoder_layers",
    "positions",
)  # fmt: skip
COUNTED_TOKENS = 16  # of source and of target, in the sentence whose multiply-adds are counted


class DataConfig(Config):
    """How sentences become ids."""

    tokenizer: Literal["sentencepiece", "word"]
    bleu: Literal["none", "char", "ja-mecab", "13a"] = Field(
        "none", description="sacreBLEU's tokenizer; none: as they come"
    )
    vocabulary: int = Field(8000, gt=8, description="pieces a language (sentencepiece)")
    min_frequency: int = Field(2, ge=1, description="rarer words become <unk> (word)")

    def idle(self) -> Mapping[str, str]:
        if self.tokenizer == "word":
            return {"vocabulary": "the word tokenizer keeps every word that is frequent enough"}
        return {"min_frequency": "sentencepiece's pieces are chosen by the size of the vocabulary"}


class ModelConfig(Config):
    """A teacher or a student of either architecture; numbers a layer may be one for all or one each."""

    architecture: Literal["transformer", "rnn"]
    width: int = Field(gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    # transformer
    head_width: int | None = Field(None, gt=0, description="width / heads where not given")
    heads: PerLayer = 4
    source_heads: PerLayer | None = None
    decoder_heads: PerLayer | None = None
    ffn: PerLayer = 1024
    decoder_ffn: PerLayer | None = None
    encoder_layers: int = Field(3, gt=0)
    decoder_layers: int = Field(3, gt=0)
    positions: Literal["add", "concat"] = "add"
    # rnn
    cell: Literal["gru", "lstm"] = "gru"
    layers: int = Field(1, gt=0)

    def idle(self) -> Mapping[str, str]:
        if self.architecture == "transformer":
            return dict.fromkeys(("cell", "layers"), "the recurrent network's alone")
        return dict.fromkeys(TRANSFORMER_ALONE, "the Transformer's alone")

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.architecture == "transformer":
            check_width(self.width, self.positions)
            self.explicit()
        return self

    def explicit(self) -> Self:
        """Return the same model with every number a layer written out, as a pruned model needs them."""
        if self.architecture == "rnn":
            return self
        decoder_heads = self.heads if self.decoder_heads is None else self.decoder_heads
        source_heads = self.heads if self.source_heads is None else self.source_heads
        decoder_ffn = self.ffn if self.decoder_ffn is None else self.decoder_ffn
        heads = self.heads if isinstance(self.heads, int) else max(self.heads)
        if not 0 < heads <= self.width:
            raise ValueError(f"heads: 1 to {self.width} (width) are possible, got {heads}")
        return self.model_copy(
            update={
                "head_width": self.head_width or self.width // heads,
                "heads": _each(self.heads, self.encoder_layers, "heads"),
                "ffn": _each(self.ffn, self.encoder_layers, "ffn"),
                "decoder_heads": _each(decoder_heads, self.decoder_layers, "decoder_heads"),
                "source_heads": _each(source_heads, self.decoder_layers, "source_heads"),
                "decoder_ffn": _each(decoder_ffn, self.decoder_layers, "decoder_ffn"),
            }
        )


def _each(value: PerLayer, layers: int, key: str) -> tuple[int, ...]:
    counts = (value,) * layers if isinstance(value, int) else value
    if len(counts) != layers or min(counts) < 1:
        raise ValueError(f"{key}: one number above zero for each of {layers} layers is needed, got {value}")
    return counts


class SearchOptions(Config):
    """How an exported graph searches."""

    beam: int = Field(1, ge=1, le=16, description="1 is greedy search")
    length_penalty: float = Field(1.0, ge=0, description="log-probability is divided by length ** this")
    max_length: int = Field(40, gt=0, lt=128, description="tokens after which the search stops")

    def idle(self) -> Mapping[str, str]:
        return {"length_penalty": "greedy search compares no lengths"} if self.beam == 1 else {}

    @property
    def protocol(self) -> str:
        """The metric's name under this search: `bleu_greedy`, `bleu_beam4`, `bleu_beam4_penalty0.6_max60`."""
        name, usual = "bleu_greedy" if self.beam == 1 else f"bleu_beam{self.beam}", type(self).model_fields
        if self.length_penalty != usual["length_penalty"].default:
            name += f"_penalty{self.length_penalty:g}"
        return name if self.max_length == usual["max_length"].default else f"{name}_max{self.max_length}"


class Translation(Task):
    """See the module."""

    name = "translation"
    metric = Metric("bleu", "max", "BLEU")
    Data, Model, Options = DataConfig, ModelConfig, SearchOptions
    predictor = "translation"

    def check_split(self, split: Mapping[str, Any], where: str) -> None:
        choose_reader(READERS, split, where)

    def prepare(self, raw: Path, out: Path, split: Mapping[str, Any], data: DataConfig) -> dict[str, Any]:
        return prepare_pairs(raw, out, split, data.tokenizer, data.vocabulary, data.min_frequency, data.bleu)

    def dataset(self, root: Path, split: str) -> ParallelDataset:
        return ParallelDataset.load(root, split)

    def build_model(self, config: ModelConfig, root: Path) -> nn.Module:
        sizes = ParallelDataset.vocabulary_sizes(root)
        if config.architecture == "rnn":
            model: nn.Module = RecurrentSeq2Seq(
                *sizes, width=config.width, layers=config.layers, cell=config.cell, dropout=config.dropout, pad=PAD
            )
        else:
            fields = ("width", "head_width", "heads", "ffn", "decoder_heads", "source_heads", "decoder_ffn", "dropout")
            layers = {name: getattr(config.explicit(), name) for name in fields}
            model = Transformer(*sizes, **layers, positions=config.positions, pad=PAD)
        model.label_smoothing = config.label_smoothing  # type: ignore[assignment]
        return model

    def step(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> StepOutput:
        source_BS, target_BT = batch
        logits_NV = model(source_BS, target_BT[:, :-1]).flatten(0, 1)
        targets_N = target_BT[:, 1:].flatten()
        smoothing: float = model.label_smoothing if model.training else 0.0  # type: ignore[assignment]
        loss = smoothed_cross_entropy(logits_NV, targets_N, smoothing, PAD)
        keep_N = targets_N != PAD
        metrics = {}
        if not model.training:  # an argmax over the vocabulary costs as much as a product
            correct = (logits_NV.argmax(-1) == targets_N) & keep_N
            metrics["accuracy"] = correct.sum() / keep_N.sum().clamp_min(1)
        return StepOutput(loss, logits_NV, torch.where(keep_N, targets_N, -1), metrics)

    def graphs(self, model: nn.Module, options: SearchOptions) -> list[GraphSpec | LoopSpec]:
        return [_decode_loop(model, options)]

    def score(self, predictor: Any, examples: ParallelDataset) -> dict[str, float]:
        answers = predictor.predict(examples.inputs())
        options = SearchOptions(**predictor.options)
        return {options.protocol: corpus_bleu(answers, examples.references(), examples.bleu_tokenizer)}

    def protocols(self) -> list[SearchOptions]:
        return [SearchOptions.model_validate({"beam": beam}) for beam in (1, 4)]

    def signature(self, examples: ParallelDataset) -> str:
        return bleu_signature(examples.bleu_tokenizer)

    @torch.inference_mode()
    def score_model(self, model: nn.Module, examples: ParallelDataset) -> dict[str, float]:
        """Return `bleu_teacher_forced`: the argmax after each reference prefix, cut at the reference's length.

        And `multiply_adds_m`: millions of multiplications with an addition of one teacher-forced pass over a sentence
        of COUNTED_TOKENS tokens on either side.
        """
        model.eval()
        answers = []
        for start in range(0, len(examples), 100):
            rows = range(start, min(start + 100, len(examples)))
            source_BS, target_BT = examples.collate([examples[i] for i in rows])
            best_BT = model(source_BS, target_BT[:, :-1]).argmax(-1)
            for row, target in zip(best_BT.tolist(), target_BT.tolist(), strict=True):
                answers.append(examples.decode_target(row[: target.index(EOS) - 1]))
        sentence = torch.full((1, COUNTED_TOKENS), EOS)
        return {
            "bleu_teacher_forced": corpus_bleu(answers, examples.references(), examples.bleu_tokenizer),
            "multiply_adds_m": multiply_adds(model, sentence, sentence) / 1e6,
        }


def _decode_loop(model: Any, options: SearchOptions) -> LoopSpec:
    """Return the parts of greedy or beam search with the examples and free sizes by which torch.export traces them."""
    beams, alpha, longest = options.beam, options.length_penalty, options.max_length
    start = Start(model, beams, BOS).eval()
    body = GreedyBody(model, PAD, EOS, longest) if beams == 1 else BeamBody(model, beams, alpha, PAD, EOS, longest)
    body, shrink = body.eval(), Shrink(beams, alpha, longest).eval()
    constants, ranking = model.constant_names(), list(RANKING) if beams > 1 else []
    state = [*SEARCH, *ranking, *model.state_names()]
    values = _example_values(start, body, shrink, constants, state)
    auto, growing = torch.export.Dim.AUTO, {**model.growing(), "answer": 1, "tokens": 1}
    free: dict[str, Any] = {n: {0: auto, growing[n]: auto} if n in growing else {0: auto} for n in values}
    free["position"] = None

    def part(name: str, module: nn.Module, outputs: list[str]) -> GraphSpec:
        example, shapes = (_arguments(what, constants, state) for what in (values, free))
        return GraphSpec(name, module, example, [*constants, *state], outputs, shapes)

    source = torch.full((3, 5), EOS)
    return LoopSpec(
        name="translate",
        start=GraphSpec("start", start, (source,), ["source"], [*constants, *state], ({0: auto, 1: auto},)),
        body=part("body", body, ["go_on", *(f"next_{name}" for name in state)]),
        shrink=part("shrink", shrink, ["again", *(f"next_{name}" for name in (*constants, *state))]),
        finish=GraphSpec("finish", Finish(), (values["answer"],), ["answer"], ["target"], (free["answer"],)),
        constants=constants,
        state=state,
        max_steps=longest,
    )


def _example_values(
    start: nn.Module, body: nn.Module, shrink: nn.Module, constants: list[str], state: list[str]
) -> dict[str, Tensor]:
    """Return constants and state after a few steps: sizes that cannot be mistaken for one another."""
    with torch.no_grad():
        values = dict(zip([*constants, *state], start(torch.full((3, 5), EOS)), strict=True))
        for count in range(6):
            part, names = (shrink, [*constants, *state]) if count == 3 else (body, state)
            if count == 3:  # an unfinished row more than half, so that the shrink keeps several
                values["finished"] = torch.zeros_like(values["finished"])
            _, *new = part(*_arguments(values, constants, state))
            values.update(zip(names, new, strict=True))
    return {name: value.contiguous() for name, value in values.items()}  # strides would be traced too


def _arguments(values: Mapping[str, Any], constants: list[str], state: list[str]) -> tuple[Any, ...]:
    """Return what the loop's parts take: constants, the search's state one by one, its ranking, the model's own."""
    ranking = [values[name] for name in state if name in RANKING]
    model = [values[name] for name in state if name not in (*SEARCH, *RANKING)]
    return ([values[name] for name in constants], *(values[name] for name in SEARCH), ranking, model)


TASK = Translation()
