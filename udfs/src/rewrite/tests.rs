use std::sync::Mutex;

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::*;
use crate::declaration::{Presence, functions};
use crate::error::find;

/// Knows the columns of a few tables, found by the name in the question, and remembers what it was asked.
#[derive(Default)]
struct Tables(Mutex<Vec<String>>);

#[async_trait]
impl Scope for Tables {
    async fn columns(&self, query: &Query) -> Result<Vec<String>> {
        let text = query.to_string();
        let from = text.rsplit("FROM ").next().unwrap_or_default().to_owned();
        self.0.lock().unwrap().push(text);
        let columns: &[&str] = match from.split([' ', ')']).next().unwrap_or_default() {
            "impressions" | "shop.impressions" => &["item_id", "Price"],
            "users" => &["user_id", "item_id"],
            "named_i" => &["i"],
            "c" | "r" => &["a", "b"],
            other => return Err(DataFusionError::Plan(format!("table '{other}' not found"))),
        };
        Ok(columns.iter().map(|column| (*column).to_owned()).collect())
    }
}

async fn rewritten(sql: &str) -> Result<String> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
    let mut statement = statements.pop().unwrap();
    rewrite(&mut statement, &Tables::default()).await?;
    let once = statement.to_string();
    rewrite(&mut statement, &Tables::default()).await?;
    assert_eq!(once, statement.to_string(), "the rewrite is a fixed point");
    Ok(once)
}

async fn becomes(sql: &str, expected: &str) {
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(flat(&rewritten(sql).await.unwrap()), flat(expected), "{sql}");
}

async fn fails(sql: &str) -> (String, Option<String>, Option<String>) {
    let error = rewritten(sql).await.unwrap_err();
    let error = find(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
    (error.to_string(), error.detail(), error.hint())
}

#[tokio::test]
async fn named_arguments_stand_in_any_order_and_both_spellings() {
    becomes("SELECT auc(score => p, label => y) FROM t", "SELECT auc(y, p) FROM t").await;
    becomes("SELECT auc(y, score := p) FROM t", "SELECT auc(y, p) FROM t").await;
    becomes(
        "SELECT AUC(\"score\" => p, LABEL => y, weight => w) FILTER (WHERE p > 0) OVER (PARTITION BY g) FROM t",
        "SELECT AUC(y, p, w) FILTER (WHERE p > 0) OVER (PARTITION BY g) FROM t",
    )
    .await;
    becomes("SELECT count(DISTINCT a), auc(DISTINCT label => y, score => p) FROM t", "SELECT count(DISTINCT a), auc(DISTINCT y, p) FROM t")
        .await;
}

#[tokio::test]
async fn defaults_are_filled_in_and_a_query_becomes_a_subquery() {
    const BEFORE: &str = "NULL, NULL, 'ctr', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";
    const AFTER: &str = "NULL, NULL, 2, '128, 64', 4, NULL, 0.1, NULL, NULL, 0.01, 0, NULL, 10, NULL, 0, 0, 1, 1, 'none', NULL, 1, 'random', NULL, 0.1, true, 'logloss', 3";
    becomes(
        "SELECT * FROM finetune(label => 'click', query => $$SELECT a FROM c;$$, model => 'ctr', seed => 7)",
        &format!("SELECT * FROM finetune('ctr', (SELECT a FROM c), 'click', {BEFORE}, NULL, {AFTER}, 7)"),
    )
    .await;
    becomes(
        "SELECT * FROM finetune('ctr', (SELECT a FROM c), $1, epochs => $2)",
        &format!("SELECT * FROM finetune('ctr', (SELECT a FROM c), $1, {BEFORE}, $2, {AFTER}, 0)"),
    )
    .await;
}

#[test]
fn every_default_is_an_sql_literal() {
    for function in functions() {
        for parameter in function.parameters {
            if let Presence::Default(literal) = parameter.presence {
                let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(literal).unwrap().parse_expr();
                assert!(parsed.is_ok(), "{}.{}", function.name, parameter.name);
            }
        }
    }
}

#[tokio::test]
async fn a_table_alias_stands_for_its_row() {
    let row = "named_struct('item_id', i.\"item_id\", 'Price', i.\"Price\")";
    for sql in ["predict_ctr('ctr', i)", "predict_ctr('ctr', i.*)", "predict_ctr(model => 'ctr', features => i)", "predict_ctr('ctr', I)"] {
        let row = if sql.contains('I') { row.replace("i.\"", "I.\"") } else { row.to_owned() };
        becomes(&format!("SELECT {sql} FROM impressions i"), &format!("SELECT predict_ctr('ctr', {row}) FROM impressions i")).await;
    }
    becomes("SELECT predict_ctr('ctr', *) FROM impressions AS i", &format!("SELECT predict_ctr('ctr', {row}) FROM impressions AS i")).await;
    let whole = row.replace("i.\"", "impressions.\"");
    becomes(
        "SELECT predict_ctr('ctr', impressions) FROM shop.impressions",
        &format!("SELECT predict_ctr('ctr', {whole}) FROM shop.impressions"),
    )
    .await;
}

#[tokio::test]
async fn aliases_are_seen_everywhere_in_the_select() {
    let row = "named_struct('item_id', i.\"item_id\", 'Price', i.\"Price\")";
    let call = |row: &str| format!("predict_ctr('ctr', {row})");
    for frame in [
        "SELECT 1 FROM impressions i WHERE # > 0.5",
        "SELECT 1 FROM impressions i GROUP BY #",
        "SELECT 1 FROM impressions i ORDER BY # DESC LIMIT 3",
        "SELECT avg(#) FROM impressions i HAVING avg(#) > 0",
        "SELECT 1 FROM users AS u JOIN impressions i ON # > 0.5",
        "SELECT (SELECT #) FROM impressions i",
        "SELECT x FROM (SELECT # AS x FROM impressions i) AS s",
        "WITH s AS (SELECT # AS x FROM impressions i) SELECT x FROM s",
        "SELECT # FROM impressions i UNION ALL SELECT # FROM impressions i",
        "CREATE VIEW v AS SELECT # FROM impressions i",
        "EXPLAIN SELECT # FROM impressions i",
        "INSERT INTO t SELECT # FROM impressions i",
        "CREATE TABLE t AS SELECT # FROM impressions i",
        "SELECT CASE WHEN # > 0 THEN 1 END FROM impressions i",
        "SELECT 1 FROM users AS u WHERE EXISTS (SELECT 1 FROM impressions i WHERE # > u.item_id)",
    ] {
        becomes(&frame.replace('#', &call("i")), &frame.replace('#', &call(row))).await;
    }
}

#[tokio::test]
async fn a_common_table_expression_is_asked_with_its_definition() {
    let sql = "WITH c AS (SELECT 1 AS a, 2 AS b) SELECT predict_ctr('ctr', x) FROM (WITH d AS (SELECT 1) SELECT * FROM c) AS x";
    let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().pop().unwrap();
    let tables = Tables::default();
    rewrite(&mut statement, &tables).await.unwrap();
    let asked = tables.0.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].starts_with("WITH c AS"), "{asked:?}");
    assert!(asked[0].ends_with("AS x"), "{asked:?}");
}

