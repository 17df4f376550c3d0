//! PostgreSQL's functions about the session itself: who is asking, where, with which settings.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::StringArray;
use datafusion::arrow::array::cast::AsArray;
use datafusion::arrow::array::types::Float64Type;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};

use crate::settings::Settings;
use crate::sqlstate::{SqlError, SqlState};
use crate::system::{self, System};

use super::own::{Choice, Own};

/// What `version()` answers: clients read the number at the front, people the rest.
fn version() -> String {
    format!("PostgreSQL 16.6 (Stratagem {}, {} {})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS)
}

/// Registers what does not change during a session.
pub(super) fn register(state: &mut SessionState, pid: i32, user: &str) {
    let text = |value: &str| ScalarValue::Utf8(Some(value.to_owned()));
    let constants = [
        ("version", text(&version())),
        ("pg_backend_pid", ScalarValue::Int32(Some(pid))),
        ("current_user", text(user)),
        ("session_user", text(user)),
        ("user", text(user)),
        ("pg_is_in_recovery", ScalarValue::Boolean(Some(false))),
        ("inet_server_addr", ScalarValue::Utf8(None)),
        ("inet_server_port", ScalarValue::Int32(None)),
        ("inet_client_addr", ScalarValue::Utf8(None)),
        ("inet_client_port", ScalarValue::Int32(None)),
    ];
    for (name, value) in constants {
        put(state, ScalarUDF::from(Constant::new(name, value)));
    }
    put(state, system::owner(user));
    if let (Some(own), Some(system)) = (state.config().get_extension::<Own>(), state.config().get_extension::<System>()) {
        put(state, ScalarUDF::from(CurrentSetting::new(Arc::clone(&own))));
        put(state, ScalarUDF::from(SetConfig::new(own)));
        let began = ScalarValue::TimestampMicrosecond(Some(system.began.timestamp_micros()), Some("+00:00".into()));
        for name in ["pg_postmaster_start_time", "pg_conf_load_time"] {
            put(state, ScalarUDF::from(Constant::new(name, began.clone())));
        }
    }
    super::acting::register(state, pid);
    put(state, ScalarUDF::from(TypeOf::new()));
    put(state, AsyncScalarUDF::new(Arc::new(Sleep::new())).into_scalar_udf());
}

/// Registers what follows the settings.
pub(super) fn follow(state: &mut SessionState, settings: &Settings) {
    let path = settings.search_path();
    let first = path.first().map_or(ScalarValue::Utf8(None), |schema| ScalarValue::Utf8(Some(schema.clone())));
    put(state, ScalarUDF::from(Constant::new("current_schema", first)));
    system::follow(state, &path);
    put(state, ScalarUDF::from(CurrentSchemas::new(path)));
}

pub(crate) fn put(state: &mut SessionState, function: ScalarUDF) {
    // replacing a function by name does not fail
    let _ = state.register_udf(Arc::new(function));
}

/// A function without arguments whose value is known.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, value: ScalarValue) -> Self {
        Self { name, value, signature: Signature::nullary(Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `pg_typeof(any)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf(Signature);

impl TypeOf {
    fn new() -> Self {
        Self(Signature::any(1, Volatility::Stable))
    }
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wire = arrow_pg::datatypes::into_pg_type(args.arg_fields[0].data_type()).unwrap_or(pgwire::api::Type::TEXT);
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(system::type_name(&wire).to_owned()))))
    }
}

/// `current_setting(name [, missing_ok])`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    own: Arc<Own>,
    signature: Signature,
}

impl CurrentSetting {
    fn new(own: Arc<Own>) -> Self {
        let shapes = vec![TypeSignature::Exact(vec![DataType::Utf8]), TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean])];
        Self { own, signature: Signature::one_of(shapes, Volatility::Stable) }
    }
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let names = args.args[0].to_array(rows)?;
        let missing_ok = matches!(args.args.get(1), Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))));
        let values = names.as_string::<i32>().iter().map(|name| match name.map(|name| self.own.show(name)) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) if missing_ok => Ok(None),
            Some(Err(error)) => Err(error.into()),
        });
        Ok(ColumnarValue::Array(Arc::new(values.collect::<Result<StringArray>>()?)))
    }
}

/// `set_config(name, value, is_local)`: takes effect when the statement has ended.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SetConfig {
    own: Arc<Own>,
    signature: Signature,
}

impl SetConfig {
    fn new(own: Arc<Own>) -> Self {
        Self { own, signature: Signature::exact(vec![DataType::Utf8, DataType::Utf8, DataType::Boolean], Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &str {
        "set_config"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [names, values, locals] = [0, 1, 2].map(|at| args.args[at].to_array(rows));
        let (names, values, locals) = (names?, values?, locals?);
        let calls = names.as_string::<i32>().iter().zip(values.as_string::<i32>().iter()).zip(locals.as_boolean().iter());
        let shown = calls.map(|((name, value), local)| {
            let Some(name) = name else {
                return Err(SqlError::new(SqlState::NullValueNotAllowed, "SET requires parameter name").into());
            };
            let (name, value) = (name.to_owned(), value.map(str::to_owned));
            Ok(Some(self.own.ask(Choice { name, value, local: local.unwrap_or_default() })?))
        });
        Ok(ColumnarValue::Array(Arc::new(shown.collect::<Result<StringArray>>()?)))
    }
}

/// `current_schemas(include_implicit)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSchemas {
    path: Vec<String>,
    signature: Signature,
}

impl CurrentSchemas {
    fn new(path: Vec<String>) -> Self {
        Self { path, signature: Signature::exact(vec![DataType::Boolean], Volatility::Stable) }
    }
}

impl ScalarUDFImpl for CurrentSchemas {
    fn name(&self) -> &str {
        "current_schemas"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let implicit = matches!(&args.args[0], ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))));
        let system = implicit.then(|| "pg_catalog".to_owned());
        let names: Vec<ScalarValue> = system.into_iter().chain(self.path.iter().cloned()).map(|s| ScalarValue::Utf8(Some(s))).collect();
        Ok(ColumnarValue::Scalar(ScalarValue::List(ScalarValue::new_list_nullable(&names, &DataType::Utf8))))
    }
}

/// `pg_sleep(seconds)`: waits without holding a thread.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sleep(Signature);

impl Sleep {
    fn new() -> Self {
        Self(Signature::exact(vec![DataType::Float64], Volatility::Volatile))
    }
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        "pg_sleep"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(exec_datafusion_err!("pg_sleep waits and can't be called at this place of the statement"))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Sleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let seconds = args.args[0].to_array(rows)?;
        for seconds in seconds.as_primitive::<Float64Type>().iter().flatten() {
            let time = Duration::try_from_secs_f64(seconds.max(0.0))
                .map_err(|_| SqlError::new(SqlState::NumericValueOutOfRange, "pg_sleep: the time is out of range"))?;
            tokio::time::sleep(time).await;
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(vec![""; rows]))))
    }
}
