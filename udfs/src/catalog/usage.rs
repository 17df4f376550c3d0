//! `ml.usage`

use datafusion::arrow::array::{ArrayRef, TimestampMicrosecondArray};

use super::{Table, bigints, doubles, integers, texts};
use crate::declaration::{Column, Type};
use crate::models::{Models, Result};

pub(super) static TABLE: Table = Table {
    name: "usage",
    summary: "What statements have asked of language models: the last 1000 since the server began, and those that go on",
    columns: &[
        Column::new("started_at", Type::Timestamp, "When the statement asked for its first text.").nullable(),
        Column::new("pid", Type::Integer, "The connection, as `pg_backend_pid()` tells it.").nullable(),
        Column::new("user_name", Type::Text, "The user.").nullable(),
        Column::new("statement", Type::Text, "The statement, its first 1024 bytes.").nullable(),
        Column::new("models", Type::Text, "The language models."),
        Column::new("requests", Type::BigInt, "The texts that were asked for."),
        Column::new("repeated", Type::BigInt, "The texts that were there already, because the statement had asked the same before."),
        Column::new("answered", Type::BigInt, "The texts that were written."),
        Column::new("prompt_tokens", Type::BigInt, "The tokens of the prompts."),
        Column::new("shared_tokens", Type::BigInt, "Those of them that were computed once for several prompts."),
        Column::new("tokens", Type::BigInt, "The tokens that were written."),
        Column::new("queue_seconds", Type::Double, "Time in the queue, summed over the requests."),
        Column::new("device_seconds", Type::Double, "Time of the processor or graphics card, each request by its share."),
        Column::new("seconds", Type::Double, "From the first request to the last answer so far."),
    ],
    values,
};

fn values(models: &Models) -> Result<Vec<ArrayRef>> {
    let tallies = models.ledger().list();
    let counts: Vec<_> = tallies.iter().map(|tally| tally.counts()).collect();
    let started = tallies.iter().map(|tally| Some(tally.started_at.timestamp_micros()));
    Ok(vec![
        std::sync::Arc::new(started.collect::<TimestampMicrosecondArray>().with_timezone("+00:00")),
        integers(tallies.iter().map(|tally| tally.pid.map(i32::cast_unsigned))),
        texts(tallies.iter().map(|tally| tally.user.as_deref())),
        texts(tallies.iter().map(|tally| tally.statement.as_deref())),
        texts(counts.iter().map(|counts| Some(counts.models()))),
        bigints(counts.iter().map(|counts| Some(counts.requests))),
        bigints(counts.iter().map(|counts| Some(counts.repeated))),
        bigints(counts.iter().map(|counts| Some(counts.answered))),
        bigints(counts.iter().map(|counts| Some(counts.prompt_tokens))),
        bigints(counts.iter().map(|counts| Some(counts.shared_tokens))),
        bigints(counts.iter().map(|counts| Some(counts.tokens))),
        doubles(counts.iter().map(|counts| Some(counts.queued.as_secs_f64()))),
        doubles(counts.iter().map(|counts| Some(counts.device.as_secs_f64()))),
        doubles(counts.iter().map(|counts| Some(counts.elapsed.as_secs_f64()))),
    ])
}
