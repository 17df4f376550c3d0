//! The limit that the engine sets on a DISTINCT below a LIMIT, taken off where the rows turned out to be in an order: the engine then takes it for one of
//! that order, whose direction it does not know, and fails.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;

/// Takes such limits off. It comes after the engine's own rules.
#[derive(Debug)]
pub(crate) struct UnorderedLimits;

impl PhysicalOptimizerRule for UnorderedLimits {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let Some(aggregate) = plan.downcast_ref::<AggregateExec>() else { return Ok(Transformed::no(plan)) };
            let of_distinct =
                aggregate.aggr_expr().is_empty() && aggregate.limit_options().is_some_and(|limit| limit.descending().is_none());
            if !of_distinct || aggregate.is_unordered_unfiltered_group_by_distinct() {
                return Ok(Transformed::no(plan));
            }
            Ok(Transformed::yes(Arc::new(aggregate.with_new_limit_options(None))))
        })
        .data()
    }

    fn name(&self) -> &str {
        "unordered_limits"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int32Array, RecordBatch};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::datasource::source::DataSourceExec;
    use datafusion::execution::TaskContext;
    use datafusion::physical_expr::PhysicalSortExpr;
    use datafusion::physical_expr::expressions::col;
    use datafusion::physical_plan::aggregates::{AggregateMode, LimitOptions, PhysicalGroupBy};
    use datafusion::physical_plan::collect;

    use super::*;

    #[tokio::test]
    async fn a_distinct_with_a_limit_over_rows_in_order_gives_its_rows() {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int32, true)]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int32Array::from(vec![1, 1, 2, 2, 3]))]).unwrap();
        let order = [PhysicalSortExpr::new_default(col("x", &schema).unwrap())].into();
        let source = MemorySourceConfig::try_new(&[vec![rows]], Arc::clone(&schema), None).unwrap();
        let source = DataSourceExec::from_data_source(source.try_with_sort_information(vec![order]).unwrap());
        let group = PhysicalGroupBy::new_single(vec![(col("x", &schema).unwrap(), "x".to_owned())]);
        let aggregate = AggregateExec::try_new(AggregateMode::Single, group, vec![], vec![], source, Arc::clone(&schema)).unwrap();
        let plan: Arc<dyn ExecutionPlan> = Arc::new(aggregate.with_limit_options(Some(LimitOptions::new(2))));
        let context = Arc::new(TaskContext::default());
        assert!(
            collect(Arc::clone(&plan), Arc::clone(&context)).await.is_err(),
            "without the rule the engine fails; if it does not, the rule may go"
        );
        let plan = UnorderedLimits.optimize(plan, &ConfigOptions::default()).unwrap();
        let found: usize = collect(plan, context).await.unwrap().iter().map(RecordBatch::num_rows).sum();
        assert!((2..=3).contains(&found), "{found}");
    }
}
