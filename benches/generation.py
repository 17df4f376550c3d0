#!/usr/bin/env python3
"""The llama.cpp peer of udfs/models/examples/decode.rs: the same file, prompts, threads and number of new tokens, one line of JSON.

    python benches/generation.py --model model.gguf --threads 2 --batch 8 --tokens 48 --prompt 150

All sequences are decoded together through llama_batch, the most likely token is taken, and nothing ends a text early. What suits this machine
is found first, for reading and for generating apart: attention kernels, number of tokens computed at once, all threads or one. The fastest is
measured: the median of `--repeat` runs. Keys and values are in half precision, which is llama.cpp's own choice. `--only` leaves a phase out.
"""

import argparse
import contextlib
import ctypes
import itertools
import json
import statistics
import time

import llama_cpp
import numpy

# Tokens that are computed at once.
AT_ONCE = [128, 512]
# New tokens of a trial.
TRIAL = 8


def prompts_of(batch, length, vocabulary):
    """As in decode.rs."""
    rows = []
    for row in range(batch):
        count = length + (row * 7) % (length // 3 + 1) - min(length // 6, (batch - 1) * 4)
        rows.append([(place * 131 + row * 7919) % (vocabulary - 100) + 100 for place in range(max(count, 1))])
    return rows


class Sequences:
    """A context with one sequence for each prompt."""

    def __init__(self, model, prompts, tokens, flash, at_once):
        settings = llama_cpp.llama_context_default_params()
        # Attention looks at the whole memory of a unified cache, and at its own part otherwise.
        settings.kv_unified = False
        settings.n_seq_max = len(prompts)
        row = -(-(max(map(len, prompts)) + tokens) // 256) * 256
        settings.n_ctx = row * len(prompts)
        tokens_of_call = sum(map(len, prompts))
        settings.n_batch, settings.n_ubatch = tokens_of_call, at_once
        settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.no_perf = True
        self.context = llama_cpp.llama_init_from_model(model, settings)
        if not self.context:
            raise SystemExit("generation: llama.cpp made no context")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.prompts, self.first = prompts, None
        self.batch = llama_cpp.llama_batch_init(tokens_of_call, 0, 1)

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)

    def put(self, token, place, sequence, wanted):
        batch, index = self.batch, self.batch.n_tokens
        batch.token[index], batch.pos[index], batch.logits[index] = token, place, wanted
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
        batch.n_tokens = index + 1

    def decode(self):
        """The best next tokens, in the order in which positions were wanted."""
        if llama_cpp.llama_decode(self.context, self.batch) != 0:
            raise SystemExit("generation: llama.cpp did not decode")
        wanted = sum(self.batch.logits[index] for index in range(self.batch.n_tokens))
        address = ctypes.cast(llama_cpp.llama_get_logits(self.context), ctypes.POINTER(ctypes.c_float))
        return numpy.ctypeslib.as_array(address, shape=(wanted, self.vocabulary)).argmax(axis=1)

    def read(self, threads):
        """Reads the prompts; gives the seconds."""
        llama_cpp.llama_set_n_threads(self.context, threads, threads)
        llama_cpp.llama_memory_clear(self.memory, False)
        started = time.perf_counter()
        self.batch.n_tokens = 0
        for sequence, prompt in enumerate(self.prompts):
            for place, token in enumerate(prompt):
                self.put(token, place, sequence, place + 1 == len(prompt))
        self.first = self.decode()
        return time.perf_counter() - started

    def generate(self, threads, tokens):
        """Writes so many tokens after the prompts, the first of which reading gave; gives the seconds that a step takes."""
        llama_cpp.llama_set_n_threads(self.context, threads, threads)
        for sequence, prompt in enumerate(self.prompts):
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, len(prompt), -1)
        best = self.first
        started = time.perf_counter()
        for step in range(tokens - 1):
            self.batch.n_tokens = 0
            for sequence, prompt in enumerate(self.prompts):
                self.put(int(best[sequence]), len(prompt) + step, sequence, True)
            best = self.decode()
        return (time.perf_counter() - started) / (tokens - 1)


def measure(arguments, phase, model, prompts):
    """Tries every setting once, and measures the fastest. Gives tokens per second and the setting."""
    sizes = AT_ONCE if phase == "prefill" else AT_ONCE[-1:]
    with contextlib.ExitStack() as stack:
        contexts = {}
        for flash, at_once in itertools.product([False, True], sizes):
            made = Sequences(model, prompts, arguments.tokens, flash, at_once)
            contexts[flash, at_once] = stack.enter_context(contextlib.closing(made))
            # The first reading is slower than the others.
            made.read(arguments.threads)

        def seconds(setting, tokens):
            *context, threads = setting
            sequences = contexts[tuple(context)]
            return sequences.read(threads) if phase == "prefill" else sequences.generate(threads, tokens)

        settings = [(*context, threads) for context in contexts for threads in sorted({1, arguments.threads})]
        setting = min(settings, key=lambda setting: seconds(setting, min(TRIAL, arguments.tokens)))
        middle = statistics.median(seconds(setting, arguments.tokens) for _ in range(arguments.repeat))
    flash, at_once, threads = setting
    count = sum(map(len, prompts)) if phase == "prefill" else len(prompts)
    return round(count / middle, 1), f"threads {threads}, at once {at_once}, flash attention {flash}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--only", choices=["prefill", "decode"])
    for name, default in [("threads", 1), ("batch", 1), ("tokens", 48), ("prompt", 150), ("repeat", 3)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()

    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(arguments.model.encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"generation: llama.cpp cannot load {arguments.model}")
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    prompts = prompts_of(arguments.batch, arguments.prompt, vocabulary)
    answer = {
        "engine": f"llama.cpp of llama-cpp-python {llama_cpp.__version__}",
        "batch": arguments.batch,
        "prompt_tokens": sum(map(len, prompts)),
        "new_tokens": arguments.tokens,
    }
    for phase in [arguments.only] if arguments.only else ["prefill", "decode"]:
        answer[f"{phase}_per_second"], answer[f"{phase}_setting"] = measure(arguments, phase, model, prompts)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
