//! `ml.classification_report(query, label, predicted)`: precision, recall and F1 of each class.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::Result;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::metrics::classification::{Line, report};

use crate::confusion_matrix::{ERRORS, LABEL, PREDICTED, as_text, cells};
use crate::declaration::{Column, Function, Kind, Parameter, Returns, Type};
use crate::gather::{GatherExec, Gathering, Kernel, without_nulls};
use crate::relation::Constants;

/// The declaration of `ml.classification_report`.
pub static DECLARATION: Function = Function {
    name: "ml.classification_report",
    kind: Kind::Table,
    parameters: &[Parameter::query("query", "The classified rows."), LABEL, PREDICTED],
    returns: Returns::Rows(&[
        Column::new("class", Type::Text, "The class, as text; in the last three rows `accuracy`, `macro avg` and `weighted avg`."),
        Column::new("precision", Type::Double, "The share of right rows among those predicted as this class; NULL for the accuracy.")
            .nullable(),
        Column::new("recall", Type::Double, "The share of the rows of this class that were predicted as such; NULL for the accuracy.")
            .nullable(),
        Column::new("f1", Type::Double, "The harmonic mean of precision and recall; for the accuracy the accuracy."),
        Column::new("support", Type::BigInt, "The rows of this class."),
    ]),
    summary: "Precision, recall and F1 of each class, and their means",
    docs: "scikit-learn's `classification_report`: a row per class that is actual or predicted, then the accuracy (which is also the micro \
           average), the plain mean of the classes, and their mean weighted by support. A class that was never predicted has precision 0, one \
           that never occurred recall 0. Rows where either class is NULL are skipped.",
    example: "SELECT * FROM ml.classification_report(query => $$SELECT click, predict_ctr('ctr', i) > 0.3 AS says FROM impressions i$$,\n\
              \x20                                    label => 'click', predicted => 'says')",
    errors: ERRORS,
};

/// Plans calls of `ml.classification_report`: the engine counts the pairs of classes, the rest is arithmetic.
#[derive(Debug)]
pub(crate) struct ClassificationReport;

impl Gathering for ClassificationReport {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        LogicalPlanBuilder::from(cells(&DECLARATION, arguments, query)?).project(as_text())?.build()
    }

    fn plan(&self, _: &Constants, _: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(GatherExec::plan(&DECLARATION, input, Cells::default))
    }
}

/// The cells of a confusion matrix.
#[derive(Debug, Default)]
struct Cells {
    cells: Vec<(String, String, u64)>,
    texts: usize,
}

impl Kernel for Cells {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = without_nulls(batch)?;
        let (actual, predicted) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        let rows = batch.column(2).as_primitive::<Int64Type>();
        for ((actual, predicted), rows) in actual.iter().flatten().zip(predicted.iter().flatten()).zip(rows.values()) {
            self.texts += actual.len() + predicted.len();
            self.cells.push((actual.to_owned(), predicted.to_owned(), rows.unsigned_abs()));
        }
        Ok(())
    }

    fn merge(&mut self, mut other: Self) {
        self.cells.append(&mut other.cells);
        self.texts += other.texts;
    }

    fn bytes(&self) -> usize {
        2 * (self.texts + self.cells.capacity() * size_of::<(String, String, u64)>())
    }

    fn answer(self) -> Result<RecordBatch> {
        let lines = report(self.cells.iter().map(|(actual, predicted, rows)| (actual.as_str(), predicted.as_str(), *rows)));
        let columns: Vec<datafusion::arrow::array::ArrayRef> = vec![
            Arc::new(lines.iter().map(|line| Some(line.class.as_str())).collect::<StringArray>()),
            Arc::new(lines.iter().map(|line| line.precision).collect::<Float64Array>()),
            Arc::new(lines.iter().map(|line| line.recall).collect::<Float64Array>()),
            Arc::new(lines.iter().map(|line| Some(line.f1)).collect::<Float64Array>()),
            Arc::new(lines.iter().map(support).collect::<Int64Array>()),
        ];
        Ok(RecordBatch::try_new(DECLARATION.schema(), columns)?)
    }
}

fn support(line: &Line) -> Option<i64> {
    Some(i64::try_from(line.support).unwrap_or(i64::MAX))
}
