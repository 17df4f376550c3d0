//! EXPLAIN as PostgreSQL shows it: one column, `QUERY PLAN`, with a tree of nodes as text or JSON.
//!
//! The nodes are those of the engine; where one does what a node of PostgreSQL does, it has that one's name. The engine has no costs: what
//! stands for them is the number of rows that pass through a node and those below it, in hundredths.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use serde_json::{Map, Value, json};

use super::{Outcome, Rows, Session};
use crate::overflow;
use crate::sqlstate::{SqlError, internal};
use crate::statement::Explain;

/// Nodes of the engine that do what a node of PostgreSQL does, and what is said of them.
const KNOWN: [(&str, &str, &str); 20] = [
    ("AggregateExec", "Aggregate", "Aggregate"),
    ("CoalescePartitionsExec", "Gather", ""),
    ("CrossJoinExec", "Nested Loop", ""),
    ("DataSourceExec", "Seq Scan", "Source"),
    ("EmptyExec", "Result", ""),
    ("FilterExec", "Filter", "Filter"),
    ("GlobalLimitExec", "Limit", "Limit"),
    ("HashJoinExec", "Hash Join", "Hash Cond"),
    ("InterleaveExec", "Append", ""),
    ("LocalLimitExec", "Limit", "Limit"),
    ("NestedLoopJoinExec", "Nested Loop", "Join Filter"),
    ("PlaceholderRowExec", "Result", ""),
    ("ProjectionExec", "Projection", "Output"),
    ("RecursiveQueryExec", "Recursive Union", ""),
    ("SortExec", "Sort", "Sort Key"),
    ("SortMergeJoinExec", "Merge Join", "Merge Cond"),
    ("SortPreservingMergeExec", "Gather Merge", "Sort Key"),
    ("UnionExec", "Append", ""),
    ("BoundedWindowAggExec", "WindowAgg", "Window"),
    ("WindowAggExec", "WindowAgg", "Window"),
];

/// Rows whose number nobody knows, as PostgreSQL takes it for a table it knows nothing of.
const UNKNOWN_ROWS: usize = 1000;

/// The column of the answer.
pub(super) fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]))
}

impl Session {
    pub(super) async fn explain(&mut self, explain: &Explain, values: Option<ParamValues>) -> Result<Outcome, SqlError> {
        let begun = Instant::now();
        let plan = self.plan_with(explain.query.as_ref().clone(), values).await?;
        if explain.analyze && stratagem_udfs::writes(&plan) {
            self.admit_writing("finetune", true)?;
        }
        let physical = self.physical(&plan).await?;
        let planned = begun.elapsed();
        let executed = if explain.analyze {
            let begun = Instant::now();
            let mut rows = self.pump(self.execute(&physical)?);
            while rows.next().await?.is_some() {}
            Some(begun.elapsed())
        } else {
            None
        };
        let root = Node::of(physical.as_ref(), explain)?;
        let lines =
            if explain.json { vec![as_json(&root, planned, executed, explain)?] } else { as_text(&root, planned, executed, explain) };
        let rows = RecordBatch::try_new(columns(), vec![Arc::new(StringArray::from(lines))]).map_err(|e| internal(&e.to_string()))?;
        Ok(Outcome::Rows { schema: columns(), rows: Rows::of(rows), tag: "EXPLAIN", counted: false })
    }
}