#[tokio::test]
async fn a_column_wins_over_an_alias_of_its_name() {
    becomes("SELECT predict_ctr('ctr', i) FROM named_i AS i", "SELECT predict_ctr('ctr', i) FROM named_i AS i").await;
    becomes(
        "SELECT predict_ctr('ctr', i) FROM impressions AS i, named_i AS n",
        "SELECT predict_ctr('ctr', i) FROM impressions AS i, named_i AS n",
    )
    .await;
    becomes("SELECT predict_ctr('ctr', other) FROM impressions AS i", "SELECT predict_ctr('ctr', other) FROM impressions AS i").await;
}

#[tokio::test]
async fn features_by_name_and_by_position_become_a_row() {
    becomes(
        "SELECT predict_ctr('ctr', item_id => u.item_id, Price => 3) FROM users AS u",
        "SELECT predict_ctr('ctr', named_struct('item_id', u.item_id, 'price', 3)) FROM users AS u",
    )
    .await;
    becomes("SELECT predict_ctr('ctr', a, b + 1) FROM c", "SELECT predict_ctr('ctr', named_struct('$1', a, '$2', b + 1)) FROM c").await;
    becomes("SELECT predict_ctr($1, $2)", "SELECT predict_ctr($1, $2)").await;
}

#[tokio::test]
async fn a_named_feature_replaces_the_column_of_the_row() {
    becomes(
        "SELECT predict_ctr('ctr', i, \"Price\" => i.\"Price\" * 0.9) FROM impressions AS i",
        "SELECT predict_ctr('ctr', named_struct('item_id', i.\"item_id\", 'Price', i.\"Price\" * 0.9)) FROM impressions AS i",
    )
    .await;
    becomes(
        "SELECT predict_ctr('ctr', i, u, item_id => u.item_id) FROM impressions AS i CROSS JOIN users AS u",
        "SELECT predict_ctr('ctr', named_struct('Price', i.\"Price\", 'user_id', u.\"user_id\", 'item_id', u.item_id)) FROM impressions AS i CROSS JOIN users AS u",
    )
    .await;
    let (message, _, hint) = fails("SELECT predict_ctr('ctr', i, u) FROM impressions AS i CROSS JOIN users AS u").await;
    assert_eq!(message, "column \"item_id\" of the row is ambiguous");
    assert_eq!(hint.as_deref(), Some("name it in the call: item_id => alias.item_id"));
}

