"""A GGUF file of 100 KB whose model knows one sentence: what llama.cpp runs, without hundreds of megabytes of Gemma.

A Llama of one layer whose attention and feed-forward weights are zero is a Markov chain: each token's embedding has one
dimension of its own, and the output of the token that follows looks at that dimension alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

__all__ = ["SENTENCE", "write"]

SENTENCE = " kept every byte that it was given, and never asked for one of them again"

_WIDTH = 32
_SPECIAL = {"<unk>": TokenType.UNKNOWN, "<s>": TokenType.CONTROL, "</s>": TokenType.CONTROL}
_END = 2


def write() -> bytes:
    """A model that goes on with `SENTENCE` and ends, whatever it is given."""
    words = [f"▁{word}" for word in SENTENCE.split()]
    bytes_of_text = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = [*_SPECIAL, *bytes_of_text, *words]
    kinds = [*_SPECIAL.values(), *[TokenType.BYTE] * 256, *[TokenType.NORMAL] * len(words)]
    first = len(tokens) - len(words)

    embedding = np.zeros((len(tokens), _WIDTH), np.float32)
    output = np.zeros((len(tokens), _WIDTH), np.float32)
    embedding[:first, 0] = 1  # whatever it is given...
    for dimension, following in enumerate([*range(first, len(tokens)), _END]):
        output[following, dimension] = 10  # ...the first word follows, then each the one before it
        embedding[following, dimension + 1] = 1

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        made = GGUFWriter(file, "llama")
        made.add_context_length(512)
        made.add_embedding_length(_WIDTH)
        made.add_block_count(1)
        made.add_feed_forward_length(_WIDTH)
        made.add_head_count(1)
        made.add_rope_dimension_count(_WIDTH)
        made.add_layer_norm_rms_eps(1e-5)
        made.add_vocab_size(len(tokens))
        made.add_tokenizer_model("llama")
        made.add_token_list(tokens)
        made.add_token_types(kinds)
        made.add_token_scores([0.0] * len(tokens))
        made.add_bos_token_id(1)
        made.add_eos_token_id(_END)
        made.add_unk_token_id(0)
        made.add_tensor("token_embd.weight", embedding)
        made.add_tensor("output.weight", output)
        for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
            made.add_tensor(f"{name}.weight", np.ones(_WIDTH, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            made.add_tensor(f"blk.0.{name}.weight", np.zeros((_WIDTH, _WIDTH), np.float32))
        made.write_header_to_file()
        made.write_kv_data_to_file()
        made.write_tensors_to_file()
        made.close()
        return file.read_bytes()
