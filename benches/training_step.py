#!/usr/bin/env python3
"""The peer of the training benchmark: one training step of the same click model in PyTorch, on the CPU.

The net and the data are those of udfs/models/examples/training_step.rs: DCNv2 in its parallel form with full-rank cross layers,
26 hashed columns of dimension 16 in one table of 2^20 rows, 13 numbers, 3 cross layers, hidden layers 256, 128 and 64, batches
of 4096 rows, cross entropy, AdamW for the dense part. The table has sparse gradients and Adagrad, PyTorch's fastest way to train
one of this size. Prints the median time of a step in milliseconds.
"""

import json
import os
import statistics
import time

import numpy
import torch
from torch import nn

ROWS, HASHED, NUMBERS, DIM, TABLE = 4096, 26, 13, 16, 1 << 20
CROSS_LAYERS, HIDDEN = 3, (256, 128, 64)
WARM_UP, STEPS = 3, 15


class Dcnv2(nn.Module):
    def __init__(self):
        super().__init__()
        width = HASHED * DIM + NUMBERS
        self.table = nn.Embedding(TABLE, DIM, sparse=True)
        nn.init.normal_(self.table.weight, std=0.01)
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(CROSS_LAYERS))
        layers, before = [], width
        for after in HIDDEN:
            layers += [nn.Linear(before, after), nn.ReLU()]
            before = after
        self.deep = nn.Sequential(*layers)
        self.head = nn.Linear(width + before, 1)

    def forward(self, ids, numbers):
        first = torch.cat([self.table(ids).flatten(1), numbers], dim=1)
        crossed = first
        for layer in self.cross:
            crossed = first * layer(crossed) + crossed
        return self.head(torch.cat([crossed, self.deep(first)], dim=1)).squeeze(1)


def batches(count):
    """Ids with a long tail, as in behaviour logs: value v of a column has the id (column * 40 009 + v) mod the table."""
    random = numpy.random.default_rng(7)
    for _ in range(count):
        tail = (40_000 * random.random((ROWS, HASHED)) ** 4).astype(numpy.int64)
        ids = (numpy.arange(HASHED) * 40_009 + tail) % TABLE
        numbers = random.standard_normal((ROWS, NUMBERS), dtype=numpy.float32)
        labels = (random.random(ROWS) < 0.1).astype(numpy.float32)
        yield torch.from_numpy(ids), torch.from_numpy(numbers), torch.from_numpy(labels)


def main():
    torch.manual_seed(7)
    torch.sparse.check_sparse_tensor_invariants.disable()
    torch.set_num_threads(os.cpu_count() or 1)
    net = Dcnv2()
    dense = [parameter for name, parameter in net.named_parameters() if not name.startswith("table.")]
    optimizers = [torch.optim.Adagrad(net.table.parameters(), lr=0.02), torch.optim.AdamW(dense, lr=1e-3, fused=True)]
    loss_of = nn.BCEWithLogitsLoss()
    times = []
    for ids, numbers, labels in batches(WARM_UP + STEPS):
        started = time.perf_counter()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss_of(net(ids, numbers), labels).backward()
        for optimizer in optimizers:
            optimizer.step()
        times.append(1000 * (time.perf_counter() - started))
    print(json.dumps({"name": "training_step", "value": statistics.median(times[WARM_UP:]), "unit": "ms"}))


if __name__ == "__main__":
    main()
