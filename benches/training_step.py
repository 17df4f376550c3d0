"""The PyTorch peer of udfs/models/examples/training_step.rs: same shapes, same kind of data, one line of JSON.

    python benches/training_step.py --threads 2 --steps 24

Sparse gradients with Adagrad for the table, fused AdamW for the dense part: the fastest of the stock choices on a CPU.
"""

import argparse
import json
import time

import torch

BATCH, CATEGORIES, NUMBERS, VOCABULARY = 4096, 26, 13, 100_000
DIM, TABLE, CROSS, HIDDEN = 16, 1 << 20, 3, [256, 128, 64]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        width = CATEGORIES * DIM + NUMBERS
        self.table = torch.nn.Embedding(TABLE, DIM, sparse=True)
        torch.nn.init.uniform_(self.table.weight, -0.05, 0.05)
        self.cross = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(CROSS))
        sizes = [width, *HIDDEN]
        self.hidden = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.head = torch.nn.Linear(width + HIDDEN[-1], 1)

    def forward(self, ids, numbers):
        x0 = torch.cat([self.table(ids).flatten(1), numbers], 1)
        cross = x0
        for layer in self.cross:
            cross = x0 * layer(cross) + cross
        deep = x0
        for layer in self.hidden:
            deep = torch.relu(layer(deep))
        return self.head(torch.cat([cross, deep], 1))


def data(rows):
    torch.manual_seed(1)
    values = (VOCABULARY * torch.rand(rows, CATEGORIES) ** 4).long() + 1
    features = torch.arange(1, CATEGORIES + 1)
    ids = ((values * 0x9E3779B1 + features * 0x85EBCA77) >> 7) % TABLE
    return ids, torch.rand(rows, NUMBERS) - 0.5, (torch.rand(rows, 1) < 0.3).float()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ids, numbers, labels = data(arguments.steps * BATCH)
    net = Net()
    dense = [weight for name, weight in net.named_parameters() if not name.startswith("table")]
    sparse_optimizer = torch.optim.Adagrad([net.table.weight], lr=0.02)
    dense_optimizer = torch.optim.AdamW(dense, lr=1e-3, weight_decay=0.01, fused=True)
    for _ in range(2):  # the first epoch warms up, the second counts
        started, cpu, total = time.perf_counter(), time.process_time(), 0.0
        for rows in torch.randperm(len(labels)).split(BATCH):
            sparse_optimizer.zero_grad()
            dense_optimizer.zero_grad()
            logits = net(ids[rows], numbers[rows])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[rows])
            loss.backward()
            sparse_optimizer.step()
            dense_optimizer.step()
            total += loss.item()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    milliseconds = seconds * 1e3 / arguments.steps
    print(
        json.dumps(
            {
                "engine": f"PyTorch {torch.__version__} on cpu",
                "threads": arguments.threads,
                "steps": arguments.steps,
                "ms_per_step": round(milliseconds, 1),
                "cpu_ms_per_step": round(cpu * 1e3 / arguments.steps, 1),
                "rows_per_second": round(BATCH / milliseconds * 1e3),
                "loss": total / arguments.steps,
            }
        )
    )


if __name__ == "__main__":
    main()
