//! The prepared statements of a connection.

use std::collections::HashMap;
use std::sync::Arc;

use crate::session::{Own, OwnStatement, Prepared};

/// The statements by name. The named ones are listed in `pg_prepared_statements`.
pub(super) struct Statements {
    statements: HashMap<String, Arc<Prepared>>,
    listed: Arc<Own>,
}

impl Statements {
    pub(super) fn new(listed: Arc<Own>) -> Self {
        Self { statements: HashMap::new(), listed }
    }

    pub(super) fn len(&self) -> usize {
        self.statements.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Prepared>> {
        self.statements.get(name).cloned()
    }

    /// Adds a statement whose name is not taken. The one without a name gives way.
    pub(super) fn insert(&mut self, name: String, statement: Arc<Prepared>) {
        if !name.is_empty() {
            self.listed.prepared(OwnStatement {
                name: name.clone(),
                text: statement.text.clone(),
                made: chrono::Utc::now(),
                parameters: statement.parameters.names(),
            });
        }
        self.statements.insert(name, statement);
    }

    /// Forgets a statement. False where there was none.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let removed = self.statements.remove(name).is_some();
        if removed && !name.is_empty() {
            self.listed.forgotten(|statement| statement.name == name);
        }
        removed
    }

    pub(super) fn clear(&mut self) {
        self.listed.forgotten(|_| true);
        self.statements.clear();
    }
}
