//! The SQL functions of Stratagem.
//!
//! Each function is declared once, in the file of its name; [`declaration`] describes what is derived from that. [`register_all`] adds the
//! functions to a session of the engine, [`rewrite::rewrite`] turns calls as users write them into calls as the engine plans them.
//! This crate knows Arrow and SQL functions. It knows no server.

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::planner::RelationPlanner;

mod ask;
pub mod auc;
pub mod catalog;
pub mod classify;
pub mod count_tokens;
pub mod declaration;
mod defer;
pub mod embed;
pub mod encoder;
pub mod error;
pub mod feature_info;
mod features;
pub mod finetune;
pub mod generate;
pub mod generate_strategy;
mod intake;
pub mod ips;
pub mod language;
pub mod logloss;
pub mod match_answer;
mod metric;
pub mod models;
pub mod notice;
mod pin;
pub mod predict;
pub mod predict_ctr;
pub mod predict_cvr;
pub mod prepare;
pub mod reference;
mod relation;
mod resident;
pub mod rewrite;
pub mod similarity;
pub mod spelling;
mod stop;
pub mod usage;

pub use relation::writes;

use metric::MetricAggregate;
use models::Models;
use relation::{Relations, WholeRelations};

/// Adds all functions over these models to a session: the functions themselves, the planner of those that return rows, the rules that settle
/// model versions, and the query planner that runs them. The builder's own functions, planners and rules stay; its query planner is replaced.
pub fn register_all(mut builder: SessionStateBuilder, models: Arc<Models>) -> SessionStateBuilder {
    let (predict_ctr, predict_cvr) = (predict_ctr::function(&models), predict_cvr::function(&models));
    let predict =
        predict::Predict { models: Arc::clone(&models), predict_ctr: Arc::clone(&predict_ctr), predict_cvr: Arc::clone(&predict_cvr) };
    let relations = Relations::new(
        vec![
            Arc::new(finetune::Finetune(Arc::clone(&models))) as _,
            Arc::new(feature_info::FeatureInfo(Arc::clone(&models))) as _,
            Arc::new(match_answer::MatchAnswer(Arc::clone(&models))) as _,
        ],
        vec![Arc::new(predict) as _, Arc::new(generate_strategy::candidates::Candidates::new(&models)) as _],
    );
    let language = [generate::function(&models), generate_strategy::function(&models), count_tokens::function(&models)];
    let texts = [embed::function(&models), similarity::function(&models), classify::function(&models)];
    builder.scalar_functions().get_or_insert_default().extend([predict_ctr, predict_cvr].into_iter().chain(language).chain(texts));
    builder.aggregate_functions().get_or_insert_default().extend([
        Arc::new(MetricAggregate::<auc::Auc>::function()),
        Arc::new(MetricAggregate::<logloss::LogLoss>::function()),
        Arc::new(MetricAggregate::<ips::Ips>::function()),
    ]);
    builder.scalar_functions().get_or_insert_default().extend(prepare::maps());
    builder.window_functions().get_or_insert_default().extend(prepare::windows());
    let planner: Arc<dyn RelationPlanner> = Arc::new(relations.clone());
    builder.relation_planners().get_or_insert_default().insert(0, planner);
    builder
        .with_analyzer_rule(Arc::new(pin::PinModels(models)))
        .with_analyzer_rule(Arc::new(WholeRelations))
        .with_optimizer_rule(Arc::new(defer::HoistCalls))
        .with_optimizer_rule(Arc::new(defer::CallLate))
        .with_query_planner(Arc::new(relations))
}

#[cfg(test)]
mod tests;
