#!/usr/bin/env python3
"""Texts for the rows of a table, one line of JSON a call.

    python benches/generation_sql.py --side sql --binary BINARY --rows 1000 --tokens 48
    python benches/generation_sql.py --side loop --model FILE.gguf --rows 60 --tokens 48
    python benches/generation_sql.py --side beside --binary BINARY

`sql` asks with ai.generate and takes the rows as they come, `loop` asks llama.cpp for one text after the other, as a script in front of a server
would, without the server's own time. `beside` is the wait for a plain SELECT while another session generates, and with `--idle` while none does.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time

import run

BEGIN = (
    "You write for a shop that sells clothes, toys and things for the kitchen. Write two friendly sentences that thank a customer for an order. "
    "Say nothing about prices. The order has the number "
)


def sql(arguments):
    from server import Server

    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as data, Server(arguments.binary, data) as server:
        server.rows("SELECT ai.generate('Say yes.', max_tokens => 2)")
        ask = f"SELECT ai.generate('{BEGIN}' || value, max_tokens => {arguments.tokens}) FROM generate_series(1, {arguments.rows})"
        begin, first, texts = time.perf_counter(), None, 0
        # Row by row, as psql shows them.
        with server.client.cursor() as cursor:
            for _ in cursor.stream(ask):
                first = first or time.perf_counter() - begin
                texts += 1
        seconds = time.perf_counter() - begin
        used = server.rows("SELECT tokens, device_seconds FROM ml.usage ORDER BY started_at DESC LIMIT 1")
    tokens, device = used["tokens"][0], used["device_seconds"][0]
    return {
        "rows": texts,
        "tokens": tokens,
        "rows_per_second": texts / seconds,
        "tokens_per_second": tokens / seconds,
        "first_row_seconds": round(first, 3),
        "device_share": round(device / seconds, 3),
    }


def loop(arguments):
    import llama_cpp

    best = {}
    for flash in [False, True]:
        model = llama_cpp.Llama(arguments.model, n_ctx=1024, n_threads=os.cpu_count(), n_threads_batch=os.cpu_count(), flash_attn=flash, verbose=False)

        def ask(number):
            message = {"role": "user", "content": f"{BEGIN}{number}"}
            answer = model.create_chat_completion([message], max_tokens=arguments.tokens, temperature=0)
            return answer["usage"]["completion_tokens"]

        ask(0)
        begin = time.perf_counter()
        tokens = sum(ask(number) for number in range(1, arguments.rows + 1))
        seconds = time.perf_counter() - begin
        found = {"rows": arguments.rows, "tokens": tokens, "rows_per_second": arguments.rows / seconds, "tokens_per_second": tokens / seconds}
        best = max(best, {**found, "flash": flash}, key=lambda one: one.get("rows_per_second", 0))
    return best


def beside(arguments):
    import psycopg
    from server import Server

    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as data, Server(arguments.binary, data) as server:
        server.rows("SELECT ai.generate('Say yes.', max_tokens => 2)")
        stop, started = threading.Event(), threading.Event()

        def generate():
            with psycopg.connect(server.client.info.dsn, autocommit=True) as client, client.cursor() as cursor:
                try:
                    for _ in cursor.stream(f"SELECT ai.generate('{BEGIN}' || value, max_tokens => 48) FROM generate_series(1, 100000)"):
                        started.set()
                        if stop.is_set():
                            client.cancel()
                except psycopg.errors.QueryCanceled:
                    pass

        if not arguments.idle:
            thread = threading.Thread(target=generate)
            thread.start()
            started.wait()
        waits = []
        for number in range(arguments.rows):
            begin = time.perf_counter()
            server.rows(f"SELECT count(*), sum(value) FROM generate_series(1, 100000) WHERE value % 7 = {number % 7}")
            waits.append((time.perf_counter() - begin) * 1000)
        if not arguments.idle:
            stop.set()
            thread.join()
    cuts = statistics.quantiles(waits, n=100)
    return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=["sql", "loop", "beside"], required=True)
    parser.add_argument("--binary")
    parser.add_argument("--model")
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=48)
    arguments = parser.parse_args()
    try:
        print(json.dumps({"sql": sql, "loop": loop, "beside": beside}[arguments.side](arguments)))
    except run.Problem as problem:
        raise SystemExit(f"generation_sql: {problem}") from None


if __name__ == "__main__":
    main()
