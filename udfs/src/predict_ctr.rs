//! `predict_ctr(model, features)`: the probability of a click, by a trained model.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use stratagem_models::model::{Model, Rows};

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::defer::Work;
use crate::error::Error;
use crate::models::{Held, Models};
use crate::usage::Meter;

/// The declaration of `predict_ctr`.
pub static DECLARATION: Function = Function {
    name: "predict_ctr",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::model("model", "The model: `'ctr'` (its default version), `'ctr@3'` (a version) or `'ctr@champion'` (an alias)."),
        Parameter::row(
            "features",
            "The row to score: a table alias (`i` or `i.*`), `name => value` for each feature, both (a named value replaces the column of that \
             name), or values in the order of the training query.",
        ),
    ],
    returns: Returns::Value(Type::Double),
    summary: "Probability of a click on a row, by a trained model",
    docs: "Scores a row with a model that `finetune` has trained. The model finds its features by name and leaves other columns alone, so the \
           row may be wider than the training query. Whether all features are there with a type that fits is checked before the first row is \
           read. The result is within 0 and 1, never NaN; a feature that is NULL and a category that was never seen are handled by the model. \
           The result is NULL only for a row value that is NULL as a whole.\n\n\
           A model that was imported as an ONNX file takes its columns as they are: NULL is NaN among its floats, and the result is NULL where \
           the model answers with no number; NULL in a column of whole numbers, booleans or text is an error.\n\n\
           A reference without a version is settled once per statement: all calls in a statement use the same version, also when a new one \
           is saved meanwhile. The model stays in memory, shared by all sessions.",
    example: "SELECT i.item_id, predict_ctr('ctr', i) AS p FROM impressions i ORDER BY p DESC LIMIT 20",
    errors: &[
        Failure { sqlstate: "42704", when: "the model, the version or the alias does not exist" },
        Failure { sqlstate: "42809", when: "the model is an uplift model, which gives no probability" },
        Failure { sqlstate: "42703", when: "a feature of the model is missing in the row" },
        Failure { sqlstate: "42804", when: "a feature has a type that the model was not trained on" },
        Failure { sqlstate: "22023", when: "the model is not a constant" },
        Failure { sqlstate: "22004", when: "a column of whole numbers, booleans or text of an imported ONNX model is NULL in some rows" },
        Failure { sqlstate: "XX001", when: "the files of the model are damaged" },
    ],
};

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    Score::function(&DECLARATION, Task::Click, models)
}

/// What a model is asked for. One that has only one probability gives that for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// The probability of a click.
    Click,
    /// The probability of a conversion after a click.
    Conversion,
    /// What a treatment changes; of an uplift model only.
    Uplift,
}

/// A function of a model and a row.
#[derive(Debug, Clone)]
pub(crate) struct Score {
    declaration: &'static Function,
    task: Task,
    models: Arc<Models>,
    signature: Signature,
    /// The version of its model, once that is settled for the statement.
    held: Option<Arc<Held>>,
}

impl Score {
    pub(crate) fn function(declaration: &'static Function, task: Task, models: &Arc<Models>) -> Arc<ScalarUDF> {
        // Stable, not immutable: what a name without version means can change between statements, within one it is pinned.
        let signature = declaration.engine_signature(Volatility::Stable);
        Arc::new(ScalarUDF::from(Self { declaration, task, models: Arc::clone(models), signature, held: None }))
    }

