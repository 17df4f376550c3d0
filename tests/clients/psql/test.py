"""psql at a terminal, as a person sits before it: what it shows of results, its commands on them, and Ctrl-C."""

import os
import pty
import re
import subprocess
import sys
import termios
from urllib.parse import urlparse

import psycopg

PROMPT = "psql-is-ready> "

# what each prints is compared as it stands
COMMANDS = [
    "CREATE TABLE psql_items (id bigint, kind text, price double precision);",
    "INSERT INTO psql_items VALUES (1, 'a', 0.5), (2, 'b', 1.5), (3, 'a', 2.5), (4, 'c', NULL);",
    "COMMENT ON TABLE psql_items IS 'what psql is tried with';",
    "COMMENT ON COLUMN psql_items.price IS 'in euros';",
    "CREATE VIEW psql_dear AS SELECT id, price FROM psql_items WHERE price > 1;",
    "SELECT * FROM psql_items ORDER BY id;",
    "SELECT kind, count(*) AS n, sum(price) FROM psql_items GROUP BY kind ORDER BY kind;",
    "\\d psql_items",
    "\\d psql_dear",
    "\\dt psql*",
    "\\dv psql*",
    "\\dd psql*",
    # results
    "\\x on",
    "SELECT * FROM psql_items WHERE id = 4;",
    "\\x off",
    "SELECT * FROM psql_items WHERE id = 2 \\gx",
    "\\pset null '(none)'",
    "SELECT * FROM psql_items WHERE id = 4 \\g",
    "\\pset format csv",
    "SELECT * FROM psql_items ORDER BY id;",
    "\\pset format html",
    "SELECT id, kind FROM psql_items WHERE kind = 'a' ORDER BY id;",
    "\\pset format aligned",
    "\\t on",
    "SELECT kind FROM psql_items ORDER BY id;",
    "\\t off",
    "\\a",
    "SELECT id, kind FROM psql_items ORDER BY id;",
    "\\a",
    "SELECT id, kind FROM psql_items ORDER BY id \\g | tail -n 2",
    "SELECT count(*), 1.5::numeric(4,2) AS x, now() AS t, ARRAY[1] AS l, 'a'::text, true AS b FROM psql_items \\gdesc",
    # variables
    "SELECT max(id) AS most, min(kind) AS first FROM psql_items \\gset found_",
    "\\echo :found_most :'found_first'",
    "SELECT id FROM psql_items WHERE id = :found_most;",
    "SELECT id FROM psql_items WHERE kind = :'found_first' ORDER BY id;",
    "\\set shown 'psql_items'",
    'SELECT count(*) FROM :"shown";',
    "\\if :ERROR \\echo yes \\else \\echo no \\endif",
    "\\echo :ROW_COUNT :SQLSTATE :ERROR",
    # a statement for each row
    "SELECT 'SELECT ' || id || ' AS \"' || kind || '\"' FROM psql_items ORDER BY id LIMIT 2 \\gexec",
    # a table of two directions
    "SELECT kind, id % 2 AS odd, count(*) FROM psql_items GROUP BY 1, 2 ORDER BY 1, 2 \\crosstabview",
    "SELECT kind, id % 2 AS odd, sum(price) AS s FROM psql_items GROUP BY 1, 2 ORDER BY 1, 2 \\crosstabview odd kind s",
    # errors
    "SELECT nothing FROM psql_items;",
    "\\echo :ERROR :SQLSTATE",
    "SELECT 1/0;",
    # transactions
    "BEGIN;",
    "DELETE FROM psql_items;",
    "SELECT count(*) FROM psql_items;",
    "\\echo :AUTOCOMMIT",
    "ROLLBACK;",
    "SELECT count(*) FROM psql_items;",
    "\\set ON_ERROR_ROLLBACK on",
    "BEGIN;",
    "SELECT 1/0;",
    "SELECT 1 AS goes_on;",
    "COMMIT;",
    "\\set ON_ERROR_ROLLBACK off",
    # rows by a cursor
    "\\set FETCH_COUNT 2",
    "SELECT id FROM psql_items ORDER BY id;",
    "\\unset FETCH_COUNT",
    # data in and out
    "\\copy psql_items TO STDOUT WITH (FORMAT csv, HEADER)",
    "\\copy (SELECT id FROM psql_items ORDER BY id) TO STDOUT",
    "COPY psql_items (id, kind) FROM STDIN;\n5\td\n6\te\n\\.",
    "SELECT count(*) FROM psql_items;",
    "\\encoding",
    "SHOW server_encoding;",
    "\\prompt 'name? ' answer\nAnna",
    "\\echo :answer",
    "SELECT 1 AS one \\; SELECT 2 AS two;",
    "\\echo done",
]


