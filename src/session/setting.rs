//! SET, RESET and SHOW, and what follows the settings.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::config::ConfigNonZeroUsize;

use super::{Outcome, Session, Transaction, done, functions};
use crate::settings::Settings;
use crate::sqlstate::{SqlError, internal};

impl Session {
    /// Makes the engine follow the settings it knows of.
    pub(super) fn apply_settings(&mut self) {
        let options = self.state.config_mut().options_mut();
        options.execution.time_zone = Some(self.settings.time_zone().to_owned());
        if let Ok(size) = ConfigNonZeroUsize::try_new(self.settings.batch_size()) {
            options.execution.batch_size = size;
        }
        options.execution.target_partitions = self.settings.target_partitions().unwrap_or(self.engine.partitions);
        // functions such as now() are made for one configuration
        let options = Arc::clone(self.state.config_options());
        let remade: Vec<_> = self.state.scalar_functions().values().filter_map(|f| f.inner().with_updated_config(&options)).collect();
        for function in remade {
            functions::put(&mut self.state, function);
        }
        functions::follow(&mut self.state, &self.settings);
        self.own.follow(&self.settings);
    }

    /// Sets what the statement that has ended has asked for with `set_config`.
    pub(crate) fn choose(&mut self) -> Result<(), SqlError> {
        for choice in self.own.asked() {
            self.set(choice.local, &choice.name, choice.value.as_deref())?;
        }
        Ok(())
    }

    /// A setting as it is now. Between transactions those of a transaction are those of the next.
    fn shown(&self, name: &str) -> Result<(&'static str, String), SqlError> {
        let (known, value) = self.settings.show(name)?;
        if let Transaction::Idle = self.transaction
            && known.starts_with("transaction_")
        {
            return Ok((known, self.settings.show(&format!("default_{known}"))?.1));
        }
        Ok((known, value))
    }

    pub(super) fn show(&self, name: Option<&str>) -> Result<RecordBatch, SqlError> {
        let text = |values: Vec<String>| Arc::new(StringArray::from(values)) as _;
        let field = |name: &str| Field::new(name, DataType::Utf8, false);
        let (fields, columns) = match name {
            Some(name) => {
                let (name, value) = self.shown(name)?;
                (vec![field(name)], vec![text(vec![value])])
            }
            None => {
                let all = self.settings.all();
                let names = all.iter().map(|(name, ..)| (*name).to_owned()).collect();
                let values = all.iter().map(|(_, value, _)| value.clone()).collect();
                let about = all.iter().map(|(.., about)| (*about).to_owned()).collect();
                (vec![field("name"), field("setting"), field("description")], vec![text(names), text(values), text(about)])
            }
        };
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| internal(&e.to_string()))
    }

    pub(super) fn set(&mut self, local: bool, name: &str, value: Option<&str>) -> Result<Outcome, SqlError> {
        let change = |settings: &mut Settings| match value {
            Some(value) => settings.set(name, value),
            None => settings.reset(name),
        };
        if local && matches!(self.transaction, Transaction::Idle) {
            // as in PostgreSQL, checked and without effect
            change(&mut self.settings.clone())?;
            return Ok(done("SET"));
        }
        change(&mut self.settings)?;
        if let Transaction::Open(block) = &mut self.transaction
            && !local
        {
            change(&mut block.keep)?;
        }
        self.apply_settings();
        Ok(done("SET"))
    }

    pub(super) fn reset(&mut self, name: Option<&str>) -> Result<Outcome, SqlError> {
        match name {
            Some(name) => self.settings.reset(name)?,
            None => self.settings.reset_all(),
        }
        if let Transaction::Open(block) = &mut self.transaction {
            block.keep = self.settings.clone();
        }
        self.apply_settings();
        Ok(done("RESET"))
    }
}
