//! PostgreSQL's functions by which sessions act on one another: signals, advisory locks and messages.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::cast::AsArray;
use datafusion::arrow::array::types::Int64Type;
use datafusion::arrow::array::{Array, ArrayRef, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use stratagem_udfs::notice::{Notices, Severity};

use super::functions::put;
use super::own::Own;
use crate::sqlstate::{SqlError, SqlState};
use crate::system::{Answer, Asked, Key, Locks, Mode, Post, System, Until, Wish, acting, mode_name};

/// The kinds of locks: what their functions' names end with, whether others may hold them too, and how long they are held.
const KINDS: [(&str, Mode, Until); 4] = [
    ("advisory_lock", Mode::Exclusive, Until::SessionEnds),
    ("advisory_lock_shared", Mode::Shared, Until::SessionEnds),
    ("advisory_xact_lock", Mode::Exclusive, Until::TransactionEnds),
    ("advisory_xact_lock_shared", Mode::Shared, Until::TransactionEnds),
];

/// Registers the functions of the session `pid`.
pub(super) fn register(state: &mut SessionState, pid: i32) {
    let config = state.config();
    let (Some(own), Some(system), Some(notices)) =
        (config.get_extension::<Own>(), config.get_extension::<System>(), config.get_extension::<Notices>())
    else {
        return;
    };
    signals(state, &system, &notices);
    locks(state, pid, &system, &own, &notices);
    let asked = Arc::clone(&system);
    let notify = move |a: &Asked<'_>| {
        let Some(channel) = a.text(0) else {
            return Err(SqlError::new(SqlState::InvalidParameterValue, "channel name cannot be empty"));
        };
        asked.channels.admit(channel)?;
        own.post(Post::notify(channel, a.text(1).unwrap_or_default())?);
        Ok(Answer::Text(Some(String::new())))
    };
    let all = Arc::clone(&system);
    let channels = move |_: &Asked<'_>| Ok(Answer::Texts(Some(all.channels.of(pid))));
    put(state, acting("pg_listening_channels", &[0], DataType::new_list(DataType::Utf8, true), Arc::new(channels)));
    put(state, acting("pg_notify", &[2], DataType::Utf8, Arc::new(notify)));
}

fn signals(state: &mut SessionState, system: &Arc<System>, notices: &Arc<Notices>) {
    for (name, counts, terminates) in [("pg_cancel_backend", &[1][..], false), ("pg_terminate_backend", &[1, 2][..], true)] {
        let (system, notices) = (Arc::clone(system), Arc::clone(notices));
        let signal = move |a: &Asked<'_>| {
            let Some(pid) = a.number(0) else { return Ok(Answer::Switch(None)) };
            let backends = &system.backends;
            let sent = i32::try_from(pid).is_ok_and(|pid| if terminates { backends.terminate(pid) } else { backends.interrupt(pid) });
            if !sent {
                notices.send(Severity::Warning, format!("PID {pid} is not a PostgreSQL backend process"));
            }
            Ok(Answer::Switch(Some(sent)))
        };
        put(state, acting(name, counts, DataType::Boolean, Arc::new(signal)));
    }
}