class Terminal:
    """A psql that sits at a terminal."""

    def __init__(self, url):
        master, slave = pty.openpty()
        # what is typed is not shown again
        modes = termios.tcgetattr(slave)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        command = ["psql", "-X", "-n", "-P", "pager=off", "-v", f"PROMPT1={PROMPT}", "-v", "PROMPT2=", "-v", "PROMPT3="]
        address = ["-h", url.hostname, "-p", str(url.port), "-U", url.username, url.path[1:]]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "PGTZ": "UTC"}
        self.process = subprocess.Popen(
            [*command, *address], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True, preexec_fn=take_terminal
        )
        os.close(slave)
        self.master, self.text = master, ""
        self.until(PROMPT)

    def until(self, end, times=1):
        """What is shown up to so many of these ends."""
        while self.text.count(end) < times:
            self.text += os.read(self.master, 65536).decode().replace("\r\n", "\n")
        at = 0
        for _ in range(times):
            at = self.text.index(end, at) + len(end)
        shown, self.text = self.text[:at], self.text[at:]
        return shown

    def type(self, text):
        os.write(self.master, text.encode())

    def ask(self, line):
        self.type(line + "\n")
        return self.until(PROMPT).removesuffix(PROMPT)


def take_terminal():
    """Makes the terminal at hand the one whose keys send signals."""
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def interrupted(terminal, connection, statement):
    """What Ctrl-C leaves of a statement, once it runs."""
    terminal.type(statement + "\n")
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s AND pid <> pg_backend_pid()"
    while connection.execute(running, (statement.rstrip(";") + "%",)).fetchone()[0] == 0:
        pass
    terminal.type("\x03")
    return terminal.until(PROMPT).removesuffix(PROMPT).replace("^C", "")


address = urlparse(sys.argv[1])
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    terminal = Terminal(address)
    terminal.ask("DROP TABLE IF EXISTS psql_items CASCADE;")
    for line in COMMANDS:
        print(f"> {line}")
        # the words of errors are the server's own
        print(re.sub(r"(ERROR|FATAL): .*\n(?:(?:LINE|HINT|DETAIL|CONTEXT).*\n|\s*\^\n)*", r"\1\n", terminal.ask(line)), end="", flush=True)
    print("> again and again, until Ctrl-C")
    terminal.type("SELECT max(id) AS watched FROM psql_items \\watch 0.05\n")
    print(terminal.until("(1 row)", 3).count(" watched "), "times")
    terminal.type("\x03")
    terminal.until(PROMPT)
    print(terminal.ask("SELECT 'goes on' AS it;"), end="")
    for statement in ("SELECT pg_sleep(60);", "SELECT count(*) FROM generate_series(1, 100000) a CROSS JOIN generate_series(1, 1000000) b;"):
        print(f"> {statement} Ctrl-C")
        print(interrupted(terminal, connection, statement), end="")
        print(terminal.ask("SELECT 'goes on' AS it;"), end="")
    print("> in a transaction")
    terminal.ask("BEGIN;")
    print(interrupted(terminal, connection, "SELECT pg_sleep(60);"), end="")
    print(terminal.ask("COMMIT;"), end="")
    terminal.ask("DROP VIEW psql_dear;")
    print(terminal.ask("DROP TABLE psql_items;"), end="")
    terminal.type("\\q\n")
    print("ended with", terminal.process.wait())
