"""pgcli's own questions to the catalog, which its completion and its backslash commands ask, and a statement."""

import sys
from urllib.parse import urlparse

from pgcli.pgexecute import PGExecute
from pgspecial.main import PGSpecial

url = urlparse(sys.argv[1])
executor = PGExecute(url.path[1:], url.username, "", url.hostname, str(url.port))
special = PGSpecial()
list(executor.run("CREATE TABLE cli (id bigint, name text)"))
list(executor.run("CREATE VIEW cli_view AS SELECT id FROM cli"))
print("schemata", {"work", "public", "pg_catalog"} <= set(executor.schemata()))
print("tables", [t for t in executor.tables() if t[0] == "work"])
print("views", [v for v in executor.views() if v[0] == "work"])
print("columns", [tuple(c)[:4] for c in executor.table_columns() if c[0] == "work"])
print("view columns", [tuple(c)[:4] for c in executor.view_columns() if c[0] == "work"])
print("keys", [k for k in executor.foreignkeys() if k[0] == "work"])
print("databases", "stratagem" in executor.databases())
print("path", executor.search_path())
for title, rows, headers, status, *_ in executor.run("SELECT 1::bigint AS a, 'x'::text AS b"):
    print("rows", list(rows), headers, status)
for command in (r"\dt work.*", r"\d cli", r"\dv work.*", r"\dn", r"\l", r"\du"):
    for title, rows, headers, status, *_ in executor.run(command, special):
        print(command, headers)
functions = list(executor.functions())
print("functions", sorted(map(repr, (f for f in functions if f.func_name in ("initcap", "every", "pg_get_keywords")))))
print("types", [t for t in executor.datatypes() if t[0] == "work"])
list(executor.run("DROP VIEW cli_view"))
list(executor.run("DROP TABLE cli"))
