"""How a model is fitted: recipes.<name>.train, and the same block inside a pass."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from components.core.config import Config


class TrainConfig(Config):
    """Numbers of one fit; the defaults are those of the recipe's teacher where a pass leaves one out."""

    epochs: int = Field(gt=0)
    # one of the two: sequences are bucketed by length into batches of this many target tokens, or counted
    tokens_per_batch: int | None = Field(None, gt=0)
    batch_size: int | None = Field(None, gt=0)
    # sgd is plain: neither momentum nor decay; nesterov has both. adagrad suits tables of which a step touches a few
    # rows: each row's rate falls with its own gradients alone
    optimizer: Literal["adamw", "sgd", "nesterov", "adagrad"] = "adamw"
    learning_rate: float = Field(gt=0)
    # linear warm-up, then a cosine down to a fiftieth (or the rate as it is)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    dev_every: int | None = Field(None, gt=0, description="steps between two looks at dev; an epoch where not given")
    weight_decay: float = Field(0.01, ge=0)
    beta2: float = Field(0.98, gt=0, lt=1, description="adamw")
    momentum: float = Field(0.9, gt=0, lt=1, description="nesterov")
    clip: float = Field(1.0, ge=0, description="gradient norm; 0 switches clipping off")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the averaged weights that are kept; 0 keeps the last ones"
    )
    # bfloat16 products are about four times as fast on a CPU with AVX512-BF16 or AMX; one without such instructions
    # trains in float32 instead, in which it is twenty times as fast
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    seed: int = 1

    @model_validator(mode="after")
    def _one_way_to_batch(self) -> Self:
        if (self.tokens_per_batch is None) == (self.batch_size is None):
            raise ValueError("give one of tokens_per_batch and batch_size")
        return self