/// A node of the plan.
struct Node {
    name: String,
    /// What it does, in the engine's words, under PostgreSQL's names where there are some.
    details: Vec<(&'static str, String)>,
    cost: f64,
    rows: usize,
    width: usize,
    /// Processor time and rows, once it has run.
    actual: Option<(Duration, usize)>,
    below: Vec<Node>,
}

impl Node {
    fn of(plan: &dyn ExecutionPlan, explain: &Explain) -> Result<Self, SqlError> {
        let below = plan.children().into_iter().map(|child| Self::of(child.as_ref(), explain)).collect::<Result<Vec<_>, _>>()?;
        let statistics = StatisticsContext::new().compute(plan, &StatisticsArgs::new())?;
        let most = below.iter().map(|node| node.rows).max();
        let rows = statistics.num_rows.get_value().copied().unwrap_or(most.unwrap_or(UNKNOWN_ROWS));
        let width = statistics.total_byte_size.get_value().map_or(0, |bytes| bytes / rows.max(1));
        let cost = below.iter().map(|node| node.cost).sum::<f64>() + rows as f64 / 100.0;
        let line = overflow::infix(&DisplayableExecutionPlan::new(plan).one_line().to_string());
        let (said, about) = line.trim().split_once(": ").unwrap_or((line.trim(), ""));
        let (name, label) = match KNOWN.iter().find(|(name, ..)| *name == plan.name() || *name == said) {
            Some((_, name, label)) => ((*name).to_owned(), *label),
            None => (said.strip_suffix("Exec").unwrap_or(said).to_owned(), "Details"),
        };
        let mut details = Vec::new();
        // what a node puts out is told on demand, as in PostgreSQL
        if !label.is_empty() && !about.is_empty() && (explain.verbose || !matches!(label, "Output" | "Source")) {
            details.push((label, about.to_owned()));
        }
        let metrics = plan.metrics().filter(|_| explain.analyze);
        let actual = metrics.as_ref().map(|metrics| {
            let time = metrics.elapsed_compute().and_then(|time| u64::try_from(time).ok()).unwrap_or_default();
            (Duration::from_nanos(time), metrics.output_rows().unwrap_or_default())
        });
        if let Some(metrics) = metrics {
            let metrics = metrics.aggregate_by_name().sorted_for_display().timestamps_removed().to_string();
            if !metrics.is_empty() && (explain.verbose || label == "Details") {
                details.push(("Metrics", metrics));
            }
        }
        Ok(Self { name, details, cost, rows, width, actual, below })
    }

    fn write(&self, depth: usize, explain: &Explain, lines: &mut Vec<String>) {
        let arrow = if depth == 0 { String::new() } else { format!("{}->  ", " ".repeat(6 * depth - 4)) };
        let mut line = format!("{arrow}{}", self.name);
        // writing to a String does not fail
        if explain.costs {
            let _ = write!(line, "  (cost=0.00..{:.2} rows={} width={})", self.cost, self.rows, self.width);
        }
        if let Some((time, rows)) = self.actual {
            let time = if explain.timing { format!("time=0.000..{:.3} ", milliseconds(time)) } else { String::new() };
            let _ = write!(line, " (actual {time}rows={rows} loops=1)");
        }
        lines.push(line);
        let indent = " ".repeat(6 * depth + 2);
        lines.extend(self.details.iter().map(|(name, text)| format!("{indent}{name}: {text}")));
        self.below.iter().for_each(|node| node.write(depth + 1, explain, lines));
    }

    fn json(&self, explain: &Explain) -> Value {
        let mut node = Map::new();
        let mut put = |name: &str, value: Value| node.insert(name.to_owned(), value);
        put("Node Type", json!(self.name));
        put("Parallel Aware", json!(false));
        put("Async Capable", json!(false));
        if explain.costs {
            put("Startup Cost", json!(0.0));
            put("Total Cost", json!((self.cost * 100.0).round() / 100.0));
            put("Plan Rows", json!(self.rows));
            put("Plan Width", json!(self.width));
        }
        if let Some((time, rows)) = self.actual {
            if explain.timing {
                put("Actual Startup Time", json!(0.0));
                put("Actual Total Time", json!(milliseconds(time)));
            }
            put("Actual Rows", json!(rows));
            put("Actual Loops", json!(1));
        }
        for (name, text) in &self.details {
            put(name, json!(text));
        }
        if !self.below.is_empty() {
            put("Plans", self.below.iter().map(|node| node.json(explain)).collect());
        }
        Value::Object(node)
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn as_text(root: &Node, planned: Duration, executed: Option<Duration>, explain: &Explain) -> Vec<String> {
    let mut lines = Vec::new();
    root.write(0, explain, &mut lines);
    if let Some(executed) = executed
        && explain.summary
    {
        lines.push(format!("Planning Time: {:.3} ms", milliseconds(planned)));
        lines.push(format!("Execution Time: {:.3} ms", milliseconds(executed)));
    }
    lines
}

fn as_json(root: &Node, planned: Duration, executed: Option<Duration>, explain: &Explain) -> Result<String, SqlError> {
    let mut whole = Map::new();
    whole.insert("Plan".to_owned(), root.json(explain));
    if let Some(executed) = executed
        && explain.summary
    {
        whole.insert("Planning Time".to_owned(), json!(milliseconds(planned)));
        whole.insert("Triggers".to_owned(), json!([]));
        whole.insert("Execution Time".to_owned(), json!(milliseconds(executed)));
    }
    serde_json::to_string_pretty(&json!([whole])).map_err(|error| internal(&error.to_string()))
}
