"""What Superset asks through SQLAlchemy and pandas: its inspector, the time grains of its engine for PostgreSQL, previews and SQL Lab, charts with
filters, series limits and samples of virtual datasets. Superset itself is too large to install for a test."""

import sys
from datetime import datetime

import pandas
import sqlalchemy as sa

engine = sa.create_engine(sys.argv[1].replace("postgresql://", "postgresql+psycopg2://"), poolclass=sa.pool.NullPool)


def run(*statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))


def frame(query):
    """The rows of a query as a chart gets them: by a cursor, with names and types of its own."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(query.replace("%", "%%"), {})
        return pandas.DataFrame(cursor.fetchall(), columns=[column[0] for column in cursor.description])
    finally:
        connection.close()


def say(name, query):
    rows = frame(query)
    print(name, list(rows.columns), rows.astype(str).values.tolist())


def moment(year, month, day):
    """A time as the engine for PostgreSQL writes it."""
    return f"TO_TIMESTAMP('{datetime(year, month, day):%Y-%m-%d %H:%M:%S.%f}', 'YYYY-MM-DD HH24:MI:SS.US')"


run(
    "DROP VIEW IF EXISTS work.recent",
    "DROP TABLE IF EXISTS work.sales",
    "CREATE TABLE work.sales (id bigint, at timestamp, kind text, price double precision, day date, seconds bigint)",
    """INSERT INTO work.sales SELECT n, TIMESTAMP '2024-01-01 00:00:07' + n * INTERVAL '37 minutes', 'k' || (n % 3), n * 0.5::float8,
       DATE '2024-01-01' + (n % 40)::int, 1704067200 + n * 3600 FROM generate_series(1, 500) AS g (n)""",
    "INSERT INTO work.sales VALUES (501, NULL, NULL, NULL, NULL, NULL)",
    "COMMENT ON TABLE work.sales IS 'for charts'",
    "CREATE VIEW work.recent AS SELECT id, kind, at FROM work.sales WHERE at >= TIMESTAMP '2024-01-12'",
)

# what the page of a database and of a dataset asks
with engine.connect() as connection:
    inspector = sa.inspect(connection)
    print("default", inspector.default_schema_name)
    print("schemas", {"public", "work"} <= set(inspector.get_schema_names()))
    print("tables", inspector.get_table_names(schema="work"), inspector.get_view_names(schema="work"))
    for name in ("sales", "recent"):
        print("columns", name, [(column["name"], str(column["type"]), column["nullable"], column["comment"]) for column in inspector.get_columns(name, "work")])
    print("keys", inspector.get_pk_constraint("sales", "work")["constrained_columns"], inspector.get_foreign_keys("sales", "work"), inspector.get_indexes("sales", "work"))
    print("comment", inspector.get_table_comment("sales", "work"))
say("catalogs", "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname = 'stratagem'")
say("preview", "SELECT\n  *\nFROM work.sales\nLIMIT 2")
say("no rows", "SELECT * FROM (SELECT id, kind FROM work.sales WHERE id > 1000) AS virtual_table LIMIT 0")

# time grains
STEPS = {"5 seconds": ("minute", "SECOND", 5), "30 seconds": ("minute", "SECOND", 30), "5 minutes": ("hour", "MINUTE", 5), "10 minutes": ("hour", "MINUTE", 10),
         "15 minutes": ("hour", "MINUTE", 15), "30 minutes": ("hour", "MINUTE", 30)}  # fmt: skip
grains = {unit: f"DATE_TRUNC('{unit}', at)" for unit in ("second", "minute", "hour", "day", "week", "month", "quarter", "year")}
for step, (unit, part, count) in STEPS.items():
    word = step.split()[1]
    grains[step] = f"DATE_TRUNC('{unit}', at) + INTERVAL '{count} {word}' * FLOOR(EXTRACT({part} FROM at) / {count})"
for name, grain in grains.items():
    say(name, f"SELECT {grain} AS __timestamp, COUNT(*) AS count, SUM(price) AS total FROM work.sales WHERE at IS NOT NULL GROUP BY {grain} ORDER BY 1 LIMIT 3")
say("epoch", "SELECT DATE_TRUNC('day', (timestamp 'epoch' + seconds * interval '1 second')) AS __timestamp, COUNT(*) AS n FROM work.sales GROUP BY 1 ORDER BY 1 LIMIT 2")
say("day", "SELECT DATE_TRUNC('month', day)::date AS __timestamp, MAX(price) AS most FROM work.sales GROUP BY DATE_TRUNC('month', day) ORDER BY most DESC")

# a chart over time with a limit of its series
since, until = moment(2024, 1, 2), moment(2024, 1, 10)
where = f"at >= {since} AND at < {until} AND kind IN ('k0', 'k1') AND price > 20"
say(
    "series",
    f"""SELECT DATE_TRUNC('day', at) AS __timestamp, kind AS kind, SUM(price) AS total, COUNT(*) AS count, COUNT(DISTINCT price) AS "COUNT_DISTINCT(price)"
