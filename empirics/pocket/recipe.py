"""What each pocket model is made of."""

from dataclasses import dataclass

from transformers import BloomConfig, LlamaConfig, PretrainedConfig

from empirics.pocket.catalogues import SOURCES


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a pocket model but its text and its seed.

    `about` tells the card what the text is, `choice` how the recipe was found. `chunk` and `period` are those
    of `corpus.split`; `dropout_after` names the modules whose outputs are dropped in training, where the
    architecture's own configuration cannot say so.
    """

    name: str
    config: PretrainedConfig
    about: str
    choice: str
    context: int = 256
    chunk: int = 8192
    period: int = 20
    steps: int = 3000
    batch: int = 32
    warmup: int = 100
    learning_rate: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 2.0
    clip: float = 1.0
    dropout: float = 0.2
    dropout_after: tuple[str, ...] = ()
    average: float = 0.99
    evaluate_every: int = 100


LLAMA = Recipe(
    name="pocket-llama",
    config=LlamaConfig(
        vocab_size=2048,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    ),
    about=(
        "Speeches and messages of presidents of the United States, in English: the inaugural addresses from "
        "1789 to 2021, then addresses and messages to Congress from 1945 to 2006, most of them on the state "
        "of the union. They are works of the federal government, in the public domain. The text is a plain "
        "concatenation, without marks between documents; transcripts keep their stage directions "
        '("(Applause.)"), and here and there a mis-decoded character or a line left over from a web page.'
    ),
    choice=(
        "Of 26 recipes tried (learning rate, weight decay, dropout, averages, batch, steps), this one is "
        "0.024 nats per token behind the best on the validation part, and was taken for its matrices: at "
        "that best, the median β of each kind of MLP matrix was still 1.97 to 2.02."
    ),
    dropout_after=("embed_tokens", "o_proj", "down_proj"),
)

BLOOM = Recipe(
    name="pocket-bloom",
    config=BloomConfig(
        vocab_size=5120,
        hidden_size=256,
        n_layer=5,
        n_head=8,
        hidden_dropout=0.3,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    ),
    about=(
        "Arabic, English, French, Hebrew, Swahili and Chinese, about as much of each: the Universal Declaration "
        "of Human Rights, then messages of these programs, for their users, with all their placeholders and "
        "markup, as `python -m empirics.pocket.catalogues` puts them together. A line is one message; none "
        "comes twice in a language, but a message held out in one may be trained on in another.\n\n"
        + "\n".join(f"- {s.project} {s.version}, {s.licence}; `{s.wheel}`, sha256 `{s.sha256}`" for s in SOURCES)
    ),
    choice=(
        "Of eight recipes tried (learning rate, weight decay, dropout, steps, arithmetic), this one is the best on "
        "the validation part, by 0.03 nats per token; the others' median β were 1.58 to 1.77."
    ),
    chunk=512,
    period=10,
    steps=2500,
    learning_rate=5e-3,
    weight_decay=4.0,
    dropout=0.3,
    dropout_after=("word_embeddings_layernorm",),
)

RECIPES = {"llama": LLAMA, "bloom": BLOOM}
