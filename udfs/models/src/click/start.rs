//! Going on from a saved version instead of random weights.

use std::collections::HashMap;

use super::model::{Stored, Weights};
use super::{Member, TrainOptions};
use crate::error::{Error, Result};
use crate::features::learn::Learned;
use crate::features::{Bins, Column, Feature, Kind, Number, Texts, Vocabulary};
use crate::registry::{self, ModelName, Registry};

/// A saved version to start from.
#[derive(Debug, Clone)]
pub struct Start {
    reference: String,
    version: u32,
    options: TrainOptions,
    /// The used ones.
    features: Vec<Feature>,
    weights: Weights,
    /// Those of the known values, by feature of the version.
    texts: Texts,
}

impl Start {
    /// Reads a version. Errors as [`super::ClickModel::load`].
    pub fn load(registry: &Registry, name: &ModelName, version: u32) -> Result<Self> {
        let Stored { manifest, weights, texts: kept, .. } = Stored::read(registry, name, version)?;
        let other = match manifest.kind {
            registry::Kind::Uplift(_) => Some("an uplift model"),
            registry::Kind::Text(_) => Some("a text model"),
            registry::Kind::Language(_) => Some("a language model"),
            registry::Kind::Click | registry::Kind::Onnx(_) => None,
        };
        if let Some(other) = other {
            let reason = format!("model \"{name}@{version}\" is {other}, which no training goes on from");
            return Err(Error::data(reason, "train it anew, on the old rows and the new ones"));
        }
        let mut texts = Texts::default();
        for (feature, kept) in &kept {
            let known = weights.known.get(*feature).into_iter().flatten();
            known.zip(kept).for_each(|(id, text)| texts.see(*feature, *id, text));
        }
        let used: Vec<bool> = manifest.features.iter().map(Feature::is_used).collect();
        let position = |of: usize| used[..of].iter().filter(|used| **used).count();
        let keep = |(feature, known): (Feature, Vec<u64>)| {
            let kind = match feature.kind {
                Kind::History { vocabulary, target } => Kind::History { vocabulary, target: position(target) },
                kind => kind,
            };
            (Feature { kind, ..feature }, known)
        };
        let kept = manifest.features.into_iter().zip(weights.known).filter(|(feature, _)| feature.is_used()).map(keep);
        let (features, known) = kept.unzip();
        let weights = Weights { known, members: weights.members };
        Ok(Self { reference: format!("{name}@{version}"), version, options: manifest.options, features, weights, texts })
    }

    /// The version.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// The texts of its known values.
    pub(super) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// The features that its rows have, in this order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The raw columns that its rows have.
    pub fn columns(&self) -> Vec<Column> {
        let column = |feature: &Feature| Column {
            column: feature.column.clone(),
            part: feature.part,
            sql_type: feature.sql_type.clone(),
            values: feature.values,
            treatment: None,
        };
        self.features.iter().map(column).collect()
    }

    /// Options of a training that goes on: the sizes of the net are those of the version.
    pub(super) fn sizes(&self, options: &TrainOptions) -> TrainOptions {
        let own = &self.options;
        TrainOptions {
            model_type: own.model_type,
            embedding_dim: own.embedding_dim,
            cross_layers: own.cross_layers,
            hidden: own.hidden.clone(),
            experts: own.experts,
            history: own.history.clone(),
            ..options.clone()
        }
    }

    /// The version's features with the values that are new in the training rows, and its nets with rows for these values.
    pub(super) fn grow(&self, learned: Learned) -> Result<(Learned, Vec<Member>)> {
        let same = |(own, other): (&Feature, &Feature)| (&own.column, own.part, own.values) == (&other.column, other.part, other.values);
        if learned.features.len() != self.features.len() || !self.features.iter().zip(&learned.features).all(same) {
            return Err(Error::data(format!("the rows do not have the columns of {}", self.reference), "select the columns it reads"));
        }
        let mut grown = Learned { features: vec![], known: vec![], uses: vec![], table_rows: 0, leaks: learned.leaks, telling: vec![] };
        // (rows of the version, rows now, known values of the version)
        let mut moves: Vec<(Vocabulary, Vocabulary)> = Vec::new();
        for (position, (own, seen)) in self.features.iter().zip(&learned.features).enumerate() {
            let mut known = self.weights.known[position].clone();
            let vocabulary = match &own.kind {
                // It has the rows of its target, which may stand later; see below.
                Kind::History { .. } => None,
                _ => own.vocabulary(),
            };
            let mut feature = Feature { missing: seen.missing, distinct: seen.distinct, ..own.clone() };
            if let Some(old) = vocabulary {
                let mut new = old;
                if !old.hashed && matches!(own.kind, Kind::Category(_) | Kind::Bag(_)) {
                    let have: std::collections::HashSet<u64> = known.iter().copied().collect();
                    known.extend(learned.known[position].iter().filter(|id| !have.contains(id)));
                    new.size = known.len() as u32;
                }
                new.offset = grown.table_rows;
                grown.table_rows += new.rows();
                grown.uses.resize(grown.table_rows as usize, 0);
                if let (Kind::Category(_), Some(counted)) = (&own.kind, seen.vocabulary().filter(|v| !v.hashed && !old.hashed)) {
                    let uses: HashMap<u64, u32> = learned.known[position]
                        .iter()
                        .copied()
                        .zip(learned.uses[counted.offset as usize..].iter().copied().skip(2))
                        .collect();
                    let rows = grown.uses[new.offset as usize..].iter_mut().skip(2);
                    rows.zip(&known).for_each(|(row, id)| *row = uses.get(id).copied().unwrap_or_default());
                }
                set_vocabulary(&mut feature.kind, new);
                moves.push((old, new));
            }
            grown.features.push(feature);
            grown.known.push(known);
        }
        for position in 0..grown.features.len() {
            if let Kind::History { target, .. } = grown.features[position].kind
                && let Some(vocabulary) = grown.features[target].vocabulary()
            {
                grown.features[position].kind = Kind::History { vocabulary, target };
                grown.known[position] = grown.known[target].clone();
            }
        }
        let members = self.weights.members.iter().map(|member| grow_table(member, &moves, grown.table_rows as usize)).collect();
        Ok((grown, members))
    }
}

fn set_vocabulary(kind: &mut Kind, new: Vocabulary) {
    match kind {
        Kind::Category(vocabulary) | Kind::Bag(vocabulary) | Kind::Vector { vocabulary, .. } | Kind::History { vocabulary, .. } => {
            *vocabulary = new;
        }
        Kind::Number(Number { bins: Bins::Piecewise(vocabulary) | Bins::Quantile(vocabulary), .. }) => *vocabulary = new,
        Kind::Number(_) | Kind::Unused(_) => {}
    }
}

/// Copies the rows to their new places; a new value starts as what unseen values are.
fn grow_table(member: &Member, moves: &[(Vocabulary, Vocabulary)], rows: usize) -> Member {
    let old_rows: u32 = moves.iter().map(|(old, _)| old.rows()).sum();
    let stride = member.table.len() / (old_rows as usize).max(1);
    let mut table = vec![0.0; rows * stride];
    for (old, new) in moves {
        let from = &member.table[old.offset as usize * stride..][..old.rows() as usize * stride];
        let to = &mut table[new.offset as usize * stride..][..new.rows() as usize * stride];
        to[..from.len()].copy_from_slice(from);
        if !old.hashed {
            let unseen = from[stride..2 * stride].to_vec();
            to[from.len()..].chunks_exact_mut(stride).for_each(|row| row.copy_from_slice(&unseen));
        }
    }
    Member { parameters: member.parameters.clone(), table }
}
