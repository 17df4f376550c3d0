#!/usr/bin/env python3
"""The same fine-tuning of MiniLM-L6 as texts.py asks for, by PyTorch and transformers, on the same split. Ends with a JSON object for run.py.

    texts_torch.py --binary PATH --model FOLDER --set reviews_en|banking77 --method full|lora

The recipe is finetune's, with its defaults: the mean of the last hidden states, dropout 0.1 on it and on the inputs of LoRA (rank 8, alpha 16, queries
and values), none elsewhere, a linear head that begins at the shares of the classes and learns 20 (LoRA: 2) times as fast, AdamW with decay 0.01 of
matrices, the rate rising for a tenth of the steps and then falling to zero, the gradient's norm held to 1, 128 tokens, a tenth of the rows held out to
choose the best of 4 (LoRA: 6) epochs. The order of rows and the first weights are PyTorch's own.
"""

import argparse
import json
import math
import time

import run
from server import Server
from texts import SETS
from tuning import change


def main():
    import numpy
    import torch
    from sklearn.metrics import f1_score
    from sklearn.model_selection import train_test_split
    from transformers import AutoModel, AutoTokenizer

    source, _ = SETS[arguments.set]
    with Server(arguments.binary, run.REPOSITORY.parent / "shared/data") as server:
        server.rows(f"""CREATE TABLE split AS SELECT text, CAST(label AS text) AS label, row_number() OVER (ORDER BY md5(text), label) % 5 = 0 AS held
            FROM ({source}) s WHERE trim(text) <> ''""")
        train, held = (server.rows(f"SELECT text, label FROM split WHERE held = {side} ORDER BY md5(text)") for side in ("false", "true"))
    started = time.monotonic()
    torch.manual_seed(0)
    full = arguments.method == "full"
    epochs, rate, quick = (4, 5e-5, 20) if full else (6, 1e-3, 2)
    classes = sorted(set(train["label"]))
    number = {name: place for place, name in enumerate(classes)}
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    encoder = AutoModel.from_pretrained(arguments.model, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    if not full:
        change(encoder, ["query", "value"], 0.1)
    head, dropout = torch.nn.Linear(encoder.config.hidden_size, len(classes)), torch.nn.Dropout(0.1)
    labels = torch.tensor([number[name] for name in train["label"]])
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.log(torch.bincount(labels, minlength=len(classes)) / len(labels)))

    def logits(texts):
        given = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        mask = given["attention_mask"].unsqueeze(-1)
        vectors = (encoder(**given).last_hidden_state * mask).sum(1) / mask.sum(1)
        return head(dropout(vectors))

    def score(texts):
        encoder.eval(), dropout.eval()
        order = numpy.argsort([len(text) for text in texts])
        found = torch.zeros(len(texts), len(classes))
        with torch.no_grad():
            for batch in numpy.array_split(order, math.ceil(len(texts) / 64)):
                found[batch] = logits([texts[place] for place in batch])
        encoder.train(), dropout.train()
        return found

    texts = list(train["text"])
    fit, check = train_test_split(numpy.arange(len(texts)), test_size=0.1, stratify=labels, random_state=0)
    matrices = [weight for weight in encoder.parameters() if weight.requires_grad and weight.ndim > 1]
    vectors = [weight for weight in encoder.parameters() if weight.requires_grad and weight.ndim < 2]
    groups = [
        {"params": matrices, "lr": rate, "weight_decay": 0.01},
        {"params": vectors, "lr": rate, "weight_decay": 0.0},
        {"params": [head.weight], "lr": quick * rate, "weight_decay": 0.01},
        {"params": [head.bias], "lr": quick * rate, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
    size = 16 if len(fit) < 2048 else 32
    steps = epochs * math.ceil(len(fit) / size)
    pace = lambda step: min((step + 1) / (0.1 * steps), 1 - (step / steps - 0.1) / 0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(pace(step), 0.0))
    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    best = (math.inf, None)
    encoder.train()
    for _ in range(epochs):
        for batch in torch.from_numpy(numpy.random.permutation(fit)).split(size):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(logits([texts[place] for place in batch]), labels[batch])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
        figure = torch.nn.functional.cross_entropy(score([texts[place] for place in check]), labels[check]).item()
        if figure < best[0]:
            best = (figure, score(list(held["text"])).argmax(1))
    f1 = 100 * f1_score(held["label"], [classes[place] for place in best[1]], average="macro")
    print(json.dumps({"rows": len(texts), "held_out": len(held["text"]), "macro_f1": f1, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--set", choices=["reviews_en", "banking77"], required=True)
    parser.add_argument("--method", choices=["full", "lora"], required=True)
    arguments = parser.parse_args()
    try:
        main()
    except run.Problem as problem:
        raise SystemExit(f"texts_torch: {problem}") from None