#[tokio::test]
async fn a_lateral_subquery_and_a_recursive_query_are_asked_in_place() {
    let lateral = "SELECT predict_ctr('ctr', l) FROM impressions AS i, LATERAL (SELECT i.item_id FROM c) AS l";
    assert!(rewritten(lateral).await.unwrap().contains("named_struct('a', l.\"a\""));
    let recursive = "WITH RECURSIVE r AS (SELECT 1 AS a, 2 AS b UNION ALL SELECT a, predict_ctr('ctr', r) FROM r) SELECT * FROM r";
    assert!(rewritten(recursive).await.unwrap().contains("named_struct('a', r.\"a\""));
}

#[tokio::test]
async fn wrong_arguments_are_explained_with_the_signature_and_the_closest_name() {
    let (message, detail, hint) = fails("SELECT auc(label => y, scor => p) FROM t").await;
    assert_eq!(message, "auc has no argument \"scor\"");
    assert_eq!(detail.as_deref(), Some("the function is auc(label boolean or 0/1, score number [, weight number])"));
    assert_eq!(hint.as_deref(), Some("did you mean \"score\"?"));
    assert_eq!(fails("SELECT auc(y) FROM t").await.0, "auc needs argument \"score\"");
    assert_eq!(fails("SELECT auc() FROM t").await.0, "auc needs argument \"label\"");
    assert_eq!(fails("SELECT auc(a, b, c, d) FROM t").await.0, "auc takes at most 3 arguments");
    assert_eq!(fails("SELECT auc(a, b, label => c) FROM t").await.0, "argument \"label\" of auc is given twice");
    assert_eq!(fails("SELECT auc(label => a, b) FROM t").await.0, "in the call of auc, positional argument b follows a named one");
    assert_eq!(fails("SELECT auc(i.*, 1) FROM impressions AS i").await.0, "argument \"label\" of auc cannot be i.*");
    assert_eq!(fails("SELECT predict_ctr('ctr')").await.0, "predict_ctr needs argument \"features\"");
    assert_eq!(
        fails("SELECT predict_ctr('ctr', a, b => 1) FROM c").await.0,
        "in the call of predict_ctr, value a has no name, but other values of the row have one"
    );
    let (message, _, hint) = fails("SELECT finetune('ctr')").await;
    assert_eq!(message, "finetune returns rows and stands in FROM only");
    assert_eq!(hint.as_deref(), Some("write SELECT * FROM finetune(...)"));
    assert_eq!(fails("SELECT * FROM auc(1, 2)").await.0, "auc returns a value and cannot stand in FROM");
}

#[tokio::test]
async fn errors_inside_a_query_argument_say_so() {
    let call = |query: &str| format!("SELECT * FROM finetune('m', query => $${query}$$, label => 'y')");
    let (message, _, _) = fails(&call("SELEC 1")).await;
    assert!(message.starts_with("in the query argument of finetune: "), "{message}");
    let (message, _, hint) = fails(&call("SELECT auc(lable => 1, score => 2)")).await;
    assert_eq!(message, "in the query argument of finetune: External error: auc has no argument \"lable\"");
    assert_eq!(hint.as_deref(), Some("did you mean \"label\"?"));
    let (message, _, _) = fails(&call("SELECT predict_ctr('m', x) FROM nowhere AS x")).await;
    assert!(message.starts_with("in the query argument of finetune: ") && message.contains("'nowhere' not found"), "{message}");
    for (query, found) in [("SELECT 1; SELECT 2", "several statements"), ("DROP TABLE t", "another kind of statement"), ("", "empty")] {
        assert_eq!(fails(&call(query)).await.0, format!("argument \"query\" of finetune must be one SELECT, but is {found}"));
    }
    assert_eq!(
        fails("SELECT * FROM finetune('m', 'x' || 'y', 'y')").await.0,
        "argument \"query\" of finetune must be one SELECT, but is 'x' || 'y'"
    );
}

#[tokio::test]
async fn other_statements_are_left_as_they_are() {
    for sql in ["SELECT i FROM impressions AS i", "SELECT lower(a), max(b) FROM c ORDER BY 1", "UPDATE c SET a = 1 WHERE b = 2"] {
        becomes(sql, sql).await;
    }
}

#[tokio::test]
async fn fields_of_rows_are_told_from_columns_of_tables() {
    becomes("SELECT (s).a, (s).\"B\".c, (f(x)).a FROM t", "SELECT (s)['a'], (s)['B']['c'], (f(x))['a'] FROM t").await;
    becomes("SELECT (c).a, (c).a[1], c.a[1], c.a[1].b FROM c", "SELECT (c)['a'], (c)['a'][1], c.a[1], c.a[1]['b'] FROM c").await;
}
