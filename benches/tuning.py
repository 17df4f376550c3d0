#!/usr/bin/env python3
"""The PyTorch peer of tuning.rs: the same shapes, one line of JSON.

    tuning.py --what full|lora|language --steps 6

Full fine-tuning and LoRA (rank 8, queries and values) of MiniLM-L6 on 32 texts of 64 tokens, LoRA of SmolLM2-135M on 4 texts of 128 tokens, with the
libraries' own modules and their fastest attention, weights at random, fused AdamW, the gradient's norm held to 1, all cores. Dropout as ours: 0.1 on
the pooled vectors and the inputs of LoRA for the encoder, none for the language model. LoRA is (x A) B beside a frozen matrix.
"""

import argparse
import json
import math
import resource
import time

import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM


class Changed(torch.nn.Module):
    """A frozen linear layer with a low-rank change."""

    def __init__(self, base, rank, alpha, dropout):
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.a = torch.nn.Parameter((torch.rand(rank, base.in_features) * 2 - 1) / math.sqrt(base.in_features))
        self.b = torch.nn.Parameter(torch.zeros(base.out_features, rank))
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x):
        return self.base(x) + (self.dropout(x) @ self.a.T * self.scale) @ self.b.T


def change(model, names, dropout):
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name in names:
            layer = getattr(parent, name, None)
            if isinstance(layer, torch.nn.Linear):
                setattr(parent, name, Changed(layer, 8, 16.0, dropout))


class Classifier(torch.nn.Module):
    def __init__(self, what):
        super().__init__()
        config = BertConfig(
            vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
        self.encoder = BertModel(config, add_pooling_layer=False)
        if what == "lora":
            change(self.encoder, ["query", "value"], 0.1)
        self.dropout, self.head = torch.nn.Dropout(0.1), torch.nn.Linear(384, 2)

    def forward(self, ids, labels):
        vectors = self.encoder(ids).last_hidden_state.mean(1)
        return torch.nn.functional.cross_entropy(self.head(self.dropout(vectors)), labels)


def language():
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        rope_theta=100000.0, tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    change(model, ["q_proj", "v_proj"], 0.0)
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", choices=["full", "lora", "language"], required=True)
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    if arguments.what == "language":
        model, rows, tokens, vocabulary = language(), 4, 128, 49152
    else:
        model, rows, tokens, vocabulary = Classifier(arguments.what), 32, 64, 30522
    model.train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01, fused=True)
    for _ in range(2):  # the first epoch warms up, the second counts
        started = time.perf_counter()
        for _ in range(arguments.steps):
            ids = torch.randint(1, vocabulary, (rows, tokens))
            optimizer.zero_grad()
            loss = model(input_ids=ids, labels=ids).loss if arguments.what == "language" else model(ids, ids[:, 0] % 2)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        seconds = time.perf_counter() - started
    told = {
        "engine": f"PyTorch {torch.__version__}",
        "steps": arguments.steps,
        "ms_per_step": seconds * 1e3 / arguments.steps,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
