//! What a transaction has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::relation::Part;
use crate::store::space::Claim;
use crate::store::{Error, Id, Relation, Relations, Result, Store};

/// What has become of a relation.
#[derive(Debug, Clone)]
pub(in crate::store) struct Change {
    /// What it was when the draft first changed it.
    pub(in crate::store) base: Option<Relation>,
    /// What it is now.
    pub(in crate::store) now: Option<Relation>,
    /// Whether all that happened to it is that rows were added.
    pub(in crate::store) appends: bool,
}

pub(in crate::store) type Changes = BTreeMap<Id, Change>;

impl Change {
    pub(super) fn is_none(&self) -> bool {
        match (&self.base, &self.now) {
            (Some(base), Some(now)) => base.is(now),
            (None, None) => true,
            _ => false,
        }
    }

    /// Starts from what others have committed meanwhile. Only added rows go together with what others did.
    pub(in crate::store) fn follow(&mut self, id: &Id, committed: Option<&Relation>) -> Result<()> {
        let name = || id.name.clone();
        match (&self.base, committed) {
            (None, None) => Ok(()),
            (Some(base), Some(committed)) if base.is(committed) => Ok(()),
            (None, Some(_)) => Err(Error::Exists { name: name() }),
            (Some(base), Some(committed)) if Arc::ptr_eq(base.folder(), committed.folder()) => {
                let (Relation::Table(base), Some(Relation::Table(now)), Relation::Table(committed)) = (base, &self.now, committed) else {
                    return Err(Error::Conflict { name: name() });
                };
                if !self.appends || now.schema != committed.schema {
                    return Err(Error::Conflict { name: name() });
                }
                let old = |part: &Part| base.files.iter().any(|old| Arc::ptr_eq(&old.file, &part.file));
                let new = now.files.iter().filter(|part| !old(part)).cloned();
                let merged = committed.with_files(committed.files.iter().cloned().chain(new).collect());
                self.base = Some(Relation::Table(Arc::clone(committed)));
                self.now = Some(Relation::Table(Arc::new(merged)));
                Ok(())
            }
            (Some(_), _) if self.appends => Err(Error::Replaced { name: name() }),
            (Some(_), _) => Err(Error::Conflict { name: name() }),
        }
    }
}

/// What a transaction has done, and what it sees.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) changes: Changes,
    /// Temporary tables of earlier transactions.
    pub(super) temporary: Relations,
    /// Where the transaction reads what was committed when it began.
    pub(super) snapshot: Option<Arc<Relations>>,
    /// What is committed, while something is changed: a change starts from what it was made of.
    pub(super) seen: Option<Arc<Relations>>,
    /// Space of the files that are not stored yet.
    pub(super) claims: Vec<Claim>,
    /// Counts the transactions: a statement that was given up may still be writing when its transaction has ended.
    pub(super) transaction: u64,
}

impl Work {
    /// What was there before the draft changed it.
    fn base(&self, store: &Store, id: &Id) -> Option<Relation> {
        if id.is_temporary() {
            return self.temporary.get(id).cloned();
        }
        match self.snapshot.as_ref().or(self.seen.as_ref()) {
            Some(snapshot) => snapshot.get(id).cloned(),
            None => store.relations().get(id).cloned(),
        }
    }

    /// Refuses what a statement of a transaction that has ended brings.
    pub(super) fn of(&self, number: u64, id: &Id) -> Result<()> {
        if self.transaction == number { Ok(()) } else { Err(Error::Replaced { name: id.name.clone() }) }
    }

    pub(super) fn relation(&self, store: &Store, id: &Id) -> Option<Relation> {
        match self.changes.get(id) {
            Some(change) => change.now.clone(),
            None => self.base(store, id),
        }
    }

    pub(super) fn put(&mut self, store: &Store, id: &Id, now: Option<Relation>, appends: bool) {
        let base = self.base(store, id);
        let change = self.changes.entry(id.clone()).or_insert(Change { base, now: None, appends: true });
        change.now = now;
        change.appends &= appends;
    }

    pub(super) fn all(&self, store: &Store) -> Relations {
        let committed = self.snapshot.clone().or_else(|| self.seen.clone()).unwrap_or_else(|| store.relations());
        let mut all = Relations::clone(&committed);
        all.extend(self.temporary.iter().map(|(id, relation)| (id.clone(), relation.clone())));
        for (id, change) in &self.changes {
            match &change.now {
                Some(relation) => all.insert(id.clone(), relation.clone()),
                None => all.remove(id),
            };
        }
        all
    }
}
