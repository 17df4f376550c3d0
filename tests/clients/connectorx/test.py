"""connectorx: a query in parts, by binary COPY, by cursor and by simple query."""

import sys

import connectorx

url = sys.argv[1]
query = "SELECT id::bigint AS id, id / 2.0::double precision AS half, 'n' || id::text AS name FROM generate_series(1::bigint, 1000::bigint) AS s (id)"
for protocol in ("binary", "cursor", "csv", "simple"):
    table = connectorx.read_sql(url, query, return_type="arrow", protocol=protocol)
    print(protocol, table.num_rows, sum(table["id"].to_pylist()), table["name"][999], [str(field.type) for field in table.schema])
parts = connectorx.read_sql(url, query, return_type="arrow", partition_on="id", partition_num=3)
print("parts", parts.num_rows, sum(parts["half"].to_pylist()))
