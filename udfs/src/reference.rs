//! The SQL reference, written from the declarations.

use std::fmt::Write as _;

use crate::catalog;
use crate::declaration::{Column, Function, Kind, Parameter, Presence, Returns, functions};
use crate::prepare;

/// The reference of all functions and catalog tables as one page of Markdown.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Functions\n\n\
         <!-- Generated from the declarations of the functions; change those and run `make docs`. -->\n\n\
         Arguments can be given by position or by name (`name => value`); those with a default may be left out. A model is one text value: \
         `'ctr'` (its default version), `'ctr@3'` (a version) or `'ctr@champion'` (an alias).\n\n",
    );
    for section in SECTIONS {
        let _ = writeln!(page, "- {}:", section.title);
        for function in section.functions() {
            let _ = writeln!(page, "  [`{}`](#{}), {}", function.name, anchor(function.name), lower(function.summary));
        }
    }
    SECTIONS.iter().flat_map(Section::functions).for_each(|function| entry(&mut page, function));
    page.push_str("\n# Tables of the schema `ml`\n");
    for table in catalog::tables() {
        let _ = writeln!(page, "\n## `ml.{}`\n\n{}.\n", table.name, table.summary);
        columns(&mut page, table.columns);
    }
    page
}

/// A part of the page.
struct Section {
    title: &'static str,
    kind: Kind,
    /// Whether the functions prepare columns for a model.
    prepares: bool,
}

const SECTIONS: &[Section] = &[
    Section { title: "Preparation: functions of a row", kind: Kind::Scalar, prepares: true },
    Section { title: "Preparation: functions that learn from many rows", kind: Kind::Window, prepares: true },
    Section { title: "Training, scoring and models: functions that return rows", kind: Kind::Table, prepares: false },
    Section { title: "Scoring: functions of a row", kind: Kind::Scalar, prepares: false },
    Section { title: "Evaluation: aggregates", kind: Kind::Aggregate, prepares: false },
];

impl Section {
    fn functions(&self) -> impl Iterator<Item = &'static Function> {
        functions().iter().copied().filter(|f| f.kind == self.kind && prepare::prepares(f) == self.prepares)
    }
}

fn entry(page: &mut String, function: &Function) {
    let _ = write!(page, "\n## `{}`\n\n{}.\n\n```sql\n{}\n```\n\n{}\n", function.name, function.summary, call(function), function.docs);
    page.push_str("\n| Argument | Type | Default | |\n|---|---|---|---|\n");
    function.parameters.iter().for_each(|parameter| argument(page, parameter));
    let per = if function.kind == Kind::Aggregate { "group" } else { "row" };
    match function.returns {
        Returns::Value(data_type) => {
            let _ = write!(page, "\nReturns `{}`, one value per {per}.\n", data_type.sql());
            if function.kind == Kind::Window {
                page.push_str("Needs `OVER ()` or `OVER (PARTITION BY ...)`; in the `TRANSFORM` of a model it stands without.\n");
            }
        }
        Returns::Struct(fields) => {
            let _ = write!(
                page,
                "\nReturns a row of these fields for each {per}; one of them is `({}(...)).{}`:\n\n",
                function.name, fields[0].name
            );
            columns(page, fields);
        }
        Returns::Rows(rows) => {
            page.push_str("\nReturns rows of:\n\n");
            columns(page, rows);
        }
        Returns::QueryRows(added) => {
            page.push_str("\nReturns the rows of the query, with its columns and:\n\n");
            columns(page, added);
        }
    }
    if function.kind == Kind::Aggregate {
        page.push_str("\nTakes `FILTER`, `DISTINCT`, `GROUP BY` and `OVER` like any aggregate.\n");
    }
    let _ = write!(page, "\nExample:\n\n```sql\n{};\n```\n\nErrors:\n\n", function.example);
    for failure in function.errors {
        let _ = writeln!(page, "- `{}`: {}", failure.sqlstate, failure.when);
    }
}

/// The call with one argument per line when it is long.
fn call(function: &Function) -> String {
    let signature = function.signature();
    if signature.len() <= 100 {
        return signature;
    }
    let body = signature.trim_start_matches(function.name).trim_start_matches('(').trim_end_matches(')');
    format!("{}(\n  {}\n)", function.name, body.replace(", ", ",\n  "))
}

fn argument(page: &mut String, parameter: &Parameter) {
    let default = match parameter.presence {
        Presence::Required => "required".to_owned(),
        Presence::Optional => "optional".to_owned(),
        Presence::Default(value) => format!("`{value}`"),
    };
    let _ = writeln!(page, "| `{}` | {} | {default} | {} |", parameter.name, parameter.data_type.sql(), parameter.docs);
}

fn columns(page: &mut String, columns: &[Column]) {
    page.push_str("| Column | Type | |\n|---|---|---|\n");
    for column in columns {
        let _ = writeln!(page, "| `{}` | {} | {} |", column.name, column.data_type.sql(), column.docs);
    }
}

fn anchor(name: &str) -> String {
    name.replace('.', "")
}

fn lower(summary: &str) -> String {
    let mut letters = summary.chars();
    letters.next().map(|first| first.to_lowercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_argument_and_column_is_in_the_reference() {
        let page = markdown();
        for function in functions() {
            assert!(page.contains(&format!("## `{}`\n", function.name)), "{}", function.name);
            assert!(page.contains(function.example));
            for name in function.parameters.iter().map(|p| p.name).chain(function.columns().iter().map(|c| c.name)) {
                assert!(page.contains(&format!("| `{name}` |")), "{}.{name}", function.name);
            }
        }
        assert!(page.contains("## `ml.models`"));
    }
}
