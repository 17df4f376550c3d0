//! How often models are called, and that calls work everywhere.

use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect};

use super::*;

/// The rows that the steps of a statement have called for, and the rows it answered with.
async fn called(shop: &Shop, sql: &str) -> (usize, usize) {
    let plan = shop.plan(sql).await.unwrap();
    let plan = shop.context.execute_logical_plan(plan).await.unwrap().create_physical_plan().await.unwrap();
    let batches = collect(Arc::clone(&plan), shop.context.task_ctx()).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    (calls(&plan), batches.iter().map(RecordBatch::num_rows).sum())
}

fn calls(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.sum_by_name("calls")).map_or(0, |calls| calls.as_usize());
    own + plan.children().into_iter().map(calls).sum::<usize>()
}

#[tokio::test]
async fn a_model_is_called_for_the_rows_that_are_asked_for() {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    for (sql, expected) in [
        ("SELECT id, predict_ctr('ctr', i) FROM impressions i ORDER BY id LIMIT 5", (5, 5)),
        ("SELECT predict_ctr('ctr', i) AS p FROM impressions i ORDER BY id DESC LIMIT 5", (5, 5)),
        ("SELECT predict_ctr('ctr', i) AS p FROM impressions i ORDER BY user_id + item_id, id LIMIT 5 OFFSET 10", (5, 5)),
        ("SELECT * FROM (SELECT id, predict_ctr('ctr', i) AS p FROM impressions i) s ORDER BY id LIMIT 7", (7, 7)),
        ("SELECT predict_ctr('ctr', i) FROM impressions i LIMIT 3", (3, 3)),
        ("SELECT predict_ctr('ctr', i) FROM impressions i WHERE id <= 10", (10, 10)),
        ("SELECT id FROM impressions i WHERE predict_ctr('ctr', i) >= 0 AND id <= 10", (10, 10)),
        ("SELECT count(*) FROM (SELECT id, predict_ctr('ctr', i) AS p FROM impressions i) s", (0, 1)),
        ("SELECT predict_ctr('ctr', i) AS p, predict_ctr('ctr', i) * 2 AS q FROM impressions i WHERE id <= 10", (10, 10)),
        ("SELECT id, predict_ctr('ctr', i) AS p FROM impressions i ORDER BY p DESC LIMIT 5", (4000, 5)),
        ("SELECT id FROM impressions i ORDER BY predict_ctr('ctr', i) LIMIT 5", (4000, 5)),
        ("SELECT CASE WHEN id <= 30 THEN predict_ctr('ctr', i) WHEN id <= 40 THEN 0 END FROM impressions i WHERE id <= 100", (30, 100)),
        ("SELECT CASE WHEN id <= 30 THEN 0 ELSE predict_ctr('ctr', i) END FROM impressions i WHERE id <= 100", (70, 100)),
        ("SELECT 1 FROM impressions i WHERE id > 5000 AND predict_ctr('ctr', i) > 0", (0, 0)),
        // Fields of a result are read where it is made, conditions on the other columns come before it all the same.
        (
            "SELECT (s).product, (s).headline FROM (SELECT generate_strategy(c, n => 1) AS s FROM customers c WHERE customer_id <= 1) q",
            (1, 1),
        ),
        (
            "SELECT id, (s).product FROM (SELECT customer_id AS id, generate_strategy(c, n => 1) AS s FROM customers c) q \
             WHERE id = 1 AND (s).product <> ''",
            (1, 1),
        ),
        ("SELECT (generate_strategy(c, n => 1)).body FROM customers c ORDER BY customer_id LIMIT 1", (1, 1)),
    ] {
        assert_eq!(called(&shop, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn rows_stay_in_the_order_that_was_asked_for() {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    shop.run("CREATE TABLE scored AS SELECT *, predict_ctr('ctr', i) AS p FROM impressions i").await.unwrap();
    // More rows than fit into a batch, so that they are scored by several threads.
    for (columns, order) in [
        ("id, #", "id"),
        ("#", "id DESC"),
        ("round(# * 1000) AS score, id % 7", "item_id, id"),
        ("id, round(# * 1000) AS score, #", "user_id + item_id, id"),
        ("id, #", "item_id, id LIMIT 3000"),
        ("# + 1", "id LIMIT 3000 OFFSET 500"),
    ] {
        let statement = |call: &str, table: &str| format!("SELECT {} FROM {table} i ORDER BY {order}", columns.replace('#', call));
        let with = statement("predict_ctr('ctr', i)", "impressions");
        assert_eq!(shop.rows(&with).await, shop.rows(&statement("p", "scored")).await, "{with}");
        let plan = shop.plan(&with).await.unwrap();
        let plan = shop.context.execute_logical_plan(plan).await.unwrap().create_physical_plan().await.unwrap();
        assert_eq!(plan.output_partitioning().partition_count(), 1, "{with}: partitions end in no order");
    }
}

#[tokio::test]
async fn a_call_works_wherever_an_expression_does() {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    shop.run("CREATE TABLE scored AS SELECT id, slot, predict_ctr('ctr', i) AS p FROM impressions i").await.unwrap();
    for (with, without) in [
        ("SELECT id FROM impressions i WHERE predict_ctr('ctr', i) > 0.3 ORDER BY id", "SELECT id FROM scored WHERE p > 0.3 ORDER BY id"),
        (
            "SELECT round(predict_ctr('ctr', i) * 10) AS tenth, count(*) AS n FROM impressions i GROUP BY round(predict_ctr('ctr', i) * 10) ORDER BY 1",
            "SELECT round(p * 10) AS tenth, count(*) AS n FROM scored GROUP BY 1 ORDER BY 1",
        ),
        (
            "SELECT slot, max(predict_ctr('ctr', i)) FROM impressions i GROUP BY slot HAVING min(predict_ctr('ctr', i)) >= 0 ORDER BY slot",
            "SELECT slot, max(p) FROM scored GROUP BY slot HAVING min(p) >= 0 ORDER BY slot",
        ),
        (
            "SELECT id, rank() OVER (PARTITION BY slot ORDER BY predict_ctr('ctr', i), id) AS r FROM impressions i ORDER BY id",
            "SELECT id, rank() OVER (PARTITION BY slot ORDER BY p, id) AS r FROM scored ORDER BY id",
        ),
        (
            "SELECT id FROM impressions i WHERE id < 100 AND predict_ctr('ctr', i) > (SELECT avg(predict_ctr('ctr', j)) FROM impressions j) ORDER BY id",
            "SELECT id FROM scored WHERE id < 100 AND p > (SELECT avg(p) FROM scored) ORDER BY id",
        ),
        (
            "SELECT a.id FROM impressions a JOIN scored b ON a.id = b.id AND predict_ctr('ctr', a) >= b.p WHERE a.id < 50 ORDER BY 1",
            "SELECT id FROM scored WHERE id < 50 ORDER BY id",
        ),
        (
            "SELECT DISTINCT predict_ctr('ctr', i) > 0.3 AS likely FROM impressions i ORDER BY 1",
            "SELECT DISTINCT p > 0.3 AS likely FROM scored ORDER BY 1",
        ),
        (
            "SELECT id, predict_ctr('ctr', i) AS p FROM impressions i ORDER BY p DESC, id LIMIT 20",
            "SELECT id, p FROM scored ORDER BY p DESC, id LIMIT 20",
        ),
    ] {
        assert_eq!(shop.rows(with).await, shop.rows(without).await, "{with}");
    }
}