    /// The function for calls with this version.
    pub(crate) fn with(&self, held: Arc<Held>) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { held: Some(held), ..self.clone() }))
    }

    pub(crate) fn held(&self) -> Option<&Arc<Held>> {
        self.held.as_ref()
    }

    /// The model reference in a constant argument.
    pub(crate) fn reference<'a>(&self, argument: &'a ScalarValue) -> Result<&'a str, Error> {
        match argument.try_as_str() {
            Some(Some(reference)) => Ok(reference),
            Some(None) => Err(Error::value(self.argument(), "is NULL")),
            None if argument.is_null() => Err(Error::value(self.argument(), "is NULL")),
            None => Err(self.declaration.check_types([&argument.data_type()]).err().unwrap_or_else(|| self.not_constant())),
        }
    }

    /// The error for a model argument that is not known before the rows.
    pub(crate) fn not_constant(&self) -> Error {
        Error::InvalidValue {
            object: self.argument(),
            reason: "must be a constant".to_owned(),
            hint: Some("to score with several models, write one call for each in a CASE".to_owned()),
        }
    }

    fn argument(&self) -> String {
        format!("argument model of {}", self.declaration.name)
    }

    /// The version that is settled, or else the one that the argument means now.
    fn version(&self, model: &ScalarValue) -> Result<Arc<Held>, Error> {
        let held = match &self.held {
            Some(held) => Arc::clone(held),
            None => Arc::new(Held::new(&self.models, self.reference(model)?)?),
        };
        match self.task {
            Task::Click | Task::Conversion => held.intake().check_probability(held.pinned())?,
            Task::Uplift => held.intake().check_uplift(held.pinned())?,
        }
        Ok(held)
    }

    /// The probabilities, and where they are NULL: where a model from elsewhere gives no number.
    fn probabilities(&self, model: &Model, rows: &Rows) -> Result<(Vec<f64>, Option<NullBuffer>), Error> {
        let scores = model.predict(rows)?;
        let task = match self.task {
            Task::Click | Task::Uplift => 0,
            Task::Conversion => 1,
        };
        let probabilities: Vec<f64> = scores.task(task).map(f64::from).collect();
        let nulls = probabilities.iter().any(|p| p.is_nan()).then(|| probabilities.iter().map(|p| !p.is_nan()).collect());
        Ok((probabilities, nulls))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        let version = |score: &Self| score.held.as_ref().map(|held| held.pinned().clone());
        self.declaration.name == other.declaration.name && Arc::ptr_eq(&self.models, &other.models) && version(self) == version(other)
    }
}

impl Eq for Score {}

impl Hash for Score {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.declaration.name.hash(state);
    }
}

/// The columns of a row argument.
fn fields(argument: &Field) -> Vec<FieldRef> {
    match argument.data_type() {
        DataType::Struct(fields) => fields.to_vec(),
        // One value without a name is the only feature of the model.
        other => vec![Arc::new(Field::new("$1", other.clone(), true))],
    }
}

#[async_trait]
impl Work for Score {
    fn parallel(&self) -> bool {
        true
    }

    fn inline(&self) -> bool {
        true
    }

    async fn call(&self, arguments: ScalarFunctionArgs, _: &Arc<Meter>) -> Result<ArrayRef> {
        let rows = arguments.number_rows;
        self.invoke_with_args(arguments)?.into_array(rows)
    }
}

impl ScalarUDFImpl for Score {
    fn name(&self) -> &str {
        self.declaration.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.declaration.check_types(args.arg_fields.iter().map(|field| field.data_type()))?;
        if let [Some(model), ..] = args.scalar_arguments {
            let held = self.version(model)?;
            held.intake().bind(&held.pinned().to_string(), &fields(&args.arg_fields[1]))?;
        }
        Ok(Arc::new(Field::new(self.declaration.name, DataType::Float64, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [model, row] = args.args.as_slice() else { return Err(self.not_constant().into()) };
        let ColumnarValue::Scalar(model) = model else { return Err(self.not_constant().into()) };
        let held = self.version(model)?;
        let model = held.model().map_err(Error::from)?;
        let reader = held.intake().bind(&held.pinned().to_string(), &fields(&args.arg_fields[1]))?;
        let (row, rows) = match row {
            ColumnarValue::Array(row) => (Arc::clone(row), row.len()),
            ColumnarValue::Scalar(row) => (row.to_array()?, 1),
        };
        let (columns, nulls): (Vec<ArrayRef>, Option<NullBuffer>) = match row.as_struct_opt() {
            Some(row) => (row.columns().to_vec(), row.nulls().cloned()),
            None => (vec![row], None),
        };
        let (probabilities, unknown) = self.probabilities(&model, &reader.read(&columns, rows)?)?;
        let result = Float64Array::new(probabilities.into(), NullBuffer::union(nulls.as_ref(), unknown.as_ref()));
        if matches!(args.args[1], ColumnarValue::Scalar(_)) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(result)))
    }
}
