//! Functions as the catalog shows them.

use super::{Function, Kind, Presence, Returns, functions};

/// A function as the catalog shows it (`pg_proc`, `\df`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routine {
    /// The schema, if it has one of its own (`ml`).
    pub schema: Option<&'static str>,
    /// The name without the schema.
    pub name: &'static str,
    /// What it is to SQL.
    pub kind: Kind,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// The result type; `record` for rows.
    pub result: &'static str,
    /// Name and type of each column, for a table function.
    pub columns: Vec<(&'static str, &'static str)>,
    /// The comment: summary and documentation.
    pub docs: String,
}

/// An argument as the catalog shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// The PostgreSQL type.
    pub data_type: &'static str,
    /// The default as SQL; `NULL` for one that may be left out.
    pub default: Option<&'static str>,
    /// What it is for.
    pub docs: &'static str,
}

/// All functions as the catalog shows them.
pub fn routines() -> Vec<Routine> {
    functions().iter().map(|function| routine(function)).collect()
}

fn routine(function: &Function) -> Routine {
    let (schema, name) = match function.name.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, function.name),
    };
    let arguments = function.parameters.iter().map(|parameter| Argument {
        name: parameter.name,
        data_type: parameter.data_type.pg(),
        default: match parameter.presence {
            Presence::Required => None,
            Presence::Optional => Some("NULL"),
            Presence::Default(value) => Some(value),
        },
        docs: parameter.docs,
    });
    Routine {
        schema,
        name,
        kind: function.kind,
        arguments: arguments.collect(),
        result: match function.returns {
            Returns::Value(data_type) => data_type.pg(),
            Returns::Struct(_) | Returns::Rows(_) | Returns::QueryRows(_) => "record",
        },
        columns: function.columns().iter().map(|column| (column.name, column.data_type.pg())).collect(),
        docs: format!("{}\n\n{}", function.summary, function.docs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routines_carry_names_types_and_defaults() {
        let routines = routines();
        let finetune = routines.iter().find(|routine| routine.name == "finetune").unwrap();
        assert_eq!((finetune.schema, finetune.result), (None, "record"));
        assert!(finetune.columns.contains(&("version", "integer")));
        let epochs = finetune.arguments.iter().find(|argument| argument.name == "epochs").unwrap();
        assert_eq!((epochs.data_type, epochs.default.is_some()), ("integer", true));
        let auc = routines.iter().find(|routine| routine.name == "auc").unwrap();
        assert_eq!(auc.arguments.iter().map(|a| a.default).collect::<Vec<_>>(), [None, None, Some("NULL")]);
    }
}
