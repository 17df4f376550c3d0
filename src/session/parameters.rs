//! The `$1`, `$2`, ... of a statement: which types they have, and their values from a Bind message.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_pg::datatypes::df::deserialize_parameters;
use arrow_pg::datatypes::into_pg_type;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::ParamValues;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, ColumnDef, DataType as SqlType, Expr, Ident, Statement, Value, visit_expressions};
use pgwire::api::Type;
use pgwire::api::portal::Portal;
use pgwire::api::stmt::StoredStatement;
use pgwire::error::PgWireError;
use pgwire::messages::extendedquery::Bind;

use super::idiom;
use crate::planner;
use crate::sqlstate::{SqlError, SqlState};

/// Most parameters a statement may have: the protocol counts them in 16 bits.
const MOST: usize = 65_535;

/// The parameters of a statement, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Parameters(Vec<(Type, DataType)>);

impl Parameters {
    /// What the plan, the client and the statement say about the types. What nobody knows is text, as in PostgreSQL.
    pub(super) fn of(plan: &LogicalPlan, told: &[Option<DataType>], statement: &Statement) -> Result<Self, SqlError> {
        let inferred = plan.get_parameter_fields()?;
        let numbers = inferred.keys().map(|name| number(name)).collect::<Result<Vec<_>, _>>()?;
        // one that stands in a part of the statement that is not read has a number, too
        let count = numbers.into_iter().max().unwrap_or(0).max(told.len()).max(highest(statement));
        let objects = numbers_of_objects(statement);
        let types = (1..=count).map(|n| {
            let known = told.get(n - 1).cloned().flatten();
            let known = known.or_else(|| inferred.get(&format!("${n}")).cloned().flatten().map(|f| f.data_type().clone()));
            let data_type = match known {
                None | Some(DataType::Null) => DataType::Utf8,
                Some(data_type) => data_type,
            };
            let object = objects.iter().find(|(number, _)| *number == n).map(|(_, wire)| wire.clone());
            let wire = object.unwrap_or_else(|| into_pg_type(&data_type).unwrap_or(Type::TEXT));
            (wire, data_type)
        });
        Ok(Self(types.collect()))
    }

    /// The types as the planner takes them.
    pub(super) fn fields(&self) -> Vec<Option<FieldRef>> {
        self.0.iter().map(|(_, data_type)| Some(Arc::new(Field::new("", data_type.clone(), true)) as _)).collect()
    }

    /// Takes the types that the client named where they are known: it is told what it has said.
    pub(crate) fn tell(&mut self, oids: &[u32]) {
        for ((wire, _), oid) in self.0.iter_mut().zip(oids) {
            if let Some(known) = Type::from_oid(*oid).filter(|_| wire_type(*oid).is_some()) {
                *wire = known;
            }
        }
    }

    /// The object identifiers of the types, for ParameterDescription.
    pub(crate) fn oids(&self) -> Vec<u32> {
        self.0.iter().map(|(wire, _)| wire.oid()).collect()
    }

    /// The names of the types, as `{bigint,text}`.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|(wire, _)| crate::system::type_name(wire)).collect();
        format!("{{{}}}", names.join(","))
    }

    /// The values a Bind message brings.
    pub(crate) fn values(&self, bind: &Bind) -> Result<Option<ParamValues>, SqlError> {
        if bind.parameters.len() != self.0.len() {
            let message =
                format!("bind message supplies {} parameters, but the statement requires {}", bind.parameters.len(), self.0.len());
            return Err(SqlError::new(SqlState::ProtocolViolation, message));
        }
        if self.0.is_empty() {
            return Ok(None);
        }
        // these come in the same form
        let form = |wire: &Type| match *wire {
            Type::OID_ARRAY => Type::INT4_ARRAY,
            Type::BPCHAR | Type::NAME => Type::TEXT,
            _ => wire.clone(),
        };
        let wire = self.0.iter().map(|(wire, _)| Some(form(wire))).collect();
        // lists are read as COPY reads them
        let mut bind = Bind::new(
            bind.portal_name.clone(),
            bind.statement_name.clone(),
            bind.parameter_format_codes.clone(),
            bind.parameters.clone(),
            bind.result_column_format_codes.clone(),
        );
        let mut lists = Vec::new();
        for (at, (value, (_, data_type))) in bind.parameters.iter_mut().zip(&self.0).enumerate() {
            if let DataType::List(_) = data_type
                && let Some(bytes) = value.take()
            {
                let binary = match bind.parameter_format_codes.as_slice() {
                    [] => false,
                    [all] => *all == 1,
                    codes => codes.get(at) == Some(&1),
                };
                lists.push((at, crate::copy::value(data_type, &bytes, binary)?));
            }
        }
        let statement = Arc::new(StoredStatement::new(String::new(), (), wire));
        let portal = Portal::try_new(&bind, statement).map_err(bad_value)?;
        let types: Vec<Option<&DataType>> = self.0.iter().map(|(_, data_type)| Some(data_type)).collect();
        let mut values = deserialize_parameters(&portal, &types).map_err(bad_value)?;
        if let ParamValues::List(values) = &mut values {
            for (at, list) in lists {
                if let Some(value) = values.get_mut(at) {
                    *value = list.into();
                }
            }
        }
        Ok(Some(values))
    }
}

