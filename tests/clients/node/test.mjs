// node-postgres and postgres.js: parameters, transactions, cursors, errors.
import pg from 'pg'
import Cursor from 'pg-cursor'
import postgres from 'postgres'

const url = process.argv[2]
const say = (...words) => console.log(...words.map(word => (typeof word === 'string' ? word : JSON.stringify(word))))

const client = new pg.Client(url)
await client.connect()
const typed = await client.query('SELECT $1::int AS i, $2::text AS t, $3::float8 AS f, $4::bool AS b, NULL::date AS n', [7, 'x', 0.5, true])
say('pg row', typed.rows, typed.fields.map(field => [field.name, field.dataTypeID]))
say('pg time', (await client.query("SELECT '2024-02-29 12:00:00+00'::timestamptz AS a")).rows)
await client.query('CREATE TABLE node (id bigint, name text)')
const inserted = await client.query('INSERT INTO node SELECT n, $1 || n::text FROM generate_series(1::bigint, 100::bigint) AS s (n)', ['n'])
say('pg inserted', inserted.command, inserted.rowCount)
await client.query('BEGIN')
say('pg deleted', (await client.query('DELETE FROM node WHERE id > $1', [3])).rowCount)
await client.query('ROLLBACK')
say('pg any', (await client.query('SELECT id FROM node WHERE id = ANY($1::bigint[]) ORDER BY id', [[1, 3, 500]])).rows)
const cursor = client.query(new Cursor('SELECT id FROM node ORDER BY id'))
say('pg cursor', await cursor.read(2), (await cursor.read(1000)).length)
await cursor.close()
say('pg prepared', (await client.query({ name: 'one', text: 'SELECT name FROM node WHERE id = $1', values: [5] })).rows)
for (const sql of ['SELECT * FROM nowhere', 'SELECT 1 / 0', 'SELEC']) {
  await client.query(sql).catch(error => say('pg error', error.code))
}
await client.end()

const sql = postgres(url, { max: 1, onnotice: () => {} })
say('js row', await sql`SELECT ${7}::int AS i, ${'x'}::text AS t, ${true}::bool AS b, ${0.5}::float8 AS f`)
say('js updated', (await sql`UPDATE node SET name = ${'low'} WHERE id < ${3}`).count)
await sql.begin(async sql => {
  await sql`DELETE FROM node`
  await sql.savepoint(async sql => {
    await sql`INSERT INTO node VALUES (1, 'in')`
    throw new Error('back')
  }).catch(error => say('js savepoint', error.message))
  say('js inside', await sql`SELECT count(*)::int AS n FROM node`)
  throw new Error('undo')
}).catch(error => say('js begin', error.message))
say('js outside', await sql`SELECT count(*)::int AS n FROM node`)
const rows = [{ id: 500, name: 'a' }, { id: 501, name: null }]
say('js insert', (await sql`INSERT INTO node ${sql(rows)}`).count)
let seen = 0
await sql`SELECT id FROM node ORDER BY id`.cursor(10, rows => { seen += rows.length })
say('js cursor', seen)
await sql`SELECT * FROM nowhere`.catch(error => say('js error', error.code))
await sql`DROP TABLE node`
await sql.end()