FROM work.sales JOIN (SELECT kind AS kind__, SUM(price) AS mme_inner__
FROM work.sales
WHERE {where} GROUP BY kind ORDER BY SUM(price) DESC
 LIMIT 2) AS series_limit ON kind = kind__
WHERE {where} GROUP BY kind, DATE_TRUNC('day', at)
HAVING (SUM(price) > 10) ORDER BY total DESC
 LIMIT 10""",
)
# tables, totals, filters of every kind
say("table", f"SELECT kind AS kind, at AS at, price AS price FROM work.sales WHERE at < {moment(2024, 1, 2)} ORDER BY price DESC LIMIT 3 OFFSET 1")
say("totals", "SELECT SUM(price) AS \"SUM(price)\", AVG(price) AS \"AVG(price)\", MIN(at) AS first, MAX(at) AS last FROM work.sales")
say("filters", """SELECT COUNT(*) AS count FROM work.sales WHERE kind NOT IN ('k0') AND kind ILIKE 'K%' AND kind IS NOT NULL AND price >= 1 AND price != 3
AND (price < 100 OR id = 400) AND ((kind = 'k1' AND id % 2 = 0))""")
say("nulls", "SELECT kind AS kind, COUNT(*) AS count FROM work.sales WHERE kind IS NULL OR kind IN ('k2') GROUP BY kind ORDER BY count DESC")
say("values", "SELECT DISTINCT kind AS kind FROM work.sales ORDER BY kind LIMIT 1000")
say("search", "SELECT DISTINCT kind AS kind FROM work.sales WHERE LOWER(kind) LIKE '%1%' LIMIT 1000")
say("percentiles", """SELECT kind AS kind, percentile_cont(0.5) WITHIN GROUP (ORDER BY price) AS median, STDDEV(price) > 0 AS spread FROM work.sales
WHERE kind IS NOT NULL GROUP BY kind ORDER BY kind""")
say("histogram", "SELECT width_bucket(price, 0, 250, 5) AS bucket, COUNT(*) AS count FROM work.sales GROUP BY 1 ORDER BY 1")
say("cases", "SELECT CASE WHEN price < 50 THEN 'low' ELSE 'high' END AS size, SUM(CASE WHEN kind = 'k0' THEN 1 ELSE 0 END) AS zeros FROM work.sales GROUP BY CASE WHEN price < 50 THEN 'low' ELSE 'high' END ORDER BY size")
say("alike", "SELECT kind, sum(id)::text AS total, sum(id::int) AS whole FROM work.sales GROUP BY kind ORDER BY kind")

# virtual datasets and SQL Lab
virtual = "(SELECT s.kind, s.at, s.price, r.id IS NOT NULL AS fresh FROM work.sales s LEFT JOIN work.recent r ON r.id = s.id) AS virtual_table"
say("virtual", f"SELECT DATE_TRUNC('week', at) AS __timestamp, fresh AS fresh, COUNT(*) AS count FROM {virtual} WHERE at >= {since} GROUP BY DATE_TRUNC('week', at), fresh ORDER BY count DESC, 1 LIMIT 100")
say("rowcount", f"SELECT COUNT(*) AS rowcount FROM (SELECT kind AS kind FROM {virtual} GROUP BY kind LIMIT 50000) AS rowcount_qry")
say("samples", f"SELECT kind AS kind, price AS price FROM {virtual} WHERE at >= {since} ORDER BY price LIMIT 2")
say("lab", "WITH daily AS (SELECT at::date AS d, SUM(price) AS total FROM work.sales WHERE at IS NOT NULL GROUP BY at::date) SELECT d, total, SUM(total) OVER (ORDER BY d) AS running FROM daily ORDER BY d\nLIMIT 3")
say("limit", "SELECT * FROM (SELECT id, kind FROM work.recent ORDER BY id) AS inner_qry LIMIT 2")

read = pandas.read_sql_query(sa.text("SELECT kind, at, price FROM work.sales WHERE kind = :kind ORDER BY price LIMIT 2"), engine, params={"kind": "k1"})
print("read", read.astype(str).values.tolist(), list(map(str, read.dtypes)))
try:
    frame("SELECT kin FROM work.sales")
except Exception as error:
    print("wrong", type(error).__name__, error.pgcode)

run("DROP VIEW work.recent", "DROP TABLE work.sales")
engine.dispose()