fn number(placeholder: &str) -> Result<usize, SqlError> {
    placeholder.strip_prefix('$').and_then(|n| n.parse().ok()).filter(|n| (1..=MOST).contains(n)).ok_or_else(|| {
        SqlError::new(SqlState::SyntaxError, format!("there is no parameter {placeholder}")).with_hint("parameters are written $1, $2, ...")
    })
}

/// The highest number of a parameter in a statement.
fn highest(statement: &Statement) -> usize {
    let mut highest = 0;
    let _ = visit_expressions(statement, |expr| {
        highest = highest.max(placeholder(expr).unwrap_or_default());
        ControlFlow::<()>::Continue(())
    });
    highest
}

/// The number of a parameter that stands alone.
fn placeholder(expression: &Expr) -> Option<usize> {
    match expression {
        Expr::Nested(inner) => placeholder(inner),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => number(name).ok(),
            _ => None,
        },
        _ => None,
    }
}

fn bad_value(error: PgWireError) -> SqlError {
    match error {
        PgWireError::UserError(info) if info.code == "22023" => SqlError::new(SqlState::InvalidParameterValue, info.message),
        other => SqlError::new(SqlState::InvalidTextRepresentation, format!("a parameter's value can't be read: {other}")),
    }
}

/// What the client said, completed by `$1::type` in the statement: a parameter that is cast has that type.
pub(super) fn with_casts(state: &SessionState, statement: &Statement, told: &[Option<DataType>]) -> Vec<Option<DataType>> {
    let mut casts: Vec<(usize, SqlType)> = Vec::new();
    let _ = visit_expressions(statement, |expr| {
        match expr {
            // the name of an object, looked up by what the rewrite puts here
            Expr::Cast { data_type, .. } if idiom::names_objects(data_type) => {}
            Expr::Cast { expr, data_type, .. } => casts.extend(placeholder(expr).map(|number| (number, data_type.clone()))),
            // a list of what nobody says is one of texts
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
                let texts = SqlType::Array(ArrayElemTypeDef::SquareBracket(Box::new(SqlType::Text), None));
                casts.extend(placeholder(right).map(|number| (number, texts)));
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    let mut types = told.to_vec();
    for (number, data_type) in casts {
        if types.len() < number {
            types.resize(number, None);
        }
        if types[number - 1].is_none() {
            let column = ColumnDef { name: Ident::new("parameter"), data_type, options: Vec::new() };
            // a type that can't be planned is reported where it stands in the statement
            let planned = planner::table_schema(state, &[column]).ok();
            types[number - 1] = planned.map(|schema| match schema.field(0).data_type() {
                // as it comes from the client
                DataType::Utf8View => DataType::Utf8,
                other => other.clone(),
            });
        }
    }
    types
}

/// The parameters that are cast to the numbers of objects, which the engine takes for integers, and to lists of such numbers.
fn numbers_of_objects(statement: &Statement) -> Vec<(usize, Type)> {
    let is_oid = |data_type: &SqlType| matches!(data_type, SqlType::Custom(name, _) if name.to_string().eq_ignore_ascii_case("oid"));
    let mut found = Vec::new();
    let _ = visit_expressions(statement, |expr| {
        if let Expr::Cast { expr, data_type, .. } = expr
            && let Some(number) = placeholder(expr)
        {
            match data_type {
                SqlType::Array(ArrayElemTypeDef::SquareBracket(item, _)) if is_oid(item) => found.push((number, Type::OID_ARRAY)),
                data_type if is_oid(data_type) => found.push((number, Type::OID)),
                _ => {}
            }
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

/// The types as the planner takes them.
pub(super) fn fields(told: &[Option<DataType>]) -> Vec<Option<FieldRef>> {
    told.iter().map(|t| t.as_ref().map(|t| Arc::new(Field::new("", t.clone(), true)))).collect()
}

/// The types of values that are already known.
pub(super) fn types_of(values: &ParamValues) -> Vec<Option<FieldRef>> {
    let field = |value: &ScalarAndMetadata| Some(Arc::new(Field::new("", value.value().data_type(), true)));
    match values {
        ParamValues::List(values) => values.iter().map(field).collect(),
        ParamValues::Map(_) => Vec::new(),
    }
}

/// The engine's type for a type a client names in Parse; none where it leaves the choice to the server.
pub(crate) fn wire_type(oid: u32) -> Option<DataType> {
    Some(match Type::from_oid(oid)? {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => DataType::Decimal128(38, 10),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => DataType::Utf8,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        Type::BOOL_ARRAY => DataType::new_list(DataType::Boolean, true),
        Type::INT2_ARRAY => DataType::new_list(DataType::Int16, true),
        Type::INT4_ARRAY => DataType::new_list(DataType::Int32, true),
        Type::INT8_ARRAY => DataType::new_list(DataType::Int64, true),
        Type::FLOAT4_ARRAY => DataType::new_list(DataType::Float32, true),
        Type::FLOAT8_ARRAY => DataType::new_list(DataType::Float64, true),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY => DataType::new_list(DataType::Utf8, true),
        _ => return None,
    })
}