fn locks(state: &mut SessionState, pid: i32, system: &Arc<System>, own: &Arc<Own>, notices: &Arc<Notices>) {
    for (kind, mode, until) in KINDS {
        let lock = Lock { name: format!("pg_{kind}"), pid, mode, until, locks: Arc::clone(&system.locks), own: Arc::clone(own) };
        put(state, AsyncScalarUDF::new(Arc::new(Waiting { lock, signature: keys() })).into_scalar_udf());
        let locks = Arc::clone(&system.locks);
        let try_lock = move |a: &Asked<'_>| {
            let Some(key) = key(a)? else { return Ok(Answer::Switch(None)) };
            locks.try_take(Wish { pid, key, mode, until }).map(|taken| Answer::Switch(Some(taken)))
        };
        put(state, acting(format!("pg_try_{kind}"), &[1, 2], DataType::Boolean, Arc::new(try_lock)));
    }
    for (name, mode) in [("pg_advisory_unlock", Mode::Exclusive), ("pg_advisory_unlock_shared", Mode::Shared)] {
        let (locks, notices) = (Arc::clone(&system.locks), Arc::clone(notices));
        let unlock = move |a: &Asked<'_>| {
            let Some(key) = key(a)? else { return Ok(Answer::Switch(None)) };
            let held = locks.give_back(pid, key, mode);
            if !held {
                notices.send(Severity::Warning, format!("you don't own a lock of type {}", mode_name(mode)));
            }
            Ok(Answer::Switch(Some(held)))
        };
        put(state, acting(name, &[1, 2], DataType::Boolean, Arc::new(unlock)));
    }
    let locks = Arc::clone(&system.locks);
    let unlock_all = move |_: &Asked<'_>| {
        locks.give_all_back(pid);
        Ok(Answer::Text(Some(String::new())))
    };
    put(state, acting("pg_advisory_unlock_all", &[0], DataType::Utf8, Arc::new(unlock_all)));
}

/// The key in the arguments of a function: one number, or two smaller ones.
fn key(asked: &Asked<'_>) -> Result<Option<Key>, SqlError> {
    let Some(first) = asked.number(0) else { return Ok(None) };
    if asked.count() == 1 {
        return Ok(Some(Key::Whole(first)));
    }
    let Some(second) = asked.number(1) else { return Ok(None) };
    pair(first, second).map(Some)
}

fn pair(first: i64, second: i64) -> Result<Key, SqlError> {
    let small = |number| i32::try_from(number).map_err(|_| SqlError::new(SqlState::NumericValueOutOfRange, "integer out of range"));
    Ok(Key::Pair(small(first)?, small(second)?))
}

fn keys() -> Signature {
    let one = TypeSignature::Exact(vec![DataType::Int64]);
    let two = TypeSignature::Exact(vec![DataType::Int64, DataType::Int64]);
    Signature::one_of(vec![one, two], Volatility::Volatile)
}

/// What locks of one kind are taken for.
#[derive(Debug)]
struct Lock {
    name: String,
    pid: i32,
    mode: Mode,
    until: Until,
    locks: Arc<Locks>,
    own: Arc<Own>,
}

/// A function that takes a lock, and waits for it without holding a thread.
#[derive(Debug)]
struct Waiting {
    lock: Lock,
    signature: Signature,
}

// there is one of each name in a session
impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (&self.lock.name, self.lock.pid) == (&other.lock.name, other.lock.pid)
    }
}
impl Eq for Waiting {}
impl std::hash::Hash for Waiting {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.lock.name, self.lock.pid).hash(state);
    }
}

impl ScalarUDFImpl for Waiting {
    fn name(&self) -> &str {
        &self.lock.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(exec_datafusion_err!("{} waits and can't be called at this place of the statement", self.lock.name))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Waiting {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let numbers: Vec<_> = arrays.iter().map(|array| array.as_primitive::<Int64Type>().clone()).collect();
        let mut results: Vec<Option<&str>> = Vec::with_capacity(rows);
        for row in 0..rows {
            if numbers.iter().any(|numbers| numbers.is_null(row)) {
                results.push(None);
                continue;
            }
            let key = match numbers.as_slice() {
                [whole] => Key::Whole(whole.value(row)),
                [first, second] => pair(first.value(row), second.value(row))?,
                _ => return Err(exec_datafusion_err!("a lock has one number or two")),
            };
            self.lock.take(key).await?;
            results.push(Some(""));
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(results))))
    }
}

impl Lock {
    async fn take(&self, key: Key) -> Result<(), SqlError> {
        let taken = self.locks.take(Wish { pid: self.pid, key, mode: self.mode, until: self.until });
        match self.own.lock_timeout() {
            None => taken.await,
            Some(time) => tokio::time::timeout(time, taken)
                .await
                .unwrap_or_else(|_| Err(SqlError::new(SqlState::LockNotAvailable, "canceling statement due to lock timeout"))),
        }
    }
}
